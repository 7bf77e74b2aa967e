// The rules of loops, callbacks and results, on a native command that is played step by step.

import { createRequire } from "node:module";
import { describe, expect, it, vi } from "vitest";

import type { CommandHandle } from "../../index.mjs";

const require = createRequire(import.meta.url);
const { CommandHandle: Handle } = require("../../lib/command.js");

const RESULT = {
  exitCode: 0,
  outcome: "exited",
  signal: null,
  durationMs: 5,
  stdout: "all",
  stderr: "",
  stdoutBytes: 3,
  stderrBytes: 0,
  stdoutTruncated: false,
  stderrTruncated: false,
  gaps: "[]",
};

/** Stands for the native command: batches are given by hand. */
class Played {
  commandId = "c1";
  pid = 3;
  lastStdoutOffset = 40;
  lastStderrOffset = 50;
  ready = false;
  /** Whether output that nobody takes is no longer held back. */
  paused = true;
  fetched = 0;
  calls: string[] = [];
  outcome: object | Error = RESULT;
  /** When the command ends. */
  over: Promise<void> = Promise.resolve();
  #batches: Array<any[] | null | Error> = [];
  #waiting: Array<() => void> = [];

  push(...batches: Array<any[] | null | Error>): this {
    this.#batches.push(...batches);
    for (const wake of this.#waiting.splice(0)) wake();
    return this;
  }

  async nextBatch(): Promise<any[] | null> {
    this.fetched += 1;
    this.paused = false;
    while (this.#batches.length === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.paused = false;
    const batch = this.#batches.shift();
    if (batch instanceof Error) throw batch;
    return batch ?? null;
  }

  async result(): Promise<object> {
    this.calls.push("result");
    await this.over;
    if (this.outcome instanceof Error) throw this.outcome;
    return this.outcome;
  }

  async kill(): Promise<boolean> {
    this.calls.push("kill");
    this.push(null);
    return true;
  }

  async sendInput(data: Buffer): Promise<boolean> {
    this.calls.push(`input ${data}`);
    return true;
  }

  async closeInput(): Promise<boolean> {
    this.calls.push("closeInput");
    return true;
  }

  pause(): void {
    this.paused = true;
  }

  detach(): void {
    this.calls.push("detach");
    this.push(null);
  }
}

const PLAN = {
  signal: null,
  onStdout: null,
  onStderr: null,
  callbacks: false,
  raw: false,
  reject: true,
  killOnBreak: false,
};

function handleOf(native: Played, plan: object = {}): CommandHandle {
  return new Handle(native, { ...PLAN, ...plan });
}

async function texts(handle: AsyncIterable<{ data: unknown }>): Promise<unknown[]> {
  const all = [];
  for await (const chunk of handle) all.push(chunk.data);
  return all;
}

/** As the native side rejects; `result` is what a started command had delivered. */
const failure = (code: string, message: string, details: object = {}, result?: object) =>
  Object.assign(new Error(message), { code, retryable: true, details: JSON.stringify(details), result });

describe("a loop", () => {
  it("yields every chunk of every batch as an object", async () => {
    const handle = handleOf(new Played().push([0, "a", 0, 1, "b", 0], [0, "c", 1], null));
    const chunks = [];
    for await (const chunk of handle) chunks.push(chunk);
    expect(chunks).toEqual([
      { stream: "stdout", data: "a", offset: 0 },
      { stream: "stderr", data: "b", offset: 0 },
      { stream: "stdout", data: "c", offset: 1 },
    ]);
  });

  it("pauses on break: the next one goes on without a gap", async () => {
    const native = new Played().push([0, "a", 0, 0, "b", 1, 0, "c", 2], [0, "d", 3], null);
    const handle = handleOf(native);
    for await (const chunk of handle) if (chunk.data === "b") break;
    expect(native.calls).toEqual([]);
    expect(await texts(handle)).toEqual(["c", "d"]);
    expect(await texts(handle)).toEqual([]);
  });

  it("fetches nothing ahead unless it is there already", async () => {
    const native = new Played().push([0, "a", 0]);
    for await (const _ of handleOf(native)) break;
    expect(native.fetched).toBe(1);
    const eager = new Played().push([0, "a", 0], [0, "b", 1]);
    eager.ready = true;
    const handle = handleOf(eager);
    for await (const _ of handle) break;
    expect(eager.fetched).toBe(2);
    eager.ready = false;
    eager.push(null);
    expect(await texts(handle)).toEqual(["b"]);
  });

  it("is refused while another one runs, and allowed after it", async () => {
    const native = new Played().push([0, "a", 0, 0, "b", 1], null);
    const handle = handleOf(native);
    const first = handle[Symbol.asyncIterator]();
    await first.next();
    await expect(texts(handle)).rejects.toThrow(/c1 is being iterated already/);
    expect(await first.next()).toEqual({ value: { stream: "stdout", data: "b", offset: 1 }, done: false });
    await first.return?.();
    expect(await first.next()).toEqual({ value: undefined, done: true });
    expect(await texts(handle)).toEqual([]);
  });

  it("answers calls of next() that do not wait for each other in order", async () => {
    const native = new Played();
    const loop = handleOf(native)[Symbol.asyncIterator]();
    const asked = [loop.next(), loop.next(), loop.next(), loop.next()];
    native.push([0, "a", 0, 0, "b", 1], [0, "c", 2], null);
    const answers = await Promise.all(asked);
    expect(answers.map(({ value, done }) => (done ? "end" : value.data))).toEqual(["a", "b", "c", "end"]);
  });

  it("tells the stream's error and ends", async () => {
    const native = new Played().push([0, "a", 0], failure("CONNECTION_FAILED", "cut"), null);
    const handle = handleOf(native);
    const seen: unknown[] = [];
    const error = await (async () => {
      for await (const chunk of handle) seen.push(chunk.data);
    })().catch((reason: unknown) => reason);
    expect(seen).toEqual(["a"]);
    expect(error).toMatchObject({ name: "SandboxConnectionError", code: "CONNECTION_FAILED" });
    expect((error as Error).stack).toContain("handle.test.ts");
    expect(await texts(handle)).toEqual([]);
  });

  it("detaches on break if the command is to die with its last client", async () => {
    const native = new Played().push([0, "a", 0], [0, "b", 1]);
    for await (const _ of handleOf(native, { killOnBreak: true })) break;
    expect(native.calls).toEqual(["detach"]);
    const ended = new Played().push([0, "a", 0], null);
    expect(await texts(handleOf(ended, { killOnBreak: true }))).toEqual(["a"]);
    expect(ended.calls).toEqual([]);
  });

  it("knows the offsets of what was delivered, in bytes", async () => {
    const native = new Played().push([0, "ä", 10, 0, "b", 12, 1, "e", 4], null);
    const handle = handleOf(native);
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([40, 50]);
    for await (const _ of handle) break;
    expect(handle.lastStdoutOffset).toBe(12);
    await texts(handle);
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([13, 5]);
  });
});

describe("result", () => {
  it("leaves a loop that starts in the same turn all output", async () => {
    const native = new Played().push([0, "a", 0], [0, "b", 1]);
    const handle = handleOf(native);
    const result = handle.result;
    const loop = texts(handle);
    await new Promise((resolve) => setImmediate(resolve));
    expect(native.paused).toBe(false);
    native.push(null);
    expect(await loop).toEqual(["a", "b"]);
    expect(await result).toMatchObject({ stdout: "all", exit_code: 0, success: true });
    expect(handle.result).toBe(result);
    expect(native.calls).toEqual(["result"]);
  });

  it("asked for first, is not asked natively before the loop has taken hold of the output", async () => {
    const native = new Played().push([0, "a", 0, 0, "b", 1], [0, "c", 2], null);
    const handle = handleOf(native);
    for await (const _ of handle) break;
    expect(native.paused).toBe(true);
    const seen: unknown[] = [];
    native.result = async () => {
      seen.push(native.paused);
      return RESULT;
    };
    const result = handle.result;
    for await (const { data } of handle) seen.push(data, await result.then(({ stdout }) => stdout));
    expect(seen.filter((item) => item === false)).toEqual([false]);
    expect(seen.filter((item) => item !== false)).toEqual(["b", "all", "c", "all"]);
  });

  it("is not held up by what was fetched ahead for a loop that then left", async () => {
    const native = new Played().push([0, "a", 0]);
    const handle = handleOf(native);
    for await (const _ of handle) {
      void handle.result;
      await new Promise((resolve) => setImmediate(resolve));
      expect([native.fetched, native.paused]).toEqual([2, false]);
      break;
    }
    expect(native.paused).toBe(true);
    native.push([0, "b", 1]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(native.paused).toBe(true);
    native.push(null);
    expect(await texts(handle)).toEqual(["b"]);
  });

  it("can be awaited inside the loop", async () => {
    const handle = handleOf(new Played().push([0, "a", 0], [0, "b", 1], null));
    const seen: unknown[] = [];
    for await (const { data } of handle) seen.push(data, (await handle.result).exit_code);
    expect(seen).toEqual(["a", 0, "b", 0]);
  });

  it("can be awaited inside the loop after kill(), and holds no output back then", async () => {
    const native = new Played().push([0, "a", 0]);
    native.outcome = { ...RESULT, outcome: "killed", exitCode: 137 };
    const handle = handleOf(native);
    const seen: unknown[] = [];
    for await (const { data } of handle) {
      await handle.kill();
      expect(native.paused).toBe(true);
      seen.push(data, (await handle.result).exit_code);
      expect(native.paused).toBe(true);
    }
    expect(seen).toEqual(["a", 137]);
  });

  it("carries what was delivered on its error, and never ends the program unasked", async () => {
    const unhandled = vi.fn();
    process.on("unhandledRejection", unhandled);
    const native = new Played();
    const partial = { ...RESULT, outcome: "timed_out", stdout: "par", exitCode: null };
    native.outcome = failure("COMMAND_TIMEOUT", "late", { timeout: 2 }, partial);
    const handle = handleOf(native);
    void handle.result;
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.off("unhandledRejection", unhandled);
    expect(unhandled).not.toHaveBeenCalled();
    const error: any = await handle.result.catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      name: "CommandTimeoutError",
      timeout: 2,
      outcome: "timed_out",
      stdout: "par",
      exit_code: null,
    });
    expect(error.stack).toContain("handle.test.ts");
    expect(Object.keys(error)).not.toContain("stdout");
  });

  it("is a result with reject: false, where the command had started", async () => {
    const native = new Played();
    native.outcome = failure(
      "CONNECTION_FAILED",
      "cut",
      {},
      { ...RESULT, outcome: "lost", stdout: "par", exitCode: null },
    );
    const result = await handleOf(native, { reject: false }).result;
    expect(result).toMatchObject({ outcome: "lost", stdout: "par", stdout_bytes: 3, exit_code: null, success: false });
    expect(() => result.orThrow()).toThrow("The command was lost");
    native.outcome = failure("CONNECTION_FAILED", "never reached");
    await expect(handleOf(native, { reject: false }).result).rejects.toThrow("never reached");
  });

  it("has everything enumerable, so that it can be copied, compared and logged", async () => {
    const { stdout, ...rest } = { ...(await handleOf(new Played()).result) };
    expect(stdout).toBe("all");
    expect(Object.keys(rest)).toContain("stderr");
    expect(JSON.parse(JSON.stringify(await handleOf(new Played()).result))).toMatchObject({ stdout: "all", gaps: [] });
  });
});

describe("callbacks", () => {
  it("get all output in order, and a promise holds the next piece back", async () => {
    const log: string[] = [];
    const native = new Played().push([0, "a", 0, 1, "e", 0, 0, "b", 1], null);
    const onStdout = async (text: string) => {
      log.push(`out ${text}`);
      await new Promise((resolve) => setImmediate(resolve));
      log.push(`after ${text}`);
    };
    await handleOf(native, { callbacks: true, onStdout, onStderr: (text: string) => log.push(`err ${text}`) }).result;
    expect(log).toEqual(["out a", "after a", "err e", "out b", "after b"]);
  });

  it("end the command when one throws: the call rejects with what was thrown", async () => {
    const native = new Played().push([0, "a", 0], [0, "b", 1]);
    const thrown = new RangeError("mine");
    const onStdout = () => {
      throw thrown;
    };
    await expect(handleOf(native, { callbacks: true, onStdout }).result).rejects.toBe(thrown);
    expect(native.calls).toContain("kill");
  });

  it("that never settle do not hold an abort up", async () => {
    const native = new Played().push([0, "a", 0], [0, "b", 1]);
    native.outcome = { ...RESULT, outcome: "killed", exitCode: 137 };
    const controller = new AbortController();
    const reason = new Error("enough");
    const seen: string[] = [];
    const onStdout = (text: string) => {
      seen.push(text);
      return new Promise(() => {});
    };
    const { result } = handleOf(native, { callbacks: true, onStdout, signal: controller.signal });
    await vi.waitFor(() => expect(seen).toEqual(["a"]));
    controller.abort(reason);
    await expect(result).rejects.toBe(reason);
    expect(seen).toEqual(["a"]);
  });

  it("that reject after an abort end nothing else", async () => {
    const unhandled = vi.fn();
    process.on("unhandledRejection", unhandled);
    const native = new Played().push([0, "a", 0]);
    const controller = new AbortController();
    let fail = (_: unknown) => {};
    const onStdout = () => new Promise((_, reject) => (fail = reject));
    const plan = { callbacks: true, onStdout, signal: controller.signal, reject: false };
    const { result } = handleOf(native, plan);
    await vi.waitFor(() => expect(native.fetched).toBe(1));
    await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    expect(await result).toMatchObject({ outcome: "aborted" });
    fail(new Error("late"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.off("unhandledRejection", unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });

  it("repeat the stream's own error with the partial result", async () => {
    const native = new Played().push([0, "a", 0], failure("CONNECTION_FAILED", "cut"), null);
    native.outcome = failure("CONNECTION_FAILED", "cut", {}, { ...RESULT, outcome: "lost", stdout: "a" });
    const error: any = await handleOf(native, { callbacks: true }).result.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ message: "cut", outcome: "lost", stdout: "a" });
  });
});

describe("a signal", () => {
  it("kills the command, and then loop and result reject with its reason", async () => {
    const native = new Played().push([0, "a", 0]);
    native.outcome = { ...RESULT, outcome: "killed", exitCode: 137 };
    const controller = new AbortController();
    const handle = handleOf(native, { signal: controller.signal });
    const reason = new Error("enough");
    const error = await (async () => {
      for await (const _ of handle) controller.abort(reason);
    })().catch((thrown: unknown) => thrown);
    expect(error).toBe(reason);
    expect(native.calls).toContain("kill");
    await expect(handle.result).rejects.toBe(reason);
  });

  it("gives the outcome `aborted` with reject: false", async () => {
    const native = new Played();
    native.outcome = { ...RESULT, outcome: "killed", exitCode: 137 };
    const controller = new AbortController();
    const handle = handleOf(native, { signal: controller.signal, reject: false });
    controller.abort();
    expect(await handle.result).toMatchObject({ outcome: "aborted", exit_code: 137, stdout: "all" });
  });

  it("that comes after the end changes nothing", async () => {
    for (const reject of [true, false]) {
      const native = new Played();
      native.kill = async () => false;
      const controller = new AbortController();
      const handle = handleOf(native, { signal: controller.signal, reject });
      controller.abort();
      expect(await handle.result).toMatchObject({ outcome: "exited", exit_code: 0 });
    }
  });

  it("is left without listeners when the command is over or the handle closed", async () => {
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    await handleOf(new Played(), { signal }).result;
    handleOf(new Played(), { signal }).close();
    expect(added).toHaveBeenCalledTimes(2);
    expect(removed).toHaveBeenCalledTimes(2);
  });
});

describe("control", () => {
  it("passes input on, and is a no-op on a closed handle", async () => {
    const native = new Played();
    const handle = handleOf(native);
    expect(await handle.sendInput("hä")).toBe(true);
    expect(await handle.sendInput(new Uint8Array([104, 105]).subarray(1))).toBe(true);
    expect(await handle.closeInput()).toBe(true);
    handle.close();
    handle.close();
    expect(await Promise.all([handle.kill(), handle.sendInput("x"), handle.closeInput()])).toEqual([
      false,
      false,
      false,
    ]);
    expect(native.calls).toEqual(["input hä", "input i", "closeInput", "detach"]);
    expect(() => handle.sendInput(5 as never)).toThrow(/`data` must be a string or a Uint8Array, but is a number/);
  });

  it("sends no signal but SIGKILL, and says which one it can't", async () => {
    const native = new Played();
    const handle = handleOf(native);
    for (const signal of ["SIGTERM", 15, null, ""]) {
      const thrown = expect.objectContaining({ name: "UnsupportedError", code: "UNSUPPORTED" });
      expect(() => handle.kill(signal as never)).toThrow(thrown);
    }
    expect(() => handle.kill("SIGTERM" as never)).toThrow(/only "SIGKILL" can be sent, not "SIGTERM"/);
    expect(native.calls).toEqual([]);
    expect(await handle.kill("SIGKILL")).toBe(true);
    expect(await handle.kill(undefined)).toBe(true);
  });

  it("that closes fails a loop that waits and every later one; one that had everything is fine", async () => {
    const handle = handleOf(new Played().push([0, "a", 0]));
    const loop = handle[Symbol.asyncIterator]();
    await loop.next();
    const pending = loop.next();
    handle.close();
    const message = "the handle was closed before the command ended";
    await expect(pending).rejects.toThrow(message);
    await expect(texts(handle)).rejects.toThrow(message);
    await expect(texts(handle)).rejects.toMatchObject({ name: "SandboxClientError", code: "CLIENT_ERROR" });
    const whole = handleOf(new Played().push([0, "a", 0], null));
    expect(await texts(whole)).toEqual(["a"]);
    whole.close();
    expect(await texts(whole)).toEqual([]);
  });

  it("that fails un-awaited never becomes an unhandled rejection", async () => {
    const unhandled = vi.fn();
    process.on("unhandledRejection", unhandled);
    const native = new Played();
    native.kill = () => Promise.reject(failure("CONNECTION_FAILED", "cut"));
    void handleOf(native).kill();
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.off("unhandledRejection", unhandled);
    expect(unhandled).not.toHaveBeenCalled();
    await expect(handleOf(native).kill()).rejects.toMatchObject({ name: "SandboxConnectionError" });
  });

  it("ends with `await using`", async () => {
    const native = new Played().push([0, "a", 0]);
    {
      await using handle = handleOf(native);
      expect(String(handle)).toBe('[CommandHandle commandId="c1"]');
    }
    expect(native.calls).toEqual(["detach"]);
  });
});
