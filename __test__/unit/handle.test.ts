// The rules of loops, callbacks and results, on a native command that is played step by step.

import { getEventListeners } from "node:events";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it, vi } from "vitest";

import { SandboxOperationError } from "../../index.mjs";
import { failure, handleOf, Played, RESULT, texts } from "./played.js";

const turn = () => new Promise((resolve) => setImmediate(resolve));
const never = () => new Promise<void>(() => {});

/** Collects garbage until it is so; the test's own limit ends it if it never is. */
async function collect(until: () => boolean) {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc");
  // A look at a WeakRef keeps its target for the turn, so the collection comes first.
  do {
    await new Promise((resolve) => setTimeout(resolve, 5));
    gc();
  } while (!until());
}

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

  it("that is left while it waits takes nothing: the next one gets it all, however many wait", async () => {
    const native = new Played();
    const handle = handleOf(native);
    const left = [];
    for (let count = 0; count < 2; count += 1) {
      const loop = handle[Symbol.asyncIterator]();
      left.push(loop.next(), loop.next());
      await turn();
      await loop.return?.();
    }
    const all = texts(handle);
    await turn();
    native.push([0, "a", 0, 0, "b", 1, 0, "c", 2], [0, "d", 3], null);
    expect(await all).toEqual(["a", "b", "c", "d"]);
    expect(await Promise.all(left)).toEqual(left.map(() => ({ value: undefined, done: true })));
    expect(native.fetched).toBe(3);
  });

  it("that is left while it waits holds nothing back, and what came is the next one's", async () => {
    const native = new Played();
    const handle = handleOf(native);
    const loop = handle[Symbol.asyncIterator]();
    const pending = loop.next();
    await turn();
    await loop.return?.();
    native.push([0, "a", 0, 0, "b", 1]);
    expect(await pending).toEqual({ value: undefined, done: true });
    expect([native.paused, handle.lastStdoutOffset]).toEqual([true, 0]);
    native.push(null);
    expect(await texts(handle)).toEqual(["a", "b"]);
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
    // Not a quiet end, which would look like a success.
    await expect(texts(handle)).rejects.toBe(error);
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

  it("counts what a byte is that is no text, and bytes that the caller changes afterwards", async () => {
    // Two bytes became two times U+FFFD: six bytes, a surplus of four.
    const native = new Played().push([8, "\uFFFD\uFFFD", 10], [0, "a", 12], null);
    const handle = handleOf(native);
    for await (const _ of handle) break;
    expect(handle.lastStdoutOffset).toBe(12);
    await texts(handle);
    expect(handle.lastStdoutOffset).toBe(13);
    const raw = handleOf(new Played().push([1, Buffer.from([255, 254]), 7], null), { raw: true });
    for await (const chunk of raw) (chunk as any).data = "changed";
    expect([raw.lastStdoutOffset, raw.lastStderrOffset]).toEqual([0, 9]);
  });

  it("does not count what was fetched for it and not taken", async () => {
    const native = new Played().push([1, "e", 0, 0, "out", 5], [0, "more", 8]);
    native.ready = true;
    const handle = handleOf(native, { from: [5, 0] });
    for await (const _ of handle) break;
    expect(native.fetched).toBe(2);
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([5, 1]);
  });
});

