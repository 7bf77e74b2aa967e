// Input, signals, sizes and the closing of a handle. All on a native command that is played step by step.

import { describe, expect, it } from "vitest";

import { unhandledDuring } from "../../rejection.js";
import { failure, handleOf, Played, texts, turn } from "../played.js";

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
    const native = new Played();
    native.kill = () => Promise.reject(failure("CONNECTION_FAILED", "cut"));
    expect(await unhandledDuring(() => void handleOf(native).kill())).toEqual([]);
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
