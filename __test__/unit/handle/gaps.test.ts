// Output that was lost: where it is told, and that it is told once.
// All on a native command that is played step by step.

import { describe, expect, it, vi } from "vitest";

import { failure, handleOf, Played, RESULT, texts, turn } from "../played.js";

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