describe("gaps", () => {
  const gap = (from: number, to: number, stream = "stdout") => ({ stream, from, to });
  const withGaps = (...gaps: object[]) => ({ ...RESULT, gaps: JSON.stringify(gaps) });

  it("are told in a loop, where they are, once; a returned promise holds the loop back", async () => {
    const log: unknown[] = [];
    const onGap = async (gap: object) => {
      log.push(gap);
      await turn();
      log.push("told");
    };
    const native = new Played().push([0, "a", 0, -1, 9, 1, 0, "b", 9, -2, 4, 0], [1, "e", 4], null);
    native.outcome = withGaps(gap(1, 9), gap(0, 4, "stderr"));
    const handle = handleOf(native, { onGap });
    for await (const { data, offset } of handle) log.push(`${data}${offset}`);
    expect(log).toEqual(["a0", gap(1, 9), "told", "b9", gap(0, 4, "stderr"), "told", "e4"]);
    expect((await handle.result).gaps).toEqual([gap(1, 9), gap(0, 4, "stderr")]);
    expect(log).toHaveLength(7);
  });

  it("without onGap show in the offsets and the result only, and count as delivered", async () => {
    const handle = handleOf(new Played().push([0, "a", 0, -1, 9, 1], [-2, 4, 0, 0, "b", 9], null));
    const loop = handle[Symbol.asyncIterator]();
    await loop.next();
    expect((await loop.next()).value).toEqual({ stream: "stdout", data: "b", offset: 9 });
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([10, 4]);
  });

  it("are told between the callbacks", async () => {
    const log: unknown[] = [];
    const native = new Played().push([0, "a", 0, -1, 9, 1, 0, "b", 9], null);
    native.outcome = withGaps(gap(1, 9));
    const plan = { callbacks: true, onStdout: (text: string) => log.push(text), onGap: (gap: object) => log.push(gap) };
    await handleOf(native, plan).result;
    expect(log).toEqual(["a", gap(1, 9), "b"]);
  });

  it("that no loop came across are told before the result settles, also that of a failure", async () => {
    const told: object[] = [];
    const native = new Played().push([0, "a", 0, -1, 9, 1, 0, "b", 9], null);
    native.outcome = withGaps(gap(1, 9), gap(20, 30));
    const handle = handleOf(native, { onGap: (gap: object) => void told.push(gap) });
    for await (const _ of handle) break;
    await handle.result;
    expect(told).toEqual([gap(1, 9), gap(20, 30)]);
    expect(await texts(handle)).toEqual(["b"]);
    expect(told).toHaveLength(2);
    const lost = new Played();
    lost.outcome = failure("CONNECTION_FAILED", "cut", {}, { ...withGaps(gap(3, 4)), outcome: "lost" });
    await expect(handleOf(lost, { onGap: (gap: object) => void told.push(gap) }).result).rejects.toThrow("cut");
    expect(told.at(-1)).toEqual(gap(3, 4));
  });

  it("are left to a loop that runs", async () => {
    const log: unknown[] = [];
    const native = new Played().push([0, "a", 0, 0, "b", 1, -1, 9, 2, 0, "c", 9], null);
    native.outcome = withGaps(gap(2, 9));
    const handle = handleOf(native, { onGap: () => log.push("gap") });
    for await (const { data } of handle) {
      log.push(data);
      await handle.result;
    }
    expect(log).toEqual(["a", "b", "gap", "c"]);
  });

  it("that follow each other are one", async () => {
    const told: object[] = [];
    const native = new Played().push([-1, 5, 1, -1, 9, 5, -2, 3, 0, -1, 12, 10, 0, "b", 12], null);
    const handle = handleOf(native, { onGap: (gap: object) => void told.push(gap) });
    expect(await texts(handle)).toEqual(["b"]);
    expect(told).toEqual([gap(1, 9), gap(0, 3, "stderr"), gap(10, 12)]);
    expect(handle.lastStdoutOffset).toBe(13);
  });

  it("are told once, though the result has apart what a loop found in one", async () => {
    const told: object[] = [];
    const native = new Played().push([0, "a", 0, -1, 5, 1, -1, 9, 5, 0, "b", 9], null);
    native.outcome = withGaps(gap(1, 5), gap(5, 9), gap(5, 9, "stderr"));
    const handle = handleOf(native, { onGap: (gap: object) => void told.push(gap) });
    await texts(handle);
    await handle.result;
    expect(told).toEqual([gap(1, 9), gap(5, 9, "stderr")]);
    const late = new Played().push([-1, 5, 1, -1, 9, 5, 0, "b", 9], null);
    late.outcome = native.outcome;
    const first = handleOf(late, { onGap: (gap: object) => void told.push(gap) });
    await first.result;
    expect(await texts(first)).toEqual(["b"]);
    expect(told.slice(2)).toEqual([gap(1, 5), gap(5, 9), gap(5, 9, "stderr")]);
  });

  it("told at the end do not hold an abort up; the end stands", async () => {
    const native = new Played();
    native.outcome = withGaps(gap(1, 9));
    const controller = new AbortController();
    const removed = vi.spyOn(controller.signal, "removeEventListener");
    const onGap = () => {
      setImmediate(() => controller.abort());
      return new Promise(() => {});
    };
    expect(await handleOf(native, { onGap, signal: controller.signal }).result).toMatchObject({ outcome: "exited" });
    expect(removed).toHaveBeenCalledTimes(1);
  });

  it("whose callback throws end the command: loop and result fail with what was thrown", async () => {
    const thrown = new RangeError("mine");
    const onGap = () => {
      throw thrown;
    };
    const native = new Played().push([0, "a", 0, -1, 9, 1, 0, "b", 9], null);
    const handle = handleOf(native, { onGap });
    await expect(texts(handle)).rejects.toBe(thrown);
    expect(native.calls).toContain("kill");
    await expect(handle.result).rejects.toBe(thrown);
    const late = new Played();
    late.outcome = withGaps(gap(1, 9));
    await expect(handleOf(late, { onGap, reject: false }).result).rejects.toBe(thrown);
  });

  it("whose callback never settles do not hold an abort up", async () => {
    const native = new Played().push([-1, 9, 0, 0, "b", 9]);
    native.outcome = { ...RESULT, outcome: "killed", exitCode: 137 };
    const controller = new AbortController();
    const reason = new Error("enough");
    const onGap = () => {
      setImmediate(() => controller.abort(reason));
      return new Promise(() => {});
    };
    const handle = handleOf(native, { onGap, signal: controller.signal });
    await expect(texts(handle)).rejects.toBe(reason);
    await expect(handle.result).rejects.toBe(reason);
  });
});

