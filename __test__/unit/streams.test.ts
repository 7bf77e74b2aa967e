// A command's output as web streams, on a native command that is played step by step.

import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, expect, it } from "vitest";

import { rejection, unhandledDuring } from "../rejection.js";
import { failure, handleOf, Played, RESULT, texts, turn } from "./played.js";

const bytes = (data: string | number[]) => Buffer.from(data as string);

describe("a web stream", () => {
  it("brings the bytes of its stream, whatever the mode is", async () => {
    const native = new Played()
      .pushTo(0, [0, bytes("ab"), 0, 0, bytes([0xc3]), 2], [0, bytes([0xa4, 0xff]), 3], null)
      .pushTo(1, [1, bytes("err"), 0], null);
    const handle = handleOf(native);
    expect(native.calls).toEqual([]);
    expect(handle.stdout).toBe(handle.stdout);
    expect(handle.stdout).toBeInstanceOf(ReadableStream);
    expect(native.calls).toEqual(["raw true"]);
    const [out, err] = await Promise.all([
      new Response(handle.stdout).arrayBuffer(),
      new Response(handle.stderr).text(),
    ]);
    expect([...new Uint8Array(out)]).toEqual([0x61, 0x62, 0xc3, 0xa4, 0xff]);
    expect(err).toBe("err");
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([5, 3]);
  });

  it("fetches nothing before it is read, and nothing ahead", async () => {
    const native = new Played().pushTo(0, [0, bytes("a"), 0], [0, bytes("b"), 1]);
    const reader = handleOf(native).stdout.getReader();
    await turn();
    expect(native.fetched).toBe(0);
    expect(await reader.read()).toMatchObject({ done: false, value: new Uint8Array([97]) });
    await turn();
    expect(native.fetched).toBe(1);
  });

  it("can be piped, decoded, and read by Node", async () => {
    const played = () => new Played().pushTo(0, [0, bytes([0x61, 0xe2]), 0], [0, bytes([0x82, 0xac]), 2], null);
    const pieces: string[] = [];
    const sink = new WritableStream<string>({ write: (piece) => void pieces.push(piece) });
    await handleOf(played()).stdout.pipeThrough(new TextDecoderStream()).pipeTo(sink);
    expect(pieces.join("")).toBe("a€");
    expect(await text(Readable.fromWeb(handleOf(played()).stdout))).toBe("a€");
    const lengths: number[] = [];
    for await (const piece of handleOf(played()).stdout) lengths.push(piece.length);
    expect(lengths).toEqual([2, 2]);
    const halves = handleOf(played()).stdout.tee();
    expect(await Promise.all(halves.map((half) => new Response(half).text()))).toEqual(["a€", "a€"]);
  });

  it("fills the reader's own buffers", async () => {
    const native = new Played().pushTo(0, [0, bytes("abcde"), 0], [0, bytes("f"), 5], null);
    const handle = handleOf(native);
    const reader = handle.stdout.getReader({ mode: "byob" });
    const read = async () => {
      const { value, done } = await reader.read(new Uint8Array(2));
      return done ? "end" : String(Buffer.from(value as Uint8Array));
    };
    expect(await read()).toBe("ab");
    expect(handle.lastStdoutOffset).toBe(2);
    expect([await read(), await read(), await read(), await read()]).toEqual(["cd", "e", "f", "end"]);
    expect(handle.lastStdoutOffset).toBe(6);
  });

  it("gives memory of its own: who takes it over breaks nothing else", async () => {
    const pooled = Buffer.from("pooled");
    const neighbour = Buffer.from("neighbour");
    const handle = handleOf(new Played().pushTo(0, [0, pooled, 0], null));
    const { value } = await handle.stdout.getReader().read();
    structuredClone(value?.buffer, { transfer: [value?.buffer as ArrayBuffer] });
    expect([String(pooled), String(neighbour), handle.lastStdoutOffset]).toEqual(["pooled", "neighbour", 6]);
  });

  it("that nobody reads stalls neither the other one nor the result", async () => {
    const native = new Played().pushTo(1, [1, bytes("e"), 0], null);
    const handle = handleOf(native);
    const { stdout, stderr } = handle;
    expect(await new Response(stderr).text()).toBe("e");
    expect(await handle.result).toMatchObject({ stdout: "all", exit_code: 0 });
    native.pushTo(0, [0, bytes("late"), 0], null);
    expect(await new Response(stdout).text()).toBe("late");
  });

  it("leaves a reader that starts in the same turn all output, before the result takes it", async () => {
    const native = new Played().pushTo(0, [0, bytes("a"), 0], null);
    const handle = handleOf(native);
    const seen: boolean[] = [];
    native.result = async () => {
      seen.push(native.paused);
      return RESULT;
    };
    const both = await Promise.all([handle.result, new Response(handle.stdout).text()]);
    expect(both[1]).toBe("a");
    expect(seen).toEqual([false]);
  });

  it("that is cancelled drops its output at once, and only its own", async () => {
    const native = new Played().pushTo(0, [0, bytes("a"), 0]).pushTo(1, [1, bytes("e"), 0], null);
    const handle = handleOf(native);
    const reader = handle.stdout.getReader();
    await reader.read();
    const pending = reader.read();
    await reader.cancel();
    expect(await pending).toEqual({ value: undefined, done: true });
    expect(native.calls).toEqual(["raw true", "discard 0"]);
    native.pushTo(0, [0, bytes("b"), 1]);
    expect(await new Response(handle.stderr).text()).toBe("e");
    expect(handle.lastStdoutOffset).toBe(1);
    await handle.stderr.cancel().catch(() => {});
    const other = handleOf(native);
    await Promise.all([other.stdout.cancel(), other.stderr.cancel()]);
    expect(native.calls.slice(2)).toEqual(["raw true", "discard 0", "discard 1"]);
    const { fetched } = native;
    await turn();
    expect(native.fetched).toBe(fetched);
    expect(await other.result).toMatchObject({ exit_code: 0 });
  });

  it("ends with the command's error", async () => {
    const cut = failure("CONNECTION_FAILED", "cut");
    const native = new Played().pushTo(0, [0, bytes("a"), 0], cut).pushTo(1, cut);
    native.outcome = failure("CONNECTION_FAILED", "cut", {}, { ...RESULT, outcome: "lost", stdout: "a" });
    const handle = handleOf(native);
    const reader = handle.stdout.getReader();
    expect((await reader.read()).done).toBe(false);
    expect(await rejection(reader.read())).toMatchObject({ name: "SandboxConnectionError", message: "cut" });
    expect(await rejection(new Response(handle.stderr).text())).toMatchObject({ name: "SandboxConnectionError" });
    expect(await rejection(handle.result)).toMatchObject({ outcome: "lost", stdout: "a" });
  });

  it("fails when its handle is closed, unless it had everything", async () => {
    const native = new Played().pushTo(1, [1, bytes("e"), 0], null);
    const handle = handleOf(native);
    expect(await new Response(handle.stderr).text()).toBe("e");
    const pending = handle.stdout.getReader().read();
    await turn();
    handle.close();
    const message = "the handle was closed before the command ended";
    expect(await rejection(pending)).toMatchObject({ name: "SandboxClientError", message });
    const closed = handleOf(new Played());
    closed.close();
    expect((await rejection(new Response(closed.stdout).text())).message).toBe(message);
  });

  it("fails with the signal's reason once the command is killed", async () => {
    const native = new Played().pushTo(0, [0, bytes("a"), 0]);
    native.outcome = { ...RESULT, outcome: "killed", exitCode: 137 };
    const controller = new AbortController();
    const handle = handleOf(native, { signal: controller.signal });
    const reader = handle.stdout.getReader();
    await reader.read();
    const pending = rejection(reader.read());
    await turn();
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await pending).toBe(reason);
    expect(native.calls).toContain("kill");
    expect(await rejection(new Response(handle.stderr).text())).toBe(reason);
    expect(await rejection(handle.result)).toBe(reason);
  });

  it("goes on after kill(), and holds nothing back then", async () => {
    const native = new Played().pushTo(0, [0, bytes("a"), 0], [0, bytes("b"), 1]);
    const handle = handleOf(native);
    const reader = handle.stdout.getReader();
    await reader.read();
    await handle.kill();
    expect(String(Buffer.from((await reader.read()).value as Uint8Array))).toBe("b");
    expect(native.paused).toBe(true);
    expect((await reader.read()).done).toBe(true);
  });
});

