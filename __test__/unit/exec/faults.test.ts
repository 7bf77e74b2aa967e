// What goes wrong, and the error that tells it.

import { describe, expect, it } from "vitest";

import * as sandwire from "../../../index.mjs";
import { exit, out, refused, rejection, send, server, useScripted } from "../scripted.js";

useScripted();

describe("faults", () => {
  it.each([
    ["CommandTimeout", "CommandTimeoutError", { timeout: 4, errorType: "CommandTimeout", operation: "command" }],
    ["CommandError", "SandboxOperationError", { errorType: "CommandError", operation: "command" }],
    ["SomethingNew", "SandboxOperationError", { errorType: "SomethingNew" }],
  ])("the frame %s", async (error_type, name, attributes) => {
    server.play([out("par"), refused(error_type, "it says")]);
    const sandbox = await server.sandbox();
    const error = await rejection(sandbox.run("x", { timeout: 4 }));
    expect(error).toMatchObject({ name, message: expect.stringContaining("it says"), stdout: "par", ...attributes });
    expect(error.stack).toContain("faults.test.ts");
    const handle = await sandbox.run("x", { timeout: 4, wait: false });
    const looped = await rejection(
      (async () => {
        for await (const _ of handle);
      })(),
    );
    expect(looped).toMatchObject({ name, ...attributes });
    expect(await rejection(handle.result)).toMatchObject({ name, stdout: "par" });
  });

  it("reject: false tells a timeout as an outcome", async () => {
    server.play([out("par"), refused("CommandTimeout", "late")]);
    const sandbox = await server.sandbox();
    const expected = { outcome: "timed_out", stdout: "par", success: false, exit_code: null };
    expect(await sandbox.run("x", { reject: false })).toMatchObject(expected);
    expect(await sandbox.run("x", { reject: false, onStdout: () => {} })).toMatchObject(expected);
  });

  it("a first frame that is not `started` is an operation error", async () => {
    server.exec = (socket) => send(socket, out("a"));
    const error = await rejection((await server.sandbox()).run("x"));
    expect(error).toMatchObject({ name: "SandboxOperationError", operation: "command" });
    expect(error).not.toHaveProperty("outcome");
  });

  it("an error frame before `started` says what the server says", async () => {
    server.exec = (socket) => send(socket, refused("CommandError", "no shell"));
    expect((await rejection((await server.sandbox()).run("x"))).message).toContain("no shell");
  });

  it.each([
    [401, "SandboxAuthenticationError"],
    [400, "SandboxConnectionError"],
  ])("an upgrade refused with %i is a %s that names the status, and is told to who waits", async (status, name) => {
    server.refusal = status;
    const sandbox = await server.sandbox();
    const error = await rejection(sandbox.run("x"));
    expect(error).toMatchObject({ name, retryable: false });
    expect(error.message).toContain(String(status));
    expect(await rejection(sandbox.run("x", { wait: false }))).toMatchObject({ name });
  });

  it("unknown frames and fields are ignored", async () => {
    server.play([
      { type: "resized", cols: 3 },
      { ...out("a"), more: 1 },
      { ...exit(3), usage: { cpu_seconds: 0.5 } },
    ]);
    expect(await (await server.sandbox()).run("x")).toMatchObject({ stdout: "a", exit_code: 3, outcome: "exited" });
  });

  it("no data plane: by status, before any request", async () => {
    const sandbox = (status: string, status_message?: string) =>
      server.sandbox({ status, status_message, dataplane_url: null });
    const cases: Array<[string, Function]> = [
      ["ready", sandwire.DataplaneNotConfiguredError],
      ["provisioning", sandwire.SandboxNotReadyError],
      ["failed", sandwire.SandboxNotReadyError],
    ];
    for (const [status, Class] of cases) {
      const box = await sandbox(status, "because");
      const calls = [box.run("x"), box.read("/a"), box.write("/a", "b"), box.reconnect("c")];
      for (const error of await Promise.all(calls.map(rejection))) {
        expect(error).toBeInstanceOf(Class);
        if (status !== "ready") expect(error.message).toContain("because");
      }
    }
    expect(server.upgrades).toEqual([]);
    server.play([exit()]);
    expect((await (await server.sandbox({ status: "stopped" })).run("x")).success).toBe(true);
  });
});
