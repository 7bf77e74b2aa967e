// A second connection to the same command, asked for or after a loss.

import { createRequire } from "node:module";
import { describe, expect, it, vi } from "vitest";

import * as sandwire from "../../../index.mjs";
import { err, exit, onKill, out, refused, rejection, send, server, started, useScripted } from "../scripted.js";

useScripted();

describe("a handle that comes back", () => {
  const running = async (options: object = {}) => {
    server.play([out("ab"), err("e")], onKill);
    return (await server.sandbox()).run("sleep 99", { wait: false, ...options });
  };

  it("asks for what was not delivered yet, and the old one is detached", async () => {
    const handle = await running({ maxOutputBytes: 5 });
    const loop = handle[Symbol.asyncIterator]();
    for (let count = 0; count < 2; count += 1) await loop.next();
    server.play([out("cd", 2), exit(3)]);
    const again = await handle.reconnect();
    const { command_id } = server.frames[0];
    const sent = { type: "reconnect", command_id, stdout_offset: 2, stderr_offset: 1 };
    expect(server.frames.at(-1)).toMatchObject(sent);
    expect(await again.result).toMatchObject({ stdout: "cd", stderr: "", exit_code: 3 });
    expect((await rejection(handle.result)).message).toMatch(/handle was closed/);
    expect(await handle.kill()).toBe(false);
    expect(await rejection(loop.next())).toMatchObject({ name: "SandboxClientError" });
  });

  it("asks for everything where nobody read, though all of it has arrived", async () => {
    const handle = await running();
    // Once it is over, all of it is here.
    await vi.waitFor(async () => expect(await handle.kill()).toBe(false));
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([0, 0]);
    server.play([out("ab"), err("e"), exit()]);
    const again = await handle.reconnect();
    expect(server.frames.at(-1)).toMatchObject({ type: "reconnect", stdout_offset: 0, stderr_offset: 0 });
    expect(await again.result).toMatchObject({ stdout: "ab", stderr: "e", gaps: [] });
    expect([again.lastStdoutOffset, again.lastStderrOffset]).toEqual([2, 1]);
  });

  it("calls nothing back twice, though output comes on both connections", async () => {
    const seen: string[] = [];
    const handle = await running({ onStdout: (text: string) => seen.push(text) });
    await vi.waitFor(() => expect(seen).toEqual(["ab"]));
    const old = server.sockets[0];
    server.exec = (socket, { command_id }) => {
      old?.send(JSON.stringify(out("cd", 2)), () => {
        // The pong says that the client has read what came before.
        old.once("pong", () => send(socket, started(command_id), out("cd", 2), exit()));
        old.ping();
      });
    };
    await (
      await handle.reconnect()
    ).result;
    expect(seen).toEqual(["ab", "cd"]);
  });

  it("works on a closed one and on one that has ended", async () => {
    const handle = await running();
    for await (const _ of handle) break;
    handle.close();
    server.play([exit()]);
    const again = await handle.reconnect({ output: "bytes" });
    expect(server.frames.at(-1)).toMatchObject({ type: "reconnect", stdout_offset: 2, stderr_offset: 0 });
    expect(await again.result).toMatchObject({ exit_code: 0, stdout: Buffer.alloc(0) });
    const third = await again.reconnect();
    expect((await third.result).stdout).toBeInstanceOf(Uint8Array);
  });

  it("keeps its callbacks, and says why it can't come back", async () => {
    const seen: string[] = [];
    const handle = await running({ onStdout: (text: string) => seen.push(text) });
    await vi.waitFor(() => expect(seen).toEqual(["ab"]));
    server.play([out("cd", 2), exit()]);
    await (
      await handle.reconnect()
    ).result;
    expect(seen).toEqual(["ab", "cd"]);
    server.exec = (socket) => send(socket, refused("SessionExpired"));
    expect(await rejection(handle.reconnect())).toMatchObject({ errorType: "SessionExpired", operation: "reconnect" });
  });

  it("by itself after a lost connection: nothing shows but a gap, once", async () => {
    server.exec = (socket, opening) => {
      send(socket, started(opening.command_id));
      if (opening.type === "reconnect") return send(socket, out("z", 10), exit());
      send(socket, out("ab"));
      setImmediate(() => socket.close(1001));
    };
    const gaps: object[] = [];
    const handle = await (await server.sandbox()).run("x", { wait: false, onGap: (gap) => void gaps.push(gap) });
    const log: unknown[] = [];
    for await (const { data, offset } of handle) log.push(data, offset);
    expect(log).toEqual(["ab", 0, "z", 10]);
    const gap = { stream: "stdout", from: 2, to: 10 };
    expect(gaps).toEqual([gap]);
    expect(await handle.result).toMatchObject({ gaps: [gap], stdout: "abz" });
    expect(gaps).toHaveLength(1);
    expect(server.frames[1]).toMatchObject({ type: "reconnect", stdout_offset: 2 });
  });

  it("run() tells its gaps before it settles", async () => {
    server.play([out("a"), out("z", 10), exit()]);
    const gaps: object[] = [];
    const sandbox = await server.sandbox();
    await sandbox.run("x", { onGap: async (gap) => void gaps.push(gap) });
    expect(gaps).toEqual([{ stream: "stdout", from: 1, to: 10 }]);
    const thrown = new Error("mine");
    const onGap = () => {
      throw thrown;
    };
    expect(await rejection(sandbox.run("x", { onGap }))).toBe(thrown);
    const controller = new AbortController();
    const never = () => {
      setImmediate(() => controller.abort());
      return new Promise<void>(() => {});
    };
    expect((await sandbox.run("x", { onGap: never, signal: controller.signal })).stdout).toBe("az");
  });
});

describe("the policy of reconnecting", () => {
  it("is what the native part does", () => {
    const binding = createRequire(import.meta.url)("../../../binding.js");
    const { MAX_AUTO_RECONNECTS, BACKOFF_BASE, BACKOFF_MAX } = sandwire.CommandHandle;
    const native = { attempts: MAX_AUTO_RECONNECTS, backoffBase: BACKOFF_BASE, backoffMax: BACKOFF_MAX };
    expect(binding.reconnectPolicy()).toEqual(native);
    expect([MAX_AUTO_RECONNECTS, BACKOFF_BASE, BACKOFF_MAX]).toEqual([5, 0.5, 8]);
  });
});