describe("a gap in a web stream", () => {
  const told = { stream: "stdout", from: 1, to: 5 };
  const played = () => new Played().pushTo(0, [0, bytes("a"), 0, -1, 5, 1, 0, bytes("b"), 5], [0, bytes("c"), 8], null);

  it("ends it with an error, since nothing else would show it", async () => {
    const native = played();
    const handle = handleOf(native);
    const error = await rejection(new Response(handle.stdout).text());
    expect(error).toMatchObject({ name: "SandboxOperationError", errorType: "OutputLost" });
    expect(error.message).toMatch(/bytes 1 to 5 of stdout are lost/);
    expect(handle.lastStdoutOffset).toBe(1);
    expect(native.calls).toEqual(["raw true", "discard 0"]);
  });

  it("is told to onGap, also where only the offset jumps; the stream goes on", async () => {
    const gaps: object[] = [];
    const native = played();
    native.outcome = { ...RESULT, gaps: JSON.stringify([told, { stream: "stdout", from: 6, to: 8 }]) };
    const handle = handleOf(native, { onGap: (gap: object) => void gaps.push(gap) });
    expect(await new Response(handle.stdout).text()).toBe("abc");
    await handle.result;
    expect(gaps).toEqual([told, { stream: "stdout", from: 6, to: 8 }]);
    expect(handle.lastStdoutOffset).toBe(9);
  });

  it("whose callback throws ends the command and the stream", async () => {
    const thrown = new RangeError("mine");
    const onGap = () => {
      throw thrown;
    };
    const native = played();
    const handle = handleOf(native, { onGap });
    expect(await rejection(new Response(handle.stdout).text())).toBe(thrown);
    expect(native.calls).toContain("kill");
    expect(await rejection(handle.result)).toBe(thrown);
  });
});

