-- What must survive the server of a sandbox. Times are milliseconds since 1970.
CREATE TABLE sandboxes (
  id         TEXT PRIMARY KEY,
  -- Null once it is being deleted: its name is free from then on.
  name       TEXT UNIQUE,
  -- live, stopped, failed, deleting. 'live' is provisioning or ready: after the end of its server it is stopped.
  phase      TEXT NOT NULL,
  -- Why it failed.
  failure    TEXT,
  -- JSON, as the engine wrote it.
  settings   TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  stopped_at INTEGER
) STRICT;
