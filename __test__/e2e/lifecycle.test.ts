// Sandboxes come, are found and go; bad input is told apart.

import { describe, expect, it } from "vitest";

import * as sandwire from "../../index.mjs";
import { rejection, useLocalServer } from "./local.js";

const local = useLocalServer();

describe("a sandbox", () => {
  it("is made, found by name, listed, refreshed and deleted", async () => {
    const { client } = local;
    const sandbox = await client.createSandbox({ name: "life-1" });
    expect(sandbox).toMatchObject({ name: "life-1", status: "ready" });
    expect(sandbox.id).toMatch(/^[0-9a-f-]{36}$/);
    expect(sandbox.dataplane_url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/.*[^/]$/);
    expect((await client.getSandbox("life-1")).id).toBe(sandbox.id);
    expect((await client.listSandboxes()).map(({ name }) => name)).toContain("life-1");
    expect(await client.getSandboxStatus("life-1")).toMatchObject({ status: "ready" });
    expect((await client.waitForSandbox("life-1")).status).toBe("ready");
    await sandbox.refresh();
    await sandbox.delete();
    expect(await rejection(client.getSandbox("life-1"))).toBeInstanceOf(sandwire.ResourceNotFoundError);
    expect((await client.listSandboxes()).map(({ name }) => name)).not.toContain("life-1");
  });

  it("gets a name if it has none, and says what it is isolated by", async () => {
    await using sandbox = await local.client.sandbox();
    expect(sandbox.name).not.toBe("");
    expect(sandbox.isolation).toEqual(local.server.isolation);
    for (const namespace of ["user", "mount", "pid", "net", "ipc", "uts"]) {
      expect(sandbox.isolation?.namespaces).toContain(namespace);
    }
    expect(sandbox.isolation).toMatchObject({ seccomp: true, no_new_privs: true });
  });

  it("is usable after a create that did not wait", async () => {
    const sandbox = await local.client.createSandbox({ waitForReady: false });
    const ready = await local.client.waitForSandbox(sandbox.name, { pollInterval: 0.02 });
    expect((await ready.run("echo here")).stdout).toBe("here\n");
    await ready.delete();
  });

  it("is deleted on dispose only if sandbox() made it", async () => {
    const names: string[] = [];
    {
      await using kept = await local.client.createSandbox();
      await using scoped = await local.client.sandbox();
      names.push(kept.name, scoped.name);
    }
    const [kept = "", scoped = ""] = names;
    expect((await local.client.getSandbox(kept)).status).toBe("ready");
    expect(await rejection(local.client.getSandbox(scoped))).toBeInstanceOf(sandwire.ResourceNotFoundError);
    await local.client.deleteSandbox(kept);
  });

  it("has its own files and processes", async () => {
    await using one = await local.client.sandbox();
    await using two = await local.client.sandbox();
    await one.run("echo secret > /tmp/a; echo secret > /var/tmp/b; (sleep 4321 &) ");
    expect((await two.run("cat /tmp/a /var/tmp/b")).success).toBe(false);
    expect((await two.run("grep -lsa '[4]321' /proc/[0-9]*/cmdline")).stdout).toBe("");
  });

  it("ends its commands when it is deleted", async () => {
    const sandbox = await local.client.createSandbox();
    const handle = await sandbox.run("sleep 600", { wait: false, reject: false });
    await sandbox.delete();
    const settled = await handle.result.catch((error: unknown) => error);
    expect(settled).toBeInstanceOf(Object);
    expect((settled as any).success).not.toBe(true);
    expect(await rejection(sandbox.run("true"))).toBeInstanceOf(sandwire.SandboxClientError);
  });

  it("can be made many at a time", async () => {
    const made = await Promise.all(Array.from({ length: 24 }, () => local.client.createSandbox()));
    expect(new Set(made.map(({ name }) => name)).size).toBe(24);
    const answers = await Promise.all(made.map((sandbox, index) => sandbox.run(`echo ${index}`)));
    expect(answers.map(({ stdout }) => stdout.trim())).toEqual(made.map((_, index) => String(index)));
    await Promise.all(made.map((sandbox) => sandbox.delete()));
  });
});

