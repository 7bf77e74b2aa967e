// An abort signal: what it ends, and what it leaves behind. All on a native command that is played step by step.

import { getEventListeners } from "node:events";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it, vi } from "vitest";

import { failure, handleOf, Played, RESULT, texts, turn } from "../played.js";

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
