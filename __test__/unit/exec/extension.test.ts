// Bytes, signals and sizes, which only some servers know.

import { beforeEach, describe, expect, it, vi } from "vitest";

import * as sandwire from "../../../index.mjs";
import { exit, onKill, raw, rejection, send, server, started, useScripted } from "../scripted.js";

useScripted();

describe("a server without the extension", () => {
  it("refuses signals, sizes and bytes that are no text, and says what it can't", async () => {
    server.play([], onKill);
    const handle = await (await server.sandbox()).run("sleep 99", { wait: false, pty: true });
    const calls = [
      [handle.kill("SIGTERM"), /SIGTERM/],
      [handle.resize({ cols: 80, rows: 24 }), /resize/],
      [handle.sendInput(new Uint8Array([255])), /UTF-8/],
    ] as const;
    for (const [call, feature] of calls) {
      const error = await rejection(call);
      expect(error).toBeInstanceOf(sandwire.UnsupportedError);
      expect(error.message).toMatch(feature);
    }
    const input = new Uint8Array([255]);
    expect(await rejection((await server.sandbox()).run("cat", { input }))).toBeInstanceOf(sandwire.UnsupportedError);
    expect(server.frames.map(({ type }) => type)).toEqual(["execute"]);
    expect(await handle.kill()).toBe(true);
    expect((await handle.result).outcome).toBe("killed");
  });
});

describe("a server with the extension", () => {
  beforeEach(() => {
    server.extended = true;
  });

  it("brings bytes as they are, and positions that count them", async () => {
    const frames = [raw("stdout", [97, 255, 0xc3]), raw("stdout", [0xa4, 98], 3), raw("stderr", "e"), exit()];
    server.play(frames);
    const sandbox = await server.sandbox();
    const bytes = await sandbox.run("x", { output: "bytes" });
    expect([...bytes.stdout]).toEqual([97, 255, 0xc3, 0xa4, 98]);
    const handle = await sandbox.run("x", { wait: false });
    let text = "";
    for await (const { stream, data } of handle) if (stream === "stdout") text += data;
    expect(text).toBe("a\uFFFDäb");
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([5, 1]);
    expect(await handle.result).toMatchObject({ stdout: "a\uFFFDäb", stdout_bytes: 5 });
    const streamed = await sandbox.run("x", { wait: false });
    expect([...new Uint8Array(await new Response(streamed.stdout).arrayBuffer())]).toEqual([97, 255, 0xc3, 0xa4, 98]);
  });

  it("gets any bytes on stdin, signals and sizes", async () => {
    server.exec = (socket, opening) => {
      send(socket, { ...started(opening.command_id), pty: true, stdin_offset: 0 });
      socket.on("message", (data: Buffer, binary) => {
        if (binary) send(socket, { type: "stdin_ack", offset: data.length - 9 });
        else onKill(JSON.parse(String(data)), socket);
      });
    };
    const handle = await (await server.sandbox()).run("sh", { wait: false, pty: true });
    expect(await handle.sendInput(new Uint8Array([255, 0, 10]))).toBe(true);
    expect(await handle.resize({ cols: 100, rows: 30 })).toBe(true);
    expect(await handle.kill("SIGINT")).toBe(true);
    expect(await handle.kill()).toBe(true);
    expect((await handle.result).exit_code).toBe(137);
    await vi.waitFor(() => expect(server.frames).toHaveLength(5));
    expect(server.frames.slice(1)).toEqual([
      { type: "stdin", offset: 0, data: Buffer.from([255, 0, 10]) },
      { type: "resize", cols: 100, rows: 30 },
      { type: "signal", signal: "SIGINT" },
      { type: "kill" },
    ]);
  });

  it("has no size to change where there is no terminal", async () => {
    server.play([], onKill);
    const handle = await (await server.sandbox()).run("sleep 99", { wait: false });
    const error = await rejection(handle.resize({ cols: 80, rows: 24 }));
    expect(error).toBeInstanceOf(sandwire.ValidationError);
    expect(error.message).toMatch(/pty/);
  });

  it("counts all output: what is missing at the end is a gap, and the signal is told", async () => {
    server.play([raw("stdout", "abc"), { ...exit(143), signal: 15, stdout_bytes: 5, stderr_bytes: 0 }]);
    const gaps: object[] = [];
    const result = await (await server.sandbox()).run("x", { onGap: (gap) => void gaps.push(gap) });
    expect(result).toMatchObject({ exit_code: 143, signal: 15, gaps: [{ stream: "stdout", from: 3, to: 5 }] });
    expect(gaps).toEqual(result.gaps);
  });
});
