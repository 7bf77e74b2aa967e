// The classes that the official client makes of our status codes and bodies.

import {
  LangSmithCommandTimeoutError,
  LangSmithResourceNameConflictError,
  LangSmithResourceNotFoundError,
  LangSmithResourceTimeoutError,
  LangSmithSandboxAuthenticationError,
  LangSmithSandboxError,
  LangSmithSandboxOperationError,
  LangSmithValidationError,
  SandboxClient,
} from "langsmith/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { rejection } from "../rejection.js";
import { startOfficial, withSandbox } from "./official.js";

describe("error classes", () => {
  let official: Awaited<ReturnType<typeof startOfficial>>;
  let client: SandboxClient;
  beforeAll(async () => {
    official = await startOfficial();
    client = official.client;
  });
  afterAll(() => official.close());

  test("a wrong key is an authentication error", async () => {
    const stranger = new SandboxClient({ apiEndpoint: official.server.apiEndpoint, apiKey: "wrong" });
    expect(await rejection(stranger.listSandboxes())).toBeInstanceOf(LangSmithSandboxAuthenticationError);
    expect(await rejection(stranger.createSandbox())).toBeInstanceOf(LangSmithSandboxAuthenticationError);
  });

  test("the data plane asks for the key too", async () => {
    await withSandbox(client, async ({ name }) => {
      const stranger = new SandboxClient({ apiEndpoint: official.server.apiEndpoint, apiKey: "wrong", maxRetries: 0 });
      const { dataplane_url } = await client.getSandbox(name);
      const response = await fetch(`${dataplane_url}/download?path=/etc/hostname`, {
        headers: { "X-Api-Key": "wrong" },
      });
      expect([401, 403]).toContain(response.status);
      expect(await rejection(stranger.getSandbox(name))).toBeInstanceOf(LangSmithSandboxAuthenticationError);
    });
  });

  test("an unknown sandbox is not found, as a sandbox", async () => {
    for (const call of [
      () => client.getSandbox("nobody"),
      () => client.deleteSandbox("nobody"),
      () => client.getSandboxStatus("nobody"),
    ]) {
      const error = await rejection(call());
      expect(error).toBeInstanceOf(LangSmithResourceNotFoundError);
      expect(error.resourceType).toBe("sandbox");
    }
  });

  test("an unknown sandbox is not found by what changes one", async () => {
    for (const call of [
      () => client.updateSandbox("nobody", "somebody"),
      () => client.startSandbox("nobody"),
      () => client.stopSandbox("nobody"),
    ]) {
      expect(await rejection(call())).toBeInstanceOf(LangSmithResourceNotFoundError);
    }
  });

  test("links of an unknown sandbox are not found", async () => {
    for (const call of [
      () => client.generateDownloadURL("nobody", "/tmp/file"),
      () => client.serviceUrl("nobody", { port: 80 }),
    ]) {
      expect(await rejection(call())).toBeInstanceOf(LangSmithResourceNotFoundError);
    }
  });

  test("a bad request is a validation error that names the field", async () => {
    const error = await rejection(client.createSandbox({ name: "Not A Valid Name!" }));
    expect(error, error.message).toBeInstanceOf(LangSmithValidationError);
    expect(error.field).toBe("name");
  });

  test("what a sandbox can't run with is a validation error", async () => {
    const error = await rejection(client.createSandbox({ runConfig: { work_dir: "relative" } }));
    expect(error, error.message).toBeInstanceOf(LangSmithValidationError);
    expect(error.field).toBe("run_config");
    expect(error.message).toContain("work_dir");
  });

  test("a rename to a taken name is a conflict", async () => {
    await withSandbox(client, (one) =>
      withSandbox(client, async (other) => {
        const error = await rejection(client.updateSandbox(other.name, one.name));
        expect(error).toBeInstanceOf(LangSmithResourceNameConflictError);
        expect(error.resourceType).toBe("sandbox");
      }),
    );
  });

  test("what is stopped is not stopped again, what runs is not started", async () => {
    await withSandbox(client, async ({ name }) => {
      expect(await rejection(client.startSandbox(name))).toBeInstanceOf(LangSmithSandboxError);
      await client.stopSandbox(name);
      expect(await rejection(client.stopSandbox(name))).toBeInstanceOf(LangSmithSandboxError);
      expect((await client.getSandboxStatus(name)).status).toBe("stopped");
    });
  });

  test("waiting for a stopped sandbox ends with its status", async () => {
    await withSandbox(client, async ({ name }) => {
      await client.stopSandbox(name);
      const error = await rejection(client.waitForSandbox(name, { timeout: 0.1, pollInterval: 0.05 }));
      expect(error).toBeInstanceOf(LangSmithResourceTimeoutError);
      expect(error.lastStatus).toBe("stopped");
    });
  });

  test("what is not supported is said in words", async () => {
    for (const call of [
      () => client.listSnapshots(),
      () => client.getSnapshot("python:3.12"),
      () => client.createSandbox({ snapshotName: "python" }),
      () => client.createSandbox({ accessDelegation: { mode: "INHERIT" } }),
    ]) {
      expect((await rejection(call())).message).toMatch(/does not support|not supported/i);
    }
  });

  test("a missing file is not found, as a file", async () => {
    await withSandbox(client, async (sandbox) => {
      const error = await rejection(sandbox.read("/nowhere/file"));
      expect(error).toBeInstanceOf(LangSmithResourceNotFoundError);
      expect(error.resourceType).toBe("file");
    });
  });

  test("a command past its limit is a timeout", async () => {
    await withSandbox(client, async (sandbox) => {
      const error = await rejection(sandbox.run("sleep 60", { timeout: 1 }));
      expect(error).toBeInstanceOf(LangSmithCommandTimeoutError);
    });
  });

  test("reconnecting to a command that never was is refused", async () => {
    await withSandbox(client, async (sandbox) => {
      const outcome = sandbox.reconnect("00000000-0000-7000-8000-000000000000").then((handle) => handle.result);
      const error = await rejection(outcome);
      expect(error).toBeInstanceOf(LangSmithSandboxOperationError);
      expect([error.operation, error.errorType]).toEqual(["reconnect", "CommandNotFound"]);
    });
  });

  test("a command whose session is over says so", async () => {
    await withSandbox(client, async (sandbox) => {
      const handle = await sandbox.run("echo over", { wait: false, ttlSeconds: 0 });
      await handle.result;
      // The end of a session is an event of the server that nothing tells a client of; asking is how it is seen.
      const again = async () => (await sandbox.reconnect(handle.commandId!)).result;
      let error;
      while (!error) error = await again().then(() => undefined, (failure) => failure); // prettier-ignore
      expect(error).toBeInstanceOf(LangSmithSandboxOperationError);
      expect(error.errorType).toBe("SessionExpired");
    });
  });

  test("a directory or a user that is not there is an error of the command", async () => {
    await withSandbox(client, async (sandbox) => {
      for (const options of [{ cwd: "/nowhere" }, { runConfig: { user: "nobody-of-that-name" } }]) {
        const error = await rejection(sandbox.run("true", options));
        expect(error).toBeInstanceOf(LangSmithSandboxOperationError);
        expect(error.operation).toBe("command");
      }
    });
  });

  test("a directory is no file", async () => {
    await withSandbox(client, async (sandbox) => {
      expect((await rejection(sandbox.read("/tmp"))).operation).toBe("read");
      expect((await rejection(sandbox.write("/tmp", "text"))).operation).toBe("write");
    });
  });
});
