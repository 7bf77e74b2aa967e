// Commands against a scripted server: frames sent, frames received, faults.

import { getEventListeners } from "node:events";
import { createRequire } from "node:module";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import * as sandwire from "../../index.mjs";
import { raw, rejection, Scripted } from "./scripted.js";

let server: Scripted;

beforeEach(async () => {
  server = await Scripted.start();
});

afterEach(async () => {
  await server[Symbol.asyncDispose]();
});

const out = (data: string, offset = 0) => ({ type: "stdout", data, offset });
const err = (data: string, offset = 0) => ({ type: "stderr", data, offset });
const exit = (exit_code = 0) => ({ type: "exit", exit_code });
const END = (frame: any, socket: { send(data: string): void }) => {
  if (frame.type === "kill") socket.send(JSON.stringify(exit(137)));
};

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
      if (frame.type === "close_stdin") socket.send(JSON.stringify(exit()));
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
    expect(error.stack).toContain("exec.test.ts");
    server.play([exit(0)]);
    const good = await (await server.sandbox()).run("x");
    expect(good.orThrow()).toBe(good);
  });
});

describe("faults", () => {
  it.each([
    ["CommandTimeout", "CommandTimeoutError", { timeout: 4, errorType: "CommandTimeout", operation: "command" }],
    ["CommandError", "SandboxOperationError", { errorType: "CommandError", operation: "command" }],
    ["SomethingNew", "SandboxOperationError", { errorType: "SomethingNew" }],
  ])("the frame %s", async (error_type, name, attributes) => {
    server.play([out("par"), { type: "error", error_type, error: "it says" }]);
    const sandbox = await server.sandbox();
    const error = await rejection(sandbox.run("x", { timeout: 4 }));
    expect(error).toMatchObject({ name, message: expect.stringContaining("it says"), stdout: "par", ...attributes });
    expect(error.stack).toContain("exec.test.ts");
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
    server.play([out("par"), { type: "error", error_type: "CommandTimeout", error: "late" }]);
    const sandbox = await server.sandbox();
    const expected = { outcome: "timed_out", stdout: "par", success: false, exit_code: null };
    expect(await sandbox.run("x", { reject: false })).toMatchObject(expected);
    expect(await sandbox.run("x", { reject: false, onStdout: () => {} })).toMatchObject(expected);
  });

  it("a first frame that is not `started` is an operation error", async () => {
    server.exec = (socket) => socket.send(JSON.stringify(out("a")));
    const error = await rejection((await server.sandbox()).run("x"));
    expect(error).toMatchObject({ name: "SandboxOperationError", operation: "command" });
    expect(error).not.toHaveProperty("outcome");
  });

  it("an error frame before `started` says what the server says", async () => {
    server.exec = (socket) =>
      socket.send(JSON.stringify({ type: "error", error_type: "CommandError", error: "no shell" }));
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
    server.play([{ type: "resized", cols: 3 }, { ...out("a"), more: 1 }, exit()]);
    expect((await (await server.sandbox()).run("x")).stdout).toBe("a");
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

describe("a handle", () => {
  it("streams, and has id, pid and result", async () => {
    server.play([out("a"), err("b"), out("c", 1), exit(5)]);
    const handle = await (await server.sandbox()).run("x", { wait: false });
    expect(handle).toBeInstanceOf(sandwire.CommandHandle);
    expect(handle).toMatchObject({ commandId: server.frames[0].command_id, pid: 7 });
    const chunks = [];
    for await (const chunk of handle) chunks.push(chunk);
    expect(chunks).toEqual([
      { stream: "stdout", data: "a", offset: 0 },
      { stream: "stderr", data: "b", offset: 0 },
      { stream: "stdout", data: "c", offset: 1 },
    ]);
    expect(await handle.result).toMatchObject({ stdout: "ac", stderr: "b", exit_code: 5 });
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([2, 1]);
  });

  it("break, then input, then another loop: nothing is lost", async () => {
    server.play([out("name? ")], (frame, socket) => {
      if (frame.type === "input")
        for (const reply of [out(`hello ${frame.data}`, 6), exit()]) socket.send(JSON.stringify(reply));
    });
    const handle = await (await server.sandbox()).run("x", { wait: false });
    let text = "";
    for await (const { data } of handle) {
      text += data;
      break;
    }
    expect(await handle.sendInput("you\n")).toBe(true);
    for await (const { data } of handle) text += data;
    expect(text).toBe("name? hello you\n");
    expect(await handle.sendInput("late")).toBe(false);
    expect(await handle.kill()).toBe(false);
  });

  it("kill ends it with a non-zero exit code", async () => {
    server.play([out("a")], END);
    const handle = await (await server.sandbox()).run("sleep 99", { wait: false });
    for await (const _ of handle) break;
    expect(await handle.kill()).toBe(true);
    expect(await handle.result).toMatchObject({ exit_code: 137, outcome: "killed", stdout: "a" });
  });

  it("detach leaves the command alone", async () => {
    server.play([out("a")], END);
    const closed = new Promise((resolve) => {
      const play = server.exec;
      server.exec = (socket, ...rest) => {
        socket.on("close", resolve);
        play(socket, ...rest);
      };
    });
    const handle = await (await server.sandbox()).run("sleep 99", { wait: false });
    handle.detach();
    await closed;
    expect(server.frames.map(({ type }) => type)).toEqual(["execute"]);
    expect(await handle.kill()).toBe(false);
    const loop = async () => {
      for await (const _ of handle) expect.unreachable();
    };
    expect((await rejection(loop())).message).toBe("the handle was closed before the command ended");
    expect(await rejection(handle.result)).toBeInstanceOf(sandwire.SandboxClientError);
  });

  it("is closed with its sandbox, also one that is on its way", async () => {
    let begin = () => {};
    const opened = new Promise<unknown>((resolve) => {
      server.exec = (socket, { command_id }) => {
        begin = () => socket.send(JSON.stringify({ type: "started", command_id, pid: 7 }));
        resolve(socket);
      };
    });
    const sandbox = await server.sandbox();
    const starting = sandbox.run("sleep 99", { wait: false });
    await opened;
    sandbox.close();
    begin();
    const handle = await starting;
    expect((await rejection(handle.result)).message).toMatch(/handle was closed/);
    server.play([exit()]);
    expect((await (await sandbox.run("true", { wait: false })).result).success).toBe(true);
  });

  it("reconnect asks for the offsets given", async () => {
    server.play([out("tail", 4), exit()]);
    const handle = await (await server.sandbox()).reconnect("cmd-1", { stdoutOffset: 4, stderrOffset: 2 });
    expect(server.frames[0]).toEqual({ type: "reconnect", command_id: "cmd-1", stdout_offset: 4, stderr_offset: 2 });
    expect((await handle.result).stdout).toBe("tail");
  });

  it("reconnect to an unknown command says so", async () => {
    server.exec = (socket) => socket.send(JSON.stringify({ type: "error", error_type: "CommandNotFound", error: "?" }));
    const error = await rejection((await server.sandbox()).reconnect("cmd-1"));
    expect(error).toMatchObject({
      name: "SandboxOperationError",
      errorType: "CommandNotFound",
      operation: "reconnect",
    });
    expect(error.message).toContain("cmd-1");
  });
});

describe("a handle that comes back", () => {
  const running = async (options: object = {}) => {
    server.play([out("ab"), err("e")], END);
    return (await server.sandbox()).run("sleep 99", { wait: false, ...options });
  };

  it("asks for what was not delivered yet, and the old one is detached", async () => {
    const handle = await running({ maxOutputBytes: 5 });
    const loop = handle[Symbol.asyncIterator]();
    for (let count = 0; count < 2; count += 1) await loop.next();
    server.play([out("cd", 2), exit(3)]);
    const again = await handle.reconnect();
    const { command_id } = server.frames[0];
    const sent = { type: "reconnect", command_id, stdout_offset: 2, stderr_offset: 1 };
    expect(server.frames.at(-1)).toMatchObject(sent);
    expect(await again.result).toMatchObject({ stdout: "cd", stderr: "", exit_code: 3 });
    expect((await rejection(handle.result)).message).toMatch(/handle was closed/);
    expect(await handle.kill()).toBe(false);
    expect(await rejection(loop.next())).toMatchObject({ name: "SandboxClientError" });
  });

  it("asks for everything where nobody read, though all of it has arrived", async () => {
    const handle = await running();
    // Once it is over, all of it is here.
    await vi.waitFor(async () => expect(await handle.kill()).toBe(false));
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([0, 0]);
    server.play([out("ab"), err("e"), exit()]);
    const again = await handle.reconnect();
    expect(server.frames.at(-1)).toMatchObject({ type: "reconnect", stdout_offset: 0, stderr_offset: 0 });
    expect(await again.result).toMatchObject({ stdout: "ab", stderr: "e", gaps: [] });
    expect([again.lastStdoutOffset, again.lastStderrOffset]).toEqual([2, 1]);
  });

  it("calls nothing back twice, though output comes on both connections", async () => {
    const seen: string[] = [];
    const handle = await running({ onStdout: (text: string) => seen.push(text) });
    await vi.waitFor(() => expect(seen).toEqual(["ab"]));
    const old = server.sockets[0];
    server.exec = (socket, { command_id }) => {
      old?.send(JSON.stringify(out("cd", 2)), () => {
        // The pong says that the client has read what came before.
        old.once("pong", () => {
          for (const frame of [{ type: "started", command_id, pid: 7 }, out("cd", 2), exit()])
            socket.send(JSON.stringify(frame));
        });
        old.ping();
      });
    };
    await (
      await handle.reconnect()
    ).result;
    expect(seen).toEqual(["ab", "cd"]);
  });

  it("works on a closed one and on one that has ended", async () => {
    const handle = await running();
    for await (const _ of handle) break;
    handle.close();
    server.play([exit()]);
    const again = await handle.reconnect({ output: "bytes" });
    expect(server.frames.at(-1)).toMatchObject({ type: "reconnect", stdout_offset: 2, stderr_offset: 0 });
    expect(await again.result).toMatchObject({ exit_code: 0, stdout: Buffer.alloc(0) });
    const third = await again.reconnect();
    expect((await third.result).stdout).toBeInstanceOf(Uint8Array);
  });

  it("keeps its callbacks, and says why it can't come back", async () => {
    const seen: string[] = [];
    const handle = await running({ onStdout: (text: string) => seen.push(text) });
    await vi.waitFor(() => expect(seen).toEqual(["ab"]));
    server.play([out("cd", 2), exit()]);
    await (
      await handle.reconnect()
    ).result;
    expect(seen).toEqual(["ab", "cd"]);
    server.exec = (socket) => socket.send(JSON.stringify({ type: "error", error_type: "SessionExpired", error: "?" }));
    expect(await rejection(handle.reconnect())).toMatchObject({ errorType: "SessionExpired", operation: "reconnect" });
  });

  it("by itself after a lost connection: nothing shows but a gap, once", async () => {
    server.exec = (socket, opening) => {
      const send = (...frames: object[]) => frames.forEach((frame) => socket.send(JSON.stringify(frame)));
      send({ type: "started", command_id: opening.command_id, pid: 7 });
      if (opening.type === "reconnect") return send(out("z", 10), exit());
      send(out("ab"));
      setImmediate(() => socket.close(1001));
    };
    const gaps: object[] = [];
    const handle = await (await server.sandbox()).run("x", { wait: false, onGap: (gap) => void gaps.push(gap) });
    const log: unknown[] = [];
    for await (const { data, offset } of handle) log.push(data, offset);
    expect(log).toEqual(["ab", 0, "z", 10]);
    const gap = { stream: "stdout", from: 2, to: 10 };
    expect(gaps).toEqual([gap]);
    expect(await handle.result).toMatchObject({ gaps: [gap], stdout: "abz" });
    expect(gaps).toHaveLength(1);
    expect(server.frames[1]).toMatchObject({ type: "reconnect", stdout_offset: 2 });
  });

  it("run() tells its gaps before it settles", async () => {
    server.play([out("a"), out("z", 10), exit()]);
    const gaps: object[] = [];
    const sandbox = await server.sandbox();
    await sandbox.run("x", { onGap: async (gap) => void gaps.push(gap) });
    expect(gaps).toEqual([{ stream: "stdout", from: 1, to: 10 }]);
    const thrown = new Error("mine");
    const onGap = () => {
      throw thrown;
    };
    expect(await rejection(sandbox.run("x", { onGap }))).toBe(thrown);
    const controller = new AbortController();
    const never = () => {
      setImmediate(() => controller.abort());
      return new Promise<void>(() => {});
    };
    expect((await sandbox.run("x", { onGap: never, signal: controller.signal })).stdout).toBe("az");
  });
});

describe("a server without the extension", () => {
  it("refuses signals, sizes and bytes that are no text, and says what it can't", async () => {
    server.play([], END);
    const handle = await (await server.sandbox()).run("sleep 99", { wait: false, pty: true });
    const calls = [
      [handle.kill("SIGTERM"), /SIGTERM/],
      [handle.resize({ cols: 80, rows: 24 }), /resize/],
      [handle.sendInput(new Uint8Array([255])), /UTF-8/],
    ] as const;
    for (const [call, feature] of calls) {
      const error = await rejection(call);
      expect(error).toBeInstanceOf(sandwire.UnsupportedError);
      expect(error.message).toMatch(feature);
    }
    const input = new Uint8Array([255]);
    expect(await rejection((await server.sandbox()).run("cat", { input }))).toBeInstanceOf(sandwire.UnsupportedError);
    expect(server.frames.map(({ type }) => type)).toEqual(["execute"]);
    expect(await handle.kill()).toBe(true);
    expect((await handle.result).outcome).toBe("killed");
  });
});

describe("a server with the extension", () => {
  beforeEach(() => {
    server.extended = true;
  });

  it("brings bytes as they are, and positions that count them", async () => {
    const frames = [raw("stdout", [97, 255, 0xc3]), raw("stdout", [0xa4, 98], 3), raw("stderr", "e"), exit()];
    server.play(frames);
    const sandbox = await server.sandbox();
    const bytes = await sandbox.run("x", { output: "bytes" });
    expect([...bytes.stdout]).toEqual([97, 255, 0xc3, 0xa4, 98]);
    const handle = await sandbox.run("x", { wait: false });
    let text = "";
    for await (const { stream, data } of handle) if (stream === "stdout") text += data;
    expect(text).toBe("a\uFFFDäb");
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([5, 1]);
    expect(await handle.result).toMatchObject({ stdout: "a\uFFFDäb", stdout_bytes: 5 });
    const streamed = await sandbox.run("x", { wait: false });
    expect([...new Uint8Array(await new Response(streamed.stdout).arrayBuffer())]).toEqual([97, 255, 0xc3, 0xa4, 98]);
  });

  it("gets any bytes on stdin, signals and sizes", async () => {
    const started = { pty: true, stdin_offset: 0 };
    server.exec = (socket, opening) => {
      socket.send(JSON.stringify({ type: "started", command_id: opening.command_id, pid: 7, ...started }));
      socket.on("message", (data: Buffer, binary) => {
        if (binary) socket.send(JSON.stringify({ type: "stdin_ack", offset: data.length - 9 }));
        else END(JSON.parse(String(data)), socket);
      });
    };
    const handle = await (await server.sandbox()).run("sh", { wait: false, pty: true });
    expect(await handle.sendInput(new Uint8Array([255, 0, 10]))).toBe(true);
    expect(await handle.resize({ cols: 100, rows: 30 })).toBe(true);
    expect(await handle.kill("SIGINT")).toBe(true);
    expect(await handle.kill()).toBe(true);
    expect((await handle.result).exit_code).toBe(137);
    await vi.waitFor(() => expect(server.frames).toHaveLength(5));
    expect(server.frames.slice(1)).toEqual([
      { type: "stdin", offset: 0, data: Buffer.from([255, 0, 10]) },
      { type: "resize", cols: 100, rows: 30 },
      { type: "signal", signal: "SIGINT" },
      { type: "kill" },
    ]);
  });

  it("has no size to change where there is no terminal", async () => {
    server.play([], END);
    const handle = await (await server.sandbox()).run("sleep 99", { wait: false });
    const error = await rejection(handle.resize({ cols: 80, rows: 24 }));
    expect(error).toBeInstanceOf(sandwire.ValidationError);
    expect(error.message).toMatch(/pty/);
  });

  it("counts all output: what is missing at the end is a gap, and the signal is told", async () => {
    server.play([raw("stdout", "abc"), { ...exit(143), signal: 15, stdout_bytes: 5, stderr_bytes: 0 }]);
    const gaps: object[] = [];
    const result = await (await server.sandbox()).run("x", { onGap: (gap) => void gaps.push(gap) });
    expect(result).toMatchObject({ exit_code: 143, signal: 15, gaps: [{ stream: "stdout", from: 3, to: 5 }] });
    expect(gaps).toEqual(result.gaps);
  });
});

describe("callbacks", () => {
  it("get the text of their stream; the result is complete", async () => {
    server.play([out("a"), err("b"), out("c", 1), exit()]);
    const seen: string[] = [];
    const result = await (
      await server.sandbox()
    ).run("x", {
      onStdout: (text) => void seen.push(`out ${text}`),
      onStderr: (text) => void seen.push(`err ${text}`),
    });
    expect(seen).toEqual(["out a", "err b", "out c"]);
    expect(result).toMatchObject({ stdout: "ac", stderr: "b", success: true });
  });

  it("of a handle get the output as it comes", async () => {
    server.play([out("a")], (frame, socket) => {
      if (frame.type === "input") for (const reply of [out("b", 1), exit()]) socket.send(JSON.stringify(reply));
    });
    const seen: string[] = [];
    const handle = await (await server.sandbox()).run("x", { wait: false, onStdout: (text) => void seen.push(text) });
    await vi.waitFor(() => expect(seen).toEqual(["a"]));
    await handle.sendInput("more");
    expect(await handle.result).toMatchObject({ stdout: "ab" });
    expect(seen).toEqual(["a", "b"]);
  });

  it("one that throws kills the command and gives its error", async () => {
    server.play([out("a")], END);
    const thrown = new Error("mine");
    const error = await rejection(
      (await server.sandbox()).run("sleep 99", {
        onStdout: () => {
          throw thrown;
        },
      }),
    );
    expect(error).toBe(thrown);
    expect(server.frames.map(({ type }) => type)).toContain("kill");
  });
});

describe("abort", () => {
  const modes: Array<[string, object]> = [
    ["waiting", {}],
    ["with callbacks", { onStdout: () => {} }],
  ];

  it.each(modes)("%s: the remote command is killed, then the reason", async (_, options) => {
    server.play([out("a")], END);
    const sandbox = await server.sandbox();
    const controller = new AbortController();
    const pending = rejection(sandbox.run("sleep 99", { ...options, signal: controller.signal }));
    await vi.waitFor(() => expect(server.frames).toHaveLength(1));
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await pending).toBe(reason);
    await vi.waitFor(() => expect(server.frames.map(({ type }) => type)).toContain("kill"));
  });

  it.each(modes)("%s: with reject: false, the outcome `aborted` and what there was", async (_, options) => {
    server.play([out("a")], END);
    const sandbox = await server.sandbox();
    const controller = new AbortController();
    const pending = sandbox.run("sleep 99", { ...options, signal: controller.signal, reject: false });
    await vi.waitFor(() => expect(server.frames).toHaveLength(1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    controller.abort();
    expect(await pending).toMatchObject({ outcome: "aborted", stdout: "a", success: false });
  });

  it("reaches all commands that share a signal; Node sees one listener and warns of no leak", async () => {
    server.play([out("a")], END);
    const sandbox = await server.sandbox();
    const warned = vi.fn();
    process.on("warning", warned);
    const controller = new AbortController();
    const { signal } = controller;
    const reason = new Error("enough");
    const handles = await Promise.all(Array.from({ length: 20 }, () => sandbox.run("x", { signal, wait: false })));
    handles[0]?.close();
    const results = [...handles.slice(1).map(({ result }) => result), sandbox.run("x", { signal })];
    const told = Promise.all(results.map(rejection));
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    await vi.waitFor(() => expect(server.frames).toHaveLength(21));
    controller.abort(reason);
    expect(new Set(await told)).toEqual(new Set([reason]));
    expect(server.frames.filter(({ type }) => type === "kill")).toHaveLength(20);
    process.off("warning", warned);
    expect(warned).not.toHaveBeenCalled();
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  it("before the start: nothing is sent", async () => {
    const sandbox = await server.sandbox();
    await expect(sandbox.run("x", { signal: AbortSignal.abort() })).rejects.toThrow("aborted");
    expect(server.upgrades).toEqual([]);
  });
});

describe("the policy of reconnecting", () => {
  it("is what the native part does", () => {
    const binding = createRequire(import.meta.url)("../../binding.js");
    const { MAX_AUTO_RECONNECTS, BACKOFF_BASE, BACKOFF_MAX } = sandwire.CommandHandle;
    const native = { attempts: MAX_AUTO_RECONNECTS, backoffBase: BACKOFF_BASE, backoffMax: BACKOFF_MAX };
    expect(binding.reconnectPolicy()).toEqual(native);
    expect([MAX_AUTO_RECONNECTS, BACKOFF_BASE, BACKOFF_MAX]).toEqual([5, 0.5, 8]);
  });
});

describe("files", () => {
  it("write uploads the bytes, read downloads them", async () => {
    server.routes["POST /sandboxes/1/upload"] = () => ({ json: {} });
    server.routes["GET /sandboxes/1/download"] = () => ({ body: Buffer.from([0, 255, 10]) });
    const sandbox = await server.sandbox();
    server.requests.length = 0;
    await sandbox.write("/a b/ü?.bin", new Uint8Array([9, 0, 255, 10]).subarray(1));
    expect([...(await sandbox.read("/a b/ü?.bin", 5))]).toEqual([0, 255, 10]);
    const [upload, download] = server.requests;
    for (const request of [upload, download]) {
      expect(new URL(request?.path ?? "", "http://h").searchParams.get("path")).toBe("/a b/ü?.bin");
      expect(request?.headers["x-api-key"]).toBe("the-key");
    }
    expect(upload?.headers["content-type"]).toMatch(/^multipart\/form-data/);
    expect(upload?.body.includes(Buffer.from([0, 255, 10]))).toBe(true);
    expect(upload?.body.toString("latin1")).toMatch(/name="file"; filename="file"/);
  });

  it.each([
    [404, { detail: { error: "FileNotFound", message: "gone" } }, "ResourceNotFoundError", { resourceType: "file" }],
    [
      500,
      { detail: { error: "ReadError", message: "broken" } },
      "SandboxOperationError",
      { operation: "read", errorType: "ReadError" },
    ],
    [
      403,
      { detail: { error: "PermissionDenied", message: "no" } },
      "SandboxOperationError",
      { errorType: "PermissionDenied" },
    ],
    [400, { detail: { error: "NotReady", message: "wait" } }, "SandboxNotReadyError", {}],
    [503, { detail: { error: "ServiceUnavailable", message: "wait" } }, "SandboxNotReadyError", {}],
  ])("read: %i becomes its class", async (status, json, name, attributes) => {
    server.routes["GET /sandboxes/1/download"] = () => ({ status, json });
    expect(await rejection((await server.sandbox()).read("/a"))).toMatchObject({ name, ...attributes });
  });
});
