// The low-level streams, against a scripted server.

import { describe, expect, it } from "vitest";

import { reconnectWsStream, runWsStream, type WsMessage } from "../../index.mjs";
import { err, exit, onKill, out, refused, rejection, send, server, started, useScripted } from "./scripted.js";

useScripted();

async function collect(messages: AsyncIterable<WsMessage>): Promise<WsMessage[]> {
  const all = [];
  for await (const message of messages) all.push(message);
  return all;
}

describe("runWsStream", () => {
  it("gives the server's messages, and calls back before each", async () => {
    server.play([out("a"), err("e"), out("c", 5), exit(3)]);
    const log: string[] = [];
    const [messages, control] = await runWsStream(server.dataplane, "the-key", "ls", {
      onStdout: (data) => void log.push(`out ${data}`),
      onStderr: (data) => void log.push(`err ${data}`),
      timeout: 7,
      env: { A: "1" },
      commandId: "mine",
      ttlSeconds: -1,
      headers: { "X-Call": "1" },
    });
    for await (const message of messages) log.push(message.type);
    expect(log).toEqual(["started", "out a", "stdout", "err e", "stderr", "out c", "stdout", "exit"]);
    expect(server.frames[0]).toMatchObject({
      type: "execute",
      command: "ls",
      timeout_seconds: 7,
      env: { A: "1" },
      command_id: "mine",
      ttl_seconds: -1,
    });
    expect(server.frames[0]).not.toHaveProperty("close_stdin");
    expect(server.upgrades[0]?.headers).toMatchObject({ "x-api-key": "the-key", "x-call": "1" });
    expect(control.killed).toBe(false);
  });

  it("has the members of the wire", async () => {
    server.play([out("a"), exit(3)]);
    const [messages] = await runWsStream(server.dataplane.replace("http", "ws"), undefined, "ls", {
      commandId: "mine",
    });
    expect(await collect(messages)).toEqual([
      { type: "started", command_id: "mine", pid: 7 },
      { type: "stdout", data: "a", offset: 0 },
      { type: "exit", exit_code: 3 },
    ]);
    expect(server.upgrades[0]?.headers).not.toHaveProperty("x-api-key");
  });

  it("does not ask for the extension: positions count the text", async () => {
    server.extended = true;
    server.play([out("a\uFFFD"), out("b", 4), exit()]);
    const [messages] = await runWsStream(server.dataplane, "k", "ls", { commandId: "mine" });
    expect((await collect(messages)).slice(1)).toEqual([
      { type: "stdout", data: "a\uFFFD", offset: 0 },
      { type: "stdout", data: "b", offset: 4 },
      { type: "exit", exit_code: 0 },
    ]);
    expect(server.upgrades[0]?.headers).not.toHaveProperty("sec-websocket-protocol");
  });

  it("waits for its callbacks, and throws what they throw", async () => {
    server.play([out("a"), out("b", 1), exit()]);
    const log: unknown[] = [];
    const onStdout = async (data: string) => {
      await new Promise((resolve) => setImmediate(resolve));
      log.push(`called ${data}`);
    };
    const [messages] = await runWsStream(server.dataplane, "k", "ls", { onStdout });
    for await (const message of messages) log.push(message.data ?? message.type);
    expect(log).toEqual(["started", "called a", "a", "called b", "b", "exit"]);
    const thrown = new Error("mine");
    const [other] = await runWsStream(server.dataplane, "k", "ls", { onStdout: () => Promise.reject(thrown) });
    expect(await rejection(collect(other))).toBe(thrown);
  });

  it("waits for no callback after a kill or an abort", async () => {
    server.play([out("a")], onKill);
    const reason = new Error("enough");
    for (const way of ["kill", "abort"]) {
      const controller = new AbortController();
      let called = () => {};
      const calling = new Promise<void>((resolve) => (called = resolve));
      const onStdout = () => {
        called();
        return new Promise(() => {});
      };
      const { signal } = controller;
      const [messages, control] = await runWsStream(server.dataplane, "k", "ls", { onStdout, signal });
      const all = collect(messages).catch((error: unknown) => error);
      await calling;
      if (way === "kill") control.sendKill();
      else controller.abort(reason);
      const ended = await all;
      if (way === "kill") expect(ended).toContainEqual({ type: "exit", exit_code: 137 });
      else expect(ended).toBe(reason);
    }
  });

  it("sends kill, input and its end", async () => {
    server.play([], (frame, socket) => {
      if (frame.type === "input") send(socket, out(`got ${frame.data}`));
      if (frame.type === "close_stdin") send(socket, out("eof", 6));
      onKill(frame, socket);
    });
    const [messages, control] = await runWsStream(server.dataplane, "k", "cat");
    control.sendInput("hi");
    const log: unknown[] = [];
    for await (const message of messages) {
      log.push(message.data ?? message.exit_code ?? message.type);
      if (message.data === "got hi") control.sendCloseStdin();
      if (message.data === "eof") control.sendKill();
    }
    expect(log).toEqual(["started", "got hi", "eof", 137]);
    expect(control.killed).toBe(true);
    control.sendInput("late");
    control.sendKill();
  });

  it("throws what the server says, and a lost connection at once", async () => {
    server.play([refused("CommandTimeout", "too slow")]);
    const [messages] = await runWsStream(server.dataplane, "k", "ls");
    expect(await rejection(collect(messages))).toMatchObject({ name: "CommandTimeoutError" });
    server.exec = (socket, opening) => {
      send(socket, started(opening.command_id));
      setImmediate(() => socket.close(1001));
    };
    const [cut] = await runWsStream(server.dataplane, "k", "ls");
    expect(await rejection(collect(cut))).toMatchObject({ code: expect.stringMatching(/CONNECTION|RELOAD/) });
    expect(server.upgrades).toHaveLength(2);
    server.refusal = 503;
    const error = await rejection(runWsStream(server.dataplane, "k", "ls"));
    expect(error).toMatchObject({ name: "SandboxRetryableConnectionError" });
    expect(server.upgrades).toHaveLength(3);
  });

  it("closes the connection when its loop is left, also before it took anything", async () => {
    const closed: Promise<unknown>[] = [];
    const play = () => {
      server.play([out("a")]);
      const { exec } = server;
      server.exec = (socket, ...rest) => {
        closed.push(new Promise((resolve) => socket.on("close", resolve)));
        exec(socket, ...rest);
      };
    };
    play();
    const [looped, its] = await runWsStream(server.dataplane, "k", "sleep 9");
    for await (const _ of looped) break;
    const [untouched, other] = await runWsStream(server.dataplane, "k", "sleep 9");
    await untouched.return?.();
    expect(closed).toHaveLength(2);
    await Promise.all(closed);
    // Both are still held, so no garbage collector closed them.
    expect([its.killed, other.killed]).toEqual([false, false]);
    expect(server.frames.map(({ type }) => type)).toEqual(["execute", "execute"]);
  });

  it.each(["exit", "connection"])("is killed by an abort, and throws the reason, whatever ends: %s", async (last) => {
    server.play([out("a")], (frame, socket) => {
      if (frame.type !== "kill") return;
      if (last === "exit") send(socket, exit(137));
      else socket.terminate();
    });
    const controller = new AbortController();
    const [messages, control] = await runWsStream(server.dataplane, "k", "x", { signal: controller.signal });
    const reason = new Error("enough");
    const log: string[] = [];
    const loop = async () => {
      for await (const { type } of messages) {
        log.push(type);
        if (type === "stdout") controller.abort(reason);
      }
    };
    expect(await rejection(loop())).toBe(reason);
    expect([control.killed, log]).toEqual([true, ["started", "stdout"]]);
    expect(server.frames.at(-1)).toEqual({ type: "kill" });
  });
});

describe("reconnectWsStream", () => {
  it("asks for the offsets given", async () => {
    server.play([out("tail", 4), exit()]);
    const options = { stdoutOffset: 4, stderrOffset: 2 };
    const [messages] = await reconnectWsStream(server.dataplane, "k", "cmd-1", options);
    const expected = { type: "reconnect", command_id: "cmd-1", stdout_offset: 4, stderr_offset: 2 };
    expect(server.frames[0]).toMatchObject(expected);
    expect((await collect(messages)).map(({ type }) => type)).toEqual(["started", "stdout", "exit"]);
  });

  it("says that there is no such command", async () => {
    server.exec = (socket) => send(socket, refused("CommandNotFound"));
    const error = await rejection(reconnectWsStream(server.dataplane, "k", "cmd-1"));
    expect(error).toMatchObject({ errorType: "CommandNotFound", operation: "reconnect" });
  });
});
