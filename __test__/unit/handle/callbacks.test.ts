// Callbacks: their order, their failures, and what they cannot hold up.
// All on a native command that is played step by step.

import { describe, expect, it, vi } from "vitest";

import { SandboxOperationError } from "../../../index.mjs";
import { unhandledDuring } from "../../rejection.js";
import { failure, handleOf, Played, RESULT, texts, turn } from "../played.js";

const never = () => new Promise<void>(() => {});

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
    expect(await unhandledDuring(() => fail(new Error("late")))).toEqual([]);
  });

  it("repeat the stream's own error with the partial result", async () => {
    const native = new Played().push([0, "a", 0], failure("CONNECTION_FAILED", "cut"), null);
    native.outcome = failure("CONNECTION_FAILED", "cut", {}, { ...RESULT, outcome: "lost", stdout: "a" });
    const error: any = await handleOf(native, { callbacks: true }).result.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ message: "cut", outcome: "lost", stdout: "a" });
  });
});