describe("limits", () => {
  it("of memory hold, and an excess kills the command only", async ({ skip }) => {
    if (!local.server.isolation.limits.memory) skip("this machine can't limit memory (see doctor)");
    await using sandbox = await local.client.sandbox({ memBytes: 64 * 1024 * 1024 });
    expect(sandbox.mem_bytes).toBe(64 * 1024 * 1024);
    const greedy = await sandbox.run("python3 -c 'x = bytearray(256 << 20); print(len(x))'");
    expect(greedy).toMatchObject({ success: false, stdout: "" });
    expect((await sandbox.run("echo alive")).stdout).toBe("alive\n");
  });

  it("that the machine can't keep are refused, not ignored", async ({ skip }) => {
    if (local.server.isolation.limits.memory) skip("this machine can limit memory");
    const error = await rejection(local.client.createSandbox({ memBytes: 64 * 1024 * 1024 }));
    expect(error).toBeInstanceOf(sandwire.SandboxClientError);
    expect(error.message).toMatch(/mem_bytes.*can't keep that limit/);
  });

  it("of processes hold: a fork bomb hurts nobody else", async ({ skip }) => {
    if (!local.server.isolation.limits.pids) skip("this machine can't limit processes (see doctor)");
    await using sandbox = await local.client.sandbox();
    const bomb = await sandbox.run("for i in $(seq 20000); do sleep 60 & done 2>/dev/null; echo survived", {
      timeout: 4,
      reject: false,
    });
    expect(bomb.success).toBe(false);
    expect((await local.sandbox.run("echo fine")).stdout).toBe("fine\n");
  });
});

describe("bad input", () => {
  it("a wrong key", async () => {
    const error = await rejection(local.server.client({ apiKey: "sk-hunter2" }).createSandbox());
    expect(error).toBeInstanceOf(sandwire.SandboxAuthenticationError);
    expect(error.message).not.toContain("hunter2");
    expect(await rejection(local.server.client({ apiKey: "" }).listSandboxes())).toBeInstanceOf(
      sandwire.SandboxAuthenticationError,
    );
  });

  it("an unknown sandbox", async () => {
    const { client } = local;
    const calls = [client.getSandbox("no-such"), client.deleteSandbox("no-such"), client.getSandboxStatus("no-such")];
    for (const error of await Promise.all(calls.map(rejection))) {
      expect(error).toBeInstanceOf(sandwire.ResourceNotFoundError);
      expect(error.resourceType).toBe("sandbox");
      expect(error.message).toContain("no-such");
    }
  });

  it("a name that is taken, or can't be one", async () => {
    await using sandbox = await local.client.sandbox({ name: "taken" });
    const error = await rejection(local.client.createSandbox({ name: sandbox.name, deleteAfterStopSeconds: 60 }));
    expect(error).toBeInstanceOf(sandwire.SandboxClientError);
    expect(error.message).toContain("taken");
    for (const name of ["a/b", "..", "a b", "x".repeat(500)]) {
      expect(await rejection(local.client.createSandbox({ name }))).toBeInstanceOf(sandwire.ValidationError);
    }
  });

  it("a snapshot that does not exist", async () => {
    const error = await rejection(local.client.createSandbox({ snapshotName: "no-such" }));
    expect(error).toBeInstanceOf(sandwire.SandboxClientError);
    expect((await local.client.listSandboxes()).length).toBeGreaterThan(0);
  });

  it("a wrong path of the API", async () => {
    const client = local.server.client({ apiEndpoint: `${local.server.apiEndpoint}/nope` });
    const error = await rejection(client.listSandboxes());
    expect(error).toBeInstanceOf(sandwire.SandboxAPIError);
    expect(error.message).toContain("/nope");
  });
});
