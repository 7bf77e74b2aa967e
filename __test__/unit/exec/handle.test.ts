// A command that runs: its output, its input, its end.

import { describe, expect, it, vi } from "vitest";

import * as sandwire from "../../../index.mjs";
import { err, exit, onKill, out, refused, rejection, send, server, started, useScripted } from "../scripted.js";

useScripted();

describe("a handle", () => {
  it("streams, and has id, pid and result", async () => {
    server.play([out("a"), err("b"), out("c", 1), exit(5)]);
    const handle = await (await server.sandbox()).run("x", { wait: false });
    expect(handle).toBeInstanceOf(sandwire.CommandHandle);
    expect(handle).toMatchObject({ commandId: server.frames[0].command_id, pid: 7 });
    const chunks = [];
    for await (const chunk of handle) chunks.push(chunk);
    expect(chunks).toEqual([
      { stream: "stdout", data: "a", offset: 0 },
      { stream: "stderr", data: "b", offset: 0 },
      { stream: "stdout", data: "c", offset: 1 },
    ]);
    expect(await handle.result).toMatchObject({ stdout: "ac", stderr: "b", exit_code: 5 });
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([2, 1]);
  });

  it("break, then input, then another loop: nothing is lost", async () => {
    server.play([out("name? ")], (frame, socket) => {
      if (frame.type === "input") send(socket, out(`hello ${frame.data}`, 6), exit());
    });
    const handle = await (await server.sandbox()).run("x", { wait: false });
    let text = "";
    for await (const { data } of handle) {
      text += data;
      break;
    }
    expect(await handle.sendInput("you\n")).toBe(true);
    for await (const { data } of handle) text += data;
    expect(text).toBe("name? hello you\n");
    expect(await handle.sendInput("late")).toBe(false);
    expect(await handle.kill()).toBe(false);
  });

  it("kill ends it with a non-zero exit code", async () => {
    server.play([out("a")], onKill);
    const handle = await (await server.sandbox()).run("sleep 99", { wait: false });
    for await (const _ of handle) break;
    expect(await handle.kill()).toBe(true);
    expect(await handle.result).toMatchObject({ exit_code: 137, outcome: "killed", stdout: "a" });
  });

  it("detach leaves the command alone", async () => {
    server.play([out("a")], onKill);
    const closed = new Promise((resolve) => {
      const play = server.exec;
      server.exec = (socket, ...rest) => {
        socket.on("close", resolve);
        play(socket, ...rest);
      };
    });
    const handle = await (await server.sandbox()).run("sleep 99", { wait: false });
    handle.detach();
    await closed;
    expect(server.frames.map(({ type }) => type)).toEqual(["execute"]);
    expect(await handle.kill()).toBe(false);
    const loop = async () => {
      for await (const _ of handle) expect.unreachable();
    };
    expect((await rejection(loop())).message).toBe("the handle was closed before the command ended");
    expect(await rejection(handle.result)).toBeInstanceOf(sandwire.SandboxClientError);
  });

  it("is closed with its sandbox, also one that is on its way", async () => {
    let begin = () => {};
    const opened = new Promise<unknown>((resolve) => {
      server.exec = (socket, { command_id }) => {
        begin = () => send(socket, started(command_id));
        resolve(socket);
      };
    });
    const sandbox = await server.sandbox();
    const starting = sandbox.run("sleep 99", { wait: false });
    await opened;
    sandbox.close();
    begin();
    const handle = await starting;
    expect((await rejection(handle.result)).message).toMatch(/handle was closed/);
    server.play([exit()]);
    expect((await (await sandbox.run("true", { wait: false })).result).success).toBe(true);
  });

  it("reconnect asks for the offsets given", async () => {
    server.play([out("tail", 4), exit()]);
    const handle = await (await server.sandbox()).reconnect("cmd-1", { stdoutOffset: 4, stderrOffset: 2 });
    expect(server.frames[0]).toEqual({ type: "reconnect", command_id: "cmd-1", stdout_offset: 4, stderr_offset: 2 });
    expect((await handle.result).stdout).toBe("tail");
  });

  it("reconnect to an unknown command says so", async () => {
    server.exec = (socket) => send(socket, refused("CommandNotFound"));
    const error = await rejection((await server.sandbox()).reconnect("cmd-1"));
    expect(error).toMatchObject({
      name: "SandboxOperationError",
      errorType: "CommandNotFound",
      operation: "reconnect",
    });
    expect(error.message).toContain("cmd-1");
  });
});

describe("callbacks", () => {
  it("get the text of their stream; the result is complete", async () => {
    server.play([out("a"), err("b"), out("c", 1), exit()]);
    const seen: string[] = [];
    const result = await (
      await server.sandbox()
    ).run("x", {
      onStdout: (text) => void seen.push(`out ${text}`),
      onStderr: (text) => void seen.push(`err ${text}`),
    });
    expect(seen).toEqual(["out a", "err b", "out c"]);
    expect(result).toMatchObject({ stdout: "ac", stderr: "b", success: true });
  });

  it("of a handle get the output as it comes", async () => {
    server.play([out("a")], (frame, socket) => {
      if (frame.type === "input") send(socket, out("b", 1), exit());
    });
    const seen: string[] = [];
    const handle = await (await server.sandbox()).run("x", { wait: false, onStdout: (text) => void seen.push(text) });
    await vi.waitFor(() => expect(seen).toEqual(["a"]));
    await handle.sendInput("more");
    expect(await handle.result).toMatchObject({ stdout: "ab" });
    expect(seen).toEqual(["a", "b"]);
  });

  it("one that throws kills the command and gives its error", async () => {
    server.play([out("a")], onKill);
    const thrown = new Error("mine");
    const error = await rejection(
      (await server.sandbox()).run("sleep 99", {
        onStdout: () => {
          throw thrown;
        },
      }),
    );
    expect(error).toBe(thrown);
    expect(server.frames.map(({ type }) => type)).toContain("kill");
  });
});
