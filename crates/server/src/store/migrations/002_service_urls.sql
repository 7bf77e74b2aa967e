-- Ports of sandboxes that have URLs. Times are seconds since 1970.
CREATE TABLE service_urls (
  sandbox       TEXT NOT NULL,
  port          INTEGER NOT NULL,
  created_at    INTEGER NOT NULL,
  -- Of the newest token.
  expires_at    INTEGER NOT NULL,
  -- JSON, a list of texts.
  embed_origins TEXT NOT NULL,
  PRIMARY KEY (sandbox, port)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER service_urls_of_a_deleted_sandbox AFTER DELETE ON sandboxes BEGIN
  DELETE FROM service_urls WHERE sandbox = OLD.id;
END;
