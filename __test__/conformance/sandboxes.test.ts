// Sandboxes of the control plane: create, get, list, status, wait, update, stop, start, delete.

import { LangSmithSandboxError, SandboxClient } from "langsmith/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { rejection } from "../rejection.js";
import { startOfficial, withSandbox } from "./official.js";

describe("sandboxes", () => {
  let official: Awaited<ReturnType<typeof startOfficial>>;
  let client: SandboxClient;
  beforeAll(async () => {
    official = await startOfficial();
    client = official.client;
  });
  afterAll(() => official.close());

  test("a created sandbox is ready and has a data plane", async () => {
    await withSandbox(client, async (sandbox) => {
      expect(sandbox.status).toBe("ready");
      expect(sandbox.name).toMatch(/./);
      expect(sandbox.id).toMatch(/./);
      expect(sandbox.dataplane_url).toMatch(/^http:\/\//);
    });
  });

  test("get, list and status agree with create", async () => {
    const name = `conformance-${process.pid}`;
    const made = await client.createSandbox({ name });
    try {
      expect(made.name).toBe(name);
      const got = await client.getSandbox(name);
      expect([got.id, got.status, got.dataplane_url]).toEqual([made.id, "ready", made.dataplane_url]);
      expect((await client.listSandboxes()).map((sandbox) => sandbox.name)).toContain(name);
      expect((await client.getSandboxStatus(name)).status).toBe("ready");
      expect((await client.waitForSandbox(name)).status).toBe("ready");
    } finally {
      await client.deleteSandbox(name);
    }
    expect((await client.listSandboxes()).map((sandbox) => sandbox.name)).not.toContain(name);
  });

  test("a sandbox that was not waited for becomes ready", async () => {
    const sandbox = await client.createSandbox({ waitForReady: false });
    try {
      expect((await client.waitForSandbox(sandbox.name)).status).toBe("ready");
    } finally {
      await sandbox.delete();
    }
  });

  test("a name is taken once: asking again for the same gives the same, for another is refused", async () => {
    await withSandbox(client, async ({ id, name }) => {
      expect((await client.createSandbox({ name })).id).toBe(id);
      // The official client has no class of its own for 409 on a create.
      const error = await rejection(client.createSandbox({ name, idleTtlSeconds: 120 }));
      expect(error).toBeInstanceOf(LangSmithSandboxError);
      expect(error.message).toContain(name);
      expect((await client.listSandboxes()).filter((sandbox) => sandbox.name === name)).toHaveLength(1);
    });
  });

  test("a sandbox is found by its id too", async () => {
    await withSandbox(client, async ({ id, name }) => {
      expect((await client.getSandbox(id!)).name).toBe(name);
    });
  });

  test("lifetimes have defaults and are kept as asked", async () => {
    await withSandbox(client, async (sandbox) => {
      expect([sandbox.idle_ttl_seconds, sandbox.delete_after_stop_seconds]).toEqual([600, 14 * 24 * 60 * 60]);
    });
    const asked = { idleTtlSeconds: 120, deleteAfterStopSeconds: 0 };
    await withSandbox(
      client,
      async (sandbox) => expect([sandbox.idle_ttl_seconds, sandbox.delete_after_stop_seconds]).toEqual([120, 0]),
      asked,
    );
  });

  test("a rename keeps id and data plane", async () => {
    await withSandbox(client, async (sandbox) => {
      const name = `${sandbox.name}-renamed`;
      const renamed = await client.updateSandbox(sandbox.name, name);
      expect([renamed.name, renamed.id, renamed.dataplane_url]).toEqual([name, sandbox.id, sandbox.dataplane_url]);
      await rejection(client.getSandbox(sandbox.name));
      expect((await sandbox.run("echo here")).stdout).toBe("here\n");
    });
  });

  test("an update changes what it names and nothing else", async () => {
    await withSandbox(client, async ({ name, id, delete_after_stop_seconds }) => {
      const updated = await client.updateSandbox(name, { idleTtlSeconds: 0 });
      expect([updated.idle_ttl_seconds, updated.delete_after_stop_seconds]).toEqual([0, delete_after_stop_seconds]);
      const again = await client.updateSandbox(name, { deleteAfterStopSeconds: 3600 });
      expect([again.idle_ttl_seconds, again.delete_after_stop_seconds]).toEqual([0, 3600]);
      expect((await client.updateSandbox(name, {})).id).toBe(id);
    });
  });

  test("the run configuration of a sandbox is the default of its commands", async () => {
    const runConfig = { work_dir: "/tmp", env_vars: { FIRST: "1", SECOND: "2" } };
    await withSandbox(
      client,
      async (sandbox) => {
        expect(sandbox.run_config).toEqual(runConfig);
        const say = 'echo "$PWD $FIRST $SECOND"';
        expect((await sandbox.run(say)).stdout).toBe("/tmp 1 2\n");
        const changed = await client.updateSandbox(sandbox.name, { runConfig: { env_vars: { SECOND: "two" } } });
        expect(changed.run_config).toEqual({ work_dir: "/tmp", env_vars: { FIRST: "1", SECOND: "two" } });
        expect((await sandbox.run(say)).stdout).toBe("/tmp 1 two\n");
        const one = { work_dir: "/", env_vars: { FIRST: "one" } };
        expect((await sandbox.run(say, { runConfig: one })).stdout).toBe("/ one two\n");
      },
      { runConfig },
    );
  });

  test("a stopped sandbox keeps its files and starts again", async () => {
    await withSandbox(client, async (sandbox) => {
      await sandbox.write("/home/user/kept", "kept");
      await sandbox.stop();
      const stopped = await client.getSandbox(sandbox.name);
      expect([stopped.status, stopped.dataplane_url]).toEqual(["stopped", sandbox.dataplane_url]);
      expect(stopped.stopped_at).toMatch(/Z$/);
      await sandbox.start();
      expect(sandbox.status).toBe("ready");
      expect(new TextDecoder().decode(await sandbox.read("/home/user/kept"))).toBe("kept");
    });
  });

  test("a stopped sandbox resumes once for all who use it", async () => {
    await withSandbox(client, async (sandbox) => {
      await sandbox.write("/home/user/kept", "kept");
      await sandbox.stop();
      const [result, bytes] = await Promise.all([
        sandbox.run("cat /home/user/kept"),
        sandbox.read("/home/user/kept"),
        sandbox.write("/home/user/other", "text"),
        sandbox.stat("/home/user/kept"),
        sandbox.ls("/home/user"),
      ]);
      expect([result.stdout, new TextDecoder().decode(bytes)]).toEqual(["kept", "kept"]);
      expect((await client.getSandboxStatus(sandbox.name)).status).toBe("ready");
    });
  });
});