describe("result", () => {
  it("leaves a loop that starts in the same turn all output", async () => {
    const native = new Played().push([0, "a", 0], [0, "b", 1]);
    const handle = handleOf(native);
    const result = handle.result;
    const loop = texts(handle);
    await turn();
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
      await turn();
      expect([native.fetched, native.paused]).toEqual([2, false]);
      break;
    }
    expect(native.paused).toBe(true);
    native.push([0, "b", 1]);
    await turn();
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
  it("of a handle start by themselves, and exclude loops and web streams", async () => {
    const seen: string[] = [];
    const native = new Played().push([0, "a", 0]);
    const handle = handleOf(native, { callbacks: true, onStdout: (text: string) => seen.push(text) });
    await vi.waitFor(() => expect(seen).toEqual(["a"]));
    const message = "the output of command c1 goes to its callbacks; it can't be taken in another way as well";
    await expect(texts(handle)).rejects.toThrow(message);
    expect(() => handle.stdout).toThrow(message);
    expect(await handle.sendInput("x")).toBe(true);
    native.push([0, "b", 1], null);
    expect(await handle.result).toMatchObject({ exit_code: 0 });
    expect(seen).toEqual(["a", "b"]);
  });

  it("get all output in order, and a promise holds the next piece back", async () => {
    const log: string[] = [];
    const native = new Played().push([0, "a", 0, 1, "e", 0, 0, "b", 1], null);
    const onStdout = async (text: string) => {
      log.push(`out ${text}`);
      await turn();
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

  it("that never settle hold neither kill() nor close() up; the rest is still called back after a kill", async () => {
    const outcomes = {
      kill: { ...RESULT, outcome: "killed", exitCode: 137 },
      close: failure("CLIENT_ERROR", "closed"),
    };
    for (const way of ["kill", "close"] as const) {
      const native = new Played().push([0, "a", 0, 0, "b", 1]);
      native.outcome = outcomes[way];
      const seen: string[] = [];
      const onStdout = (text: string) => {
        seen.push(text);
        return never();
      };
      const handle = handleOf(native, { callbacks: true, onStdout });
      await vi.waitFor(() => expect(seen).toEqual(["a"]));
      await handle[way]();
      if (way === "kill") expect(await handle.result).toMatchObject({ outcome: "killed" });
      else await expect(handle.result).rejects.toThrow("closed");
      expect(seen).toEqual(way === "kill" ? ["a", "b"] : ["a"]);
    }
  });

  it("may kill the command and await its result", async () => {
    const native = new Played().push([0, "a", 0]);
    native.outcome = { ...RESULT, outcome: "killed", exitCode: 137 };
    const codes: unknown[] = [];
    const onStdout = async () => {
      await handle.kill();
      codes.push((await handle.result).exit_code);
    };
    const handle = handleOf(native, { callbacks: true, onStdout });
    await vi.waitFor(() => expect(codes).toEqual([137]));
  });

  it("that throw an error of ours keep its line", async () => {
    const native = new Played().push([0, "a", 0]);
    const onStdout = function theirOwnLine() {
      throw new SandboxOperationError("mine");
    };
    const error: any = await handleOf(native, { callbacks: true, onStdout }).result.catch((thrown: unknown) => thrown);
    expect(error.stack).toContain("theirOwnLine");
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
    await turn();
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

  it("ends a loop that waits for output, however the command ends then", async () => {
    for (const end of [null, failure("CONNECTION_FAILED", "cut")]) {
      const native = new Played();
      native.kill = async () => Boolean(native.push(end));
      const controller = new AbortController();
      const pending = texts(handleOf(native, { signal: controller.signal }));
      await turn();
      const reason = new Error("enough");
      controller.abort(reason);
      await expect(pending).rejects.toBe(reason);
    }
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

  it("is left without listeners when all output was taken, or all that came before an error", async () => {
    const { signal } = new AbortController();
    const handle = handleOf(new Played().push([0, "a", 0], null), { signal });
    for await (const _ of handle) expect(getEventListeners(signal, "abort")).toHaveLength(1);
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
    await texts(handleOf(new Played().push(failure("CONNECTION_FAILED", "cut")), { signal })).catch(() => {});
    const streamed = handleOf(new Played().pushTo(0, null), { signal });
    expect(await new Response(streamed.stdout).text()).toBe("");
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  it("that lives keeps no handle that was dropped, and loses its listener then", async () => {
    const { signal } = new AbortController();
    const drop = async () => {
      const handle = handleOf(new Played().push([0, "a", 0]), { signal });
      for await (const _ of handle) break;
      return new WeakRef(handle);
    };
    const dropped = await drop();
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    await collect(() => dropped.deref() === undefined);
    await collect(() => getEventListeners(signal, "abort").length === 0);
  });
});

describe("reconnect", () => {
  const taken: any[] = [];
  const attach = async (plan: any) => {
    taken.push(plan);
    return handleOf(new Played(), plan);
  };

  it("goes on where this handle is, the same way, and detaches this one once that one is attached", async () => {
    const native = new Played().push([0, "ab", 3, 1, "c", 0, 0, "d", 5]);
    const { signal } = new AbortController();
    const receive = { output: "text", maxOutputBytes: 9, reject: false, signal, headers: { "X-A": "1" } };
    const onTheWay: string[][] = [];
    const handle = handleOf(native, { from: [3, 0], receive, killOnBreak: true }, async (plan) => {
      onTheWay.push([...native.calls]);
      return attach(plan);
    });
    const loop = handle[Symbol.asyncIterator]();
    for (let count = 0; count < 2; count += 1) await loop.next();
    const again = await handle.reconnect();
    expect(onTheWay).toEqual([[]]);
    expect(native.calls).toEqual(["detach"]);
    expect(again).not.toBe(handle);
    expect(taken.pop()).toMatchObject({
      commandId: "c1",
      from: [5, 1],
      raw: false,
      reject: false,
      signal,
      killOnBreak: true,
      call: { headers: [["X-A", "1"]] },
      stream: { maxOutputBytes: 9, closeInput: false, input: null, reconnect: true },
    });
    await expect(loop.next()).rejects.toThrow("the handle was closed");
  });

  it("takes other options, and works on a closed handle", async () => {
    const handle = handleOf(new Played().push([0, "ab", 0], null), { receive: { reject: false } }, attach);
    await texts(handle);
    handle.close();
    await handle.reconnect({ stdoutOffset: 0, output: "bytes", reject: true, signal: undefined });
    expect(taken.pop()).toMatchObject({ from: [0, 0], raw: true, reject: true, signal: null });
    await handle.reconnect();
    expect(taken.pop()).toMatchObject({ from: [2, 0], raw: false, reject: false });
  });

  it("delivers nothing on the way: the new handle gets what comes", async () => {
    const seen: string[] = [];
    const native = new Played().push([0, "a", 0]);
    const plan = { callbacks: true, onStdout: (text: string) => void seen.push(text) };
    let attached = (_: unknown) => {};
    const handle = handleOf(native, plan, async (next) => {
      await new Promise((resolve) => (attached = resolve));
      return attach(next);
    });
    await vi.waitFor(() => expect(seen).toEqual(["a"]));
    const again = handle.reconnect();
    native.push([0, "b", 1]);
    await turn();
    attached(null);
    await again;
    expect([seen, taken.pop().from]).toEqual([["a"], [1, 0]]);
    await expect(handle.result).resolves.toBeDefined();
    expect(seen).toEqual(["a"]);
  });

  it("holds loops and web streams up until it is attached, and lets them go on if it is not", async () => {
    let fail = (_: unknown) => {};
    const attaching = () => new Promise<never>((_, reject) => (fail = reject));
    const looped = handleOf(new Played().push([0, "a", 0, 0, "b", 1], null), {}, attaching);
    const loop = looped[Symbol.asyncIterator]();
    await loop.next();
    const bytes = (text: string) => Buffer.from(text);
    const streamed = handleOf(new Played().pushTo(0, [0, bytes("a"), 0], [0, bytes("b"), 1], null), {}, attaching);
    const reader = streamed.stdout.getReader();
    await reader.read();
    const log: string[] = [];
    for (const [handle, next] of [
      [looped, () => loop.next().then(({ value }) => log.push(value?.data ?? "end"))],
      [streamed, () => reader.read().then(({ value }) => log.push(String(Buffer.from(value as Uint8Array))))],
    ] as const) {
      const again = handle.reconnect();
      const pending = next();
      await turn();
      log.push("failed");
      expect(handle.lastStdoutOffset).toBe(1);
      fail(new Error("not there"));
      await expect(again).rejects.toThrow("not there");
      await pending;
    }
    expect(log).toEqual(["failed", "b", "failed", "b"]);
    expect(await loop.next()).toEqual({ value: undefined, done: true });
  });

  it("twice at once holds the output until both are settled", async () => {
    const fails: Array<(reason: unknown) => void> = [];
    const native = new Played().push([0, "a", 0], null);
    const handle = handleOf(native, {}, () => new Promise<never>((_, reject) => fails.push(reject)));
    const both = [handle.reconnect(), handle.reconnect()].map((again) => again.catch(() => "failed"));
    let looped = false;
    const all = texts(handle).finally(() => (looped = true));
    fails[0]?.(new Error());
    await both[0];
    await turn();
    expect(looped).toBe(false);
    fails[1]?.(new Error());
    expect(await all).toEqual(["a"]);
  });

  it("leaves this handle alone if it fails", async () => {
    const native = new Played().push([0, "a", 0], null);
    const handle = handleOf(native);
    await expect(handle.reconnect()).rejects.toThrow("nowhere to attach to");
    await expect(handle.reconnect({ offset: 1 } as never)).rejects.toThrow(/unknown option `offset`/);
    await expect(handle.reconnect(5 as never)).rejects.toMatchObject({ name: "ValidationError" });
    expect(native.calls).toEqual([]);
    expect(await texts(handle)).toEqual(["a"]);
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
    expect(() => handle.sendInput("\ud800")).toThrow(/without lone surrogates, but is a string/);
    expect(() => handle.sendInput(5 as never)).toThrow(
      /`data` must be a Uint8Array or a string without lone surrogates, but is a number/,
    );
  });

  it("sends signals; SIGKILL is a kill", async () => {
    const native = new Played();
    const handle = handleOf(native);
    expect(await handle.kill("SIGTERM")).toBe(true);
    expect(await handle.kill("SIGKILL")).toBe(true);
    expect(await handle.kill(undefined)).toBe(true);
    expect(native.calls).toEqual(["SIGTERM", "kill", "kill"]);
    for (const signal of ["SIGSEGV", "sigterm", 15, null, ""]) {
      const thrown = expect.objectContaining({ name: "ValidationError", field: "signal" });
      expect(() => handle.kill(signal as never)).toThrow(thrown);
    }
    expect(native.calls).toHaveLength(3);
    native.signal = () => Promise.reject(failure("UNSUPPORTED", "this server can't send signals"));
    await expect(handle.kill("SIGINT")).rejects.toMatchObject({ name: "UnsupportedError", code: "UNSUPPORTED" });
    handle.close();
    expect(await handle.kill("SIGINT")).toBe(false);
  });

  it("resizes the terminal, to sizes that there are", async () => {
    const native = new Played();
    const handle = handleOf(native);
    expect(await handle.resize({ cols: 132, rows: 65535 })).toBe(true);
    expect(native.calls).toEqual(["resize 132x65535"]);
    const bad: Array<[unknown, string]> = [
      [{ cols: 0, rows: 24 }, "cols"],
      [{ cols: 80, rows: 65536 }, "rows"],
      [{ cols: 80.5, rows: 24 }, "cols"],
      [{ cols: 80 }, "rows"],
      [{ cols: 80, rows: 24, columns: 1 }, "columns"],
      [undefined, "cols"],
      [null, "options"],
      [80, "options"],
    ];
    for (const [size, field] of bad) {
      const thrown = expect.objectContaining({ name: "ValidationError", field });
      expect(() => handle.resize(size as never), JSON.stringify(size)).toThrow(thrown);
    }
    native.resize = () => Promise.reject(failure("UNSUPPORTED", "this server can't resize"));
    await expect(handle.resize({ cols: 1, rows: 1 })).rejects.toMatchObject({ name: "UnsupportedError" });
    handle.close();
    expect(await handle.resize({ cols: 1, rows: 1 })).toBe(false);
  });

  it("that closes fails a loop that waits and every later one; one that had everything is fine", async () => {
    const handle = handleOf(new Played().push([0, "a", 0]));
    const loop = handle[Symbol.asyncIterator]();
    await loop.next();
    const pending = loop.next();
    await turn();
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
