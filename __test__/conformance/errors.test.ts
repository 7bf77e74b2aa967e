// The classes that the official client makes of our status codes and bodies.

import {
  LangSmithCommandTimeoutError,
  LangSmithResourceNotFoundError,
  LangSmithSandboxAuthenticationError,
  LangSmithSandboxOperationError,
  LangSmithValidationError,
  SandboxClient,
} from "langsmith/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { rejection, startOfficial, withSandbox } from "./official.js";

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
      const error = (await rejection(call())) as LangSmithResourceNotFoundError;
      expect(error).toBeInstanceOf(LangSmithResourceNotFoundError);
      expect(error.resourceType).toBe("sandbox");
    }
  });

  test("a bad request is a validation error", async () => {
    const error = await rejection(client.createSandbox({ name: "Not A Valid Name!" }));
    expect(error, error.message).toBeInstanceOf(LangSmithValidationError);
  });

  test("a missing file is not found, as a file", async () => {
    await withSandbox(client, async (sandbox) => {
      const error = (await rejection(sandbox.read("/nowhere/file"))) as LangSmithResourceNotFoundError;
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
      expect(await rejection(outcome)).toBeInstanceOf(LangSmithSandboxOperationError);
    });
  });
});
