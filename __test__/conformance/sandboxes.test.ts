// Sandboxes of the control plane: create, get, list, status, wait, delete.

import { LangSmithSandboxError, SandboxClient } from "langsmith/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { rejection, startOfficial, withSandbox } from "./official.js";

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

  test("a name can be taken only once", async () => {
    await withSandbox(client, async ({ name }) => {
      // The official client has no class of its own for 409 on a create.
      const error = await rejection(client.createSandbox({ name }));
      expect(error).toBeInstanceOf(LangSmithSandboxError);
      expect(error.message).toContain(name);
      expect((await client.listSandboxes()).filter((sandbox) => sandbox.name === name)).toHaveLength(1);
    });
  });
});
