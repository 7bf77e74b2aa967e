// Links that work without the key: downloads and services.

import type { Sandbox, SandboxClient, ServiceUrl } from "langsmith/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { rejection } from "../rejection.js";
import { resolveLocalNames, startOfficial } from "./official.js";

const text = "zażółć\n";

describe("links", () => {
  let official: Awaited<ReturnType<typeof startOfficial>>;
  let client: SandboxClient;
  let sandbox: Sandbox;
  beforeAll(async () => {
    resolveLocalNames();
    official = await startOfficial();
    client = official.client;
    sandbox = await client.createSandbox();
    await sandbox.write("/srv/site/index.html", text);
    await sandbox.write("/srv/site/below/page.txt", "below");
    const listen = "import socket; socket.create_connection(('127.0.0.1', 8000))";
    await sandbox.run(
      "setsid python3 -m http.server 8000 --bind 127.0.0.1 --directory /srv/site >/tmp/log 2>&1 &" +
        `until python3 -c "${listen}" 2>/dev/null; do sleep 0.05; done`,
      { timeout: 30 },
    );
  });
  afterAll(() => official.close());

  const service = (port: number, expiresInSeconds?: number) =>
    client.serviceUrl(sandbox.name, { port, expiresInSeconds }) as Promise<ServiceUrl>;

  test("a download link needs no key", async () => {
    const link = await sandbox.generateDownloadURL("/srv/site/index.html");
    expect(link.expires_at).toBeNull();
    expect(await (await fetch(link.download_url)).text()).toBe(text);
    const head = await fetch(link.download_url, { method: "HEAD" });
    expect(head.headers.get("content-length")).toBe(String(Buffer.byteLength(text)));
    const part = await fetch(link.download_url, { headers: { Range: "bytes=0-1" } });
    expect([part.status, await part.text()]).toEqual([206, "za"]);
  });

  test("a download link says how the file is shown, and when it ends", async () => {
    const link = await client.generateDownloadURL(sandbox.name, "/srv/site/index.html", {
      contentType: "text/plain; charset=utf-8",
      contentDisposition: "attachment",
      expiresInSeconds: 3600,
    });
    expect(Date.parse(link.expires_at!)).toBeGreaterThan(Date.now());
    const { headers } = await fetch(link.download_url);
    expect(headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(headers.get("content-disposition")).toMatch(/^attachment/);
  });

  test("a changed download link is refused", async () => {
    const { download_url, token } = await sandbox.generateDownloadURL("/srv/site/index.html");
    const middle = token.length >> 1;
    const forged = token.slice(0, middle) + (token[middle] === "A" ? "B" : "A") + token.slice(middle + 1);
    expect((await fetch(download_url)).status).toBe(200);
    expect([401, 403, 404]).toContain((await fetch(download_url.replace(token, forged))).status);
  });

  test("a service answers whoever has its token", async () => {
    const url = await service(8000, 600);
    expect(await (await url.fetch("/")).text()).toBe(text);
    expect(await (await url.fetch("below/page.txt")).text()).toBe("below");
    expect((await url.fetch("/nowhere")).status).toBe(404);
    expect([401, 403]).toContain((await fetch(await url.serviceUrl())).status);
  });

  test("a service URL renews itself", async () => {
    // It has less left than the margin of this client, so each use asks for another.
    expect((await (await service(8000, 5)).fetch("/")).status).toBe(200);
  });

  test("nothing listens", async () => {
    expect((await (await service(9)).fetch("/")).status).toBe(502);
  });

  test("login mode is not in the local server", async () => {
    const error = await rejection(client.serviceUrl(sandbox.name, { port: 8000, access: "workspace" }));
    expect(error.message).toMatch(/login/);
  });
});
