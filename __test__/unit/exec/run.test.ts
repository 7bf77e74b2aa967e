// A command that is waited for: the frames that are sent, and the result that is made of the answers.

import { describe, expect, it } from "vitest";

import * as sandwire from "../../../index.mjs";
import { err, exit, out, send, server, useScripted } from "../scripted.js";

useScripted();

describe("run and wait", () => {
  it("gives the whole result in one piece", async () => {
    server.play([out("a"), err("x"), out("b", 1), exit(3)]);
    const result = await (await server.sandbox()).run("make");
    expect(result).toBeInstanceOf(sandwire.ExecutionResult);
    expect(result).toMatchObject({
      stdout: "ab",
      stderr: "x",
      exit_code: 3,
      success: false,
      outcome: "exited",
      stdout_bytes: 2,
      stderr_bytes: 1,
      stdout_truncated: false,
      stderr_truncated: false,
      gaps: [],
    });
    expect(result.duration_ms).toBeGreaterThanOrEqual(0);
  });

  it("sends the command with its options, and the defaults", async () => {
    server.play([exit()]);
    const sandbox = await server.sandbox();
    await sandbox.run("ls", {
      timeout: 5,
      env: { A: "1" },
      cwd: "/x",
      shell: "/bin/sh",
      idleTimeout: -1,
      killOnDisconnect: true,
      ttlSeconds: 60,
      pty: true,
      commandId: "mine",
      headers: { "X-Call": "1" },
    });
    expect(server.frames[0]).toMatchObject({
      type: "execute",
      command: "ls",
      timeout_seconds: 5,
      env: { A: "1" },
      cwd: "/x",
      shell: "/bin/sh",
      idle_timeout_seconds: -1,
      kill_on_disconnect: true,
      ttl_seconds: 60,
      pty: true,
      command_id: "mine",
    });
    expect(server.frames[0]).not.toHaveProperty("close_stdin");
    expect(server.upgrades[0]?.headers).toMatchObject({ "x-api-key": "the-key", "x-call": "1" });
    server.frames.length = 0;
    await sandbox.run("ls", { runConfig: { user: "1000", work_dir: "/y", env_vars: { B: "2" } } });
    expect(server.frames[0]).toMatchObject({
      type: "execute",
      command: "ls",
      timeout_seconds: 60,
      close_stdin: true,
      run_config: { user: "1000", work_dir: "/y", env_vars: { B: "2" } },
    });
    expect(server.frames[0].command_id).toMatch(/^[\w-]{16,}$/);
  });

  it("stdin: closed for who waits, open for a handle, and as told", async () => {
    server.play([exit()]);
    const sandbox = await server.sandbox();
    const opening = async (options: object) => {
      server.frames.length = 0;
      const done: any = await sandbox.run("cat", options as never);
      if (done.commandId) await done.result;
      return server.frames[0].close_stdin === true;
    };
    expect(await opening({})).toBe(true);
    expect(await opening({ onStdout: () => {} })).toBe(true);
    expect(await opening({ closeInput: false })).toBe(false);
    expect(await opening({ wait: false })).toBe(false);
    expect(await opening({ wait: false, onStdout: () => {} })).toBe(false);
    expect(await opening({ wait: false, closeInput: true })).toBe(true);
    expect(await opening({ pty: true, closeInput: true })).toBe(false);
  });

  it("input goes first, then the end of input", async () => {
    server.play([], (frame, socket) => {
      if (frame.type === "close_stdin") send(socket, exit());
    });
    await (await server.sandbox()).run("cat", { input: "hellö" });
    expect(server.frames.slice(1)).toEqual([{ type: "input", data: "hellö" }, { type: "close_stdin" }]);
  });

  it("keeps head and tail beyond maxOutputBytes, and says so", async () => {
    server.play([out("a".repeat(600)), out("b".repeat(600), 600), exit()]);
    const result = await (await server.sandbox()).run("yes", { maxOutputBytes: 100 });
    expect(result).toMatchObject({ stdout_bytes: 1200, stdout_truncated: true, stderr_truncated: false });
    expect(result.stdout.startsWith("a".repeat(50))).toBe(true);
    expect(result.stdout.endsWith("b".repeat(50))).toBe(true);
    expect(result.stdout.length).toBeLessThan(300);
  });

  it("output: bytes gives bytes everywhere", async () => {
    server.play([out("ä"), exit()]);
    const sandbox = await server.sandbox();
    const result = await sandbox.run("x", { output: "bytes" });
    expect(result.stdout).toBeInstanceOf(Uint8Array);
    expect([...result.stdout]).toEqual([0xc3, 0xa4]);
    const handle = await sandbox.run("x", { output: "bytes", wait: false });
    for await (const { data } of handle) expect([...data]).toEqual([0xc3, 0xa4]);
  });

  it("a gap in the offsets is recorded", async () => {
    server.play([out("a"), out("z", 10), exit()]);
    const result = await (await server.sandbox()).run("x");
    expect(result.gaps).toEqual([{ stream: "stdout", from: 1, to: 10 }]);
  });

  it("a non-zero exit is an error by orThrow() only", async () => {
    server.play([err("first\nlast words\n"), exit(2)]);
    const result = await (await server.sandbox()).run("x");
    const error: any = (() => {
      try {
        return result.orThrow();
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(sandwire.SandboxOperationError);
    expect(error).toMatchObject({
      message: "The command exited with code 2: last words",
      exit_code: 2,
      operation: "command",
    });
    expect(error.stderr).toContain("first");
    expect(error.stack).toContain("run.test.ts");
    server.play([exit(0)]);
    const good = await (await server.sandbox()).run("x");
    expect(good.orThrow()).toBe(good);
  });
});
