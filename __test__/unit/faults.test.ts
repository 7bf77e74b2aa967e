// Connections that end badly, and every way to take a command's output: each is told, and the program goes on.

import { expect, it, vi } from "vitest";
import type { WebSocket } from "ws";

import * as sandwire from "../../index.mjs";
import { unhandledDuring } from "../rejection.js";
import { out, refused, rejection, send, server, started, useScripted } from "./scripted.js";

useScripted();

async function looped(handle: AsyncIterable<{ data: unknown }>) {
  for await (const _ of handle) continue;
}

/** Each gives what its command failed with. */
const ways: Record<string, (sandbox: sandwire.Sandbox) => Promise<unknown>> = {
  loop: async (sandbox) => rejection(looped(await sandbox.run("x", { wait: false }))),
  callbacks: (sandbox) => rejection(sandbox.run("x", { onStdout: () => {} })),
  stream: async (sandbox) => rejection(new Response((await sandbox.run("x", { wait: false })).stdout).text()),
  result: (sandbox) => rejection(sandbox.run("x")),
  // Nobody awaits anything of it before it is over.
  nobody: async (sandbox) => {
    const handle = await sandbox.run("x", { wait: false, onStdout: () => {} });
    void handle.sendInput("x");
    void handle.closeInput();
    void handle.result;
    // A size is refused while the command runs: it has no terminal.
    await vi.waitFor(async () => expect(await handle.resize({ cols: 1, rows: 1 })).toBe(false));
    await new Promise((resolve) => setTimeout(resolve, 20));
    return rejection(handle.result);
  },
};

const faults: Array<[string, (socket: WebSocket) => void]> = [
  ["a connection that drops", (socket) => socket.terminate()],
  ["a close with 1011", (socket) => socket.close(1011)],
  ["a frame that is none", (socket) => socket.send("{")],
  ["output that is none", (socket) => send(socket, { type: "stdout", data: 5, offset: "x" })],
  ["a binary frame of a plain server", (socket) => socket.send(Buffer.from([9, 9, 9]))],
];

it.each(faults)("%s, and a command that is not there any more", async (_, fault) => {
  server.exec = (socket, { type, command_id }) => {
    if (type === "reconnect") return send(socket, refused("CommandNotFound"));
    send(socket, started(command_id));
    socket.send(JSON.stringify(out("par")), () => fault(socket));
  };
  const sandbox = await server.sandbox();
  const told: Record<string, unknown> = {};
  const tell = async ([name, way]: [string, (typeof ways)[string]]) => (told[name] = await way(sandbox));
  const unhandled = await unhandledDuring(() => Promise.all(Object.entries(ways).map(tell)));
  for (const [name, error] of Object.entries(told)) {
    expect(error, name).toBeInstanceOf(sandwire.SandboxClientError);
    // A result's error has what there was; a reader had it already.
    if (name !== "loop" && name !== "stream") expect(error, name).toMatchObject({ outcome: "lost" });
  }
  expect(Object.keys(told).sort()).toEqual(Object.keys(ways).sort());
  expect(unhandled).toEqual([]);
});
