// The result of a command: what it holds, and that it takes no loop's output.
// All on a native command that is played step by step.

import { describe, expect, it } from "vitest";

import { unhandledDuring } from "../../rejection.js";
import { failure, handleOf, Played, RESULT, texts, turn } from "../played.js";

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
    const native = new Played();
    const partial = { ...RESULT, outcome: "timed_out", stdout: "par", exitCode: null };
    native.outcome = failure("COMMAND_TIMEOUT", "late", { timeout: 2 }, partial);
    const handle = handleOf(native);
    expect(await unhandledDuring(() => void handle.result)).toEqual([]);
    const error: any = await handle.result.catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      name: "CommandTimeoutError",
      timeout: 2,
      outcome: "timed_out",
      stdout: "par",
      exit_code: null,
    });
    expect(error.stack).toContain("result.test.ts");
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