describe("one way for all output", () => {
  it("streams exclude loops, and loops exclude streams, also after they were left", async () => {
    const streamed = handleOf(new Played());
    void streamed.stderr;
    const message = "the output of command c1 is read through `stdout` and `stderr`; it can't be taken in another way";
    await expect(texts(streamed)).rejects.toThrow(message);
    const looped = handleOf(new Played().push([0, "a", 0, 0, "b", 1], null));
    for await (const _ of looped) {
      expect(() => looped.stdout).toThrow(/is being iterated already/);
      break;
    }
    const thrown = expect.objectContaining({ name: "SandboxClientError" });
    expect(() => looped.stdout).toThrow(thrown);
    expect(() => looped.stdout).toThrow(/the output of command c1 is looped over/);
    expect(await texts(looped)).toEqual(["b"]);
  });

  it("does not begin with a loop that takes nothing", async () => {
    const native = new Played().pushTo(0, [0, bytes("a"), 0], null);
    const handle = handleOf(native);
    await handle[Symbol.asyncIterator]().return?.();
    expect(await new Response(handle.stdout).text()).toBe("a");
  });

  it("nobody's failure becomes an unhandled rejection", async () => {
    const handle = handleOf(new Played().pushTo(0, failure("CONNECTION_FAILED", "cut")));
    const unhandled = await unhandledDuring(async () => {
      await rejection(handle.stdout.getReader().read());
      handle.close();
    });
    expect(unhandled).toEqual([]);
  });
});
