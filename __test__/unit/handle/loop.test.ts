// What a loop over the chunks of a command sees, and what it leaves for the next.
// All on a native command that is played step by step.

import { describe, expect, it } from "vitest";

import { failure, handleOf, Played, texts, turn } from "../played.js";

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
    expect((error as Error).stack).toContain("loop.test.ts");
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
