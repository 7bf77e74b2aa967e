// Sandboxes that stop, wake, and outlive their server. Our client has no calls for that yet: plain HTTP has.

import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

import { SandboxClient } from "../../index.mjs";
import { startDaemon } from "../../scripts/daemon.mjs";
import { until, useLocalServer } from "./local.js";

const local = useLocalServer();

interface Config {
  readonly apiEndpoint: string;
  readonly apiKey: string;
}

/** Asks something of a sandbox by name. */
async function ask({ apiEndpoint, apiKey }: Config, name: string, what: string): Promise<number> {
  const init = { method: "POST", headers: { "x-api-key": apiKey } };
  return (await fetch(`${apiEndpoint}/boxes/${name}/${what}`, init)).status;
}

it("a stopped one keeps its files, ends its processes, and wakes on use", async () => {
  await using sandbox = await local.client.sandbox();
  await sandbox.run("echo kept > /home/user/a; mkdir -p /var/lib/x; echo gone > /tmp/b; sleep 1000 >/dev/null 2>&1 &");
  for (let round = 0; round < 3; round++) {
    expect(await ask(local.server, sandbox.name, "stop")).toBe(204);
    expect((await local.client.getSandboxStatus(sandbox.name)).status).toBe("stopped");
    const woken = await sandbox.run("cat a; ls -d /var/lib/x; ls /tmp | wc -l; pgrep -c sleep; echo more >> a");
    expect(woken.stdout).toBe(`kept\n${"more\n".repeat(round)}/var/lib/x\n0\n0\n`);
  }
});

it("many who use a stopped one start it once", async () => {
  await using sandbox = await local.client.sandbox();
  await ask(local.server, sandbox.name, "stop");
  const outputs = await Promise.all(Array.from({ length: 20 }, () => sandbox.run("readlink /proc/self/ns/net")));
  expect(outputs[0]?.stdout).toMatch(/^net:/);
  expect(new Set(outputs.map(({ stdout }) => stdout)).size).toBe(1);
});

it("what is written outlives the server, in peace and by kill -9", async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "sandwire-durable-"));
  let server = await startDaemon(stateDir);
  await new SandboxClient(server.config).createSandbox({ name: "box" });
  for (const signal of ["SIGTERM", "SIGKILL", "SIGTERM"] as const) {
    const box = await new SandboxClient(server.config).getSandbox("box");
    await box.write("file", signal);
    await box.run("echo -n more >> file; sleep 1000 >/dev/null 2>&1 &");
    await server.end(signal);
    server = await startDaemon(stateDir);
    const client = new SandboxClient(server.config);
    expect((await client.getSandboxStatus("box")).status).toBe("stopped");
    const again = await client.getSandbox("box");
    expect((await again.run("cat file; pgrep -c sleep")).stdout).toBe(`${signal}more0\n`);
    client.close();
  }
  await new SandboxClient(server.config).deleteSandbox("box");
  await server.end("SIGTERM");
});

it("a stop under work that takes long is told as one", async () => {
  await using sandbox = await local.client.sandbox();
  // Not fetch: it looks at an answer only once all of the body is sent.
  const put = request(`${sandbox.dataplane_url}/archive?path=x`, {
    method: "PUT",
    headers: { "x-api-key": local.server.apiKey },
  });
  const answered = once(put, "response") as Promise<[IncomingMessage]>;
  put.write(Buffer.alloc(100));
  // The worker is a fork of init.
  await until(async () => (await sandbox.run("pgrep -c ^sandwire")).stdout === "2\n");
  expect(await ask(local.server, sandbox.name, "stop")).toBe(204);
  const [answer] = await answered;
  const body = Buffer.concat(await answer.toArray()).toString();
  expect([answer.statusCode, JSON.parse(body).detail.error]).toEqual([400, "NotReady"]);
  put.destroy();
});
