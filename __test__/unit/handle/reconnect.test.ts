// A handle that comes back: where it goes on, and what becomes of the one before.
// All on a native command that is played step by step.

import { describe, expect, it, vi } from "vitest";

import { handleOf, Played, texts, turn } from "../played.js";

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
