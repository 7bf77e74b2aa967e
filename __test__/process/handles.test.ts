// Handles by the thousand: opened and dropped, cancelled half-way, ended with their thread. Nothing grows. The server is
// a scripted one, which counts the sockets and costs next to nothing.

import { afterAll, beforeAll, expect, it } from "vitest";
import type { WebSocket } from "ws";

import { Scripted } from "../unit/scripted.js";
import { runNode } from "./child.js";

let server: Scripted;
let sockets = 0;
let accepted = 0;
/** Frames of 4 KiB that a command prints before it falls silent. */
const much = Array.from({ length: 64 }, (_, i) =>
  JSON.stringify({ type: "stdout", data: "x".repeat(4095) + "\n", offset: i * 4096 }),
);

beforeAll(async () => {
  server = await Scripted.start();
  server.routes["GET /boxes/box"] = () => ({
    json: { name: "box", status: "ready", dataplane_url: server.dataplane },
  });
  server.routes["GET /sockets"] = () => ({ json: { sockets, accepted } });
  server.exec = (socket: WebSocket, { command_id, command }) => {
    accepted += 1;
    sockets += 1;
    server.frames.length = 0;
    server.upgrades.length = 0;
    server.sockets.length = 0;
    server.requests.length = 0;
    socket.once("close", () => (sockets -= 1));
    socket.send(JSON.stringify({ type: "started", command_id, pid: 7 }));
    if (command === "print") for (const frame of much) socket.send(frame);
    socket.on("message", (data) => {
      if (JSON.parse(String(data)).type === "kill") socket.send(JSON.stringify({ type: "exit", exit_code: 137 }));
    });
  };
});

afterAll(() => server?.[Symbol.asyncDispose]());

/**
 * Runs `wave` again and again and measures the process after the `warm` first ones and at the end, each time after its
 * garbage was collected and the server has no socket left. The first ones are many: until each thread's allocator has
 * what it needs, memory grows without any leak.
 */
async function grown({ wave, waves, warm }: { wave: string; waves: number; warm: number }) {
  const script = `
    const fds = () => require("node:fs").readdirSync("/proc/self/fd").length;
    const sockets = async () => (await (await fetch(process.env.ENDPOINT + "/sockets")).json()).sockets;
    const settled = async () => {
      for (let i = 0; i < 1000; i++) {
        globalThis.gc();
        await new Promise((resolve) => setTimeout(resolve, 10));
        if ((await sockets()) === 0) break;
      }
      globalThis.gc();
      return { sockets: await sockets(), fds: fds(), rss: process.memoryUsage.rss() };
    };
    const wave = async () => { ${wave} };
    for (let i = 0; i < ${warm}; i++) { await wave(); await settled(); }
    const before = await settled();
    for (let i = 0; i < ${waves - warm}; i++) { await wave(); if (i % 5 === 4) await settled(); }
    const after = await settled();
    const listeners = globalThis.living && require("node:events").getEventListeners(globalThis.living.signal, "abort");
    if (listeners?.length) throw new Error("a signal still has " + listeners.length + " listeners");
    print(JSON.stringify({ sockets: after.sockets, fds: after.fds - before.fds, rss: after.rss - before.rss }));`;
  const ended = await runNode({ apiEndpoint: server.endpoint, apiKey: "k" }, "box", script, ["--expose-gc"]);
  expect(ended, ended.stderr).toMatchObject({ code: 0, signal: null, stderr: "" });
  return JSON.parse(ended.stdout) as { sockets: number; fds: number; rss: number };
}

const MB = 1024 * 1024;

it("10,000 handles opened and dropped", async () => {
  const before = accepted;
  const wave = `await Promise.all(Array.from({ length: 100 }, () => sandbox.run("sleep", { wait: false })));`;
  const { sockets: left, fds, rss } = await grown({ wave, waves: 100, warm: 50 });
  expect(accepted - before).toBe(10_000);
  expect(left).toBe(0);
  expect(fds).toBeLessThanOrEqual(4);
  expect(rss / MB).toBeLessThan(24);
});

it("streams cancelled half-way, in every way", async () => {
  const wave = `
    const start = (options) => sandbox.run("print", { wait: false, ...options });
    const first = async (handle) => { for await (const _ of handle) break; return handle; };
    const reader = async (stream) => { const reader = stream.getReader(); await reader.read(); return reader; };
    const controller = new AbortController();
    const gone = () => {};
    await Promise.all([
      start().then(first),
      start().then(first).then((handle) => handle.detach()),
      start().then(first).then((handle) => handle.close()),
      start({ killOnDisconnect: true }).then(first),
      start().then(async (handle) => { for await (const _ of handle) handle.detach(); }).catch(gone),
      start({ signal: controller.signal }).then(first).then((handle) => {
        handle.result.catch(gone);
        controller.abort();
      }).catch(gone),
      start().then((handle) => reader(handle.stdout)).then((reader) => reader.cancel()),
      start().then(async (handle) => {
        const both = await Promise.all([reader(handle.stdout), handle.stderr.getReader()]);
        await Promise.all(both.map((reader) => reader.cancel()));
      }),
      start().then((handle) => reader(handle.stdout)),
    ]);`;
  const { sockets: left, fds, rss } = await grown({ wave, waves: 160, warm: 80 });
  expect(left).toBe(0);
  expect(fds).toBeLessThanOrEqual(4);
  expect(rss / MB).toBeLessThan(32);
});

it("handles and low-level streams dropped while their signal lives", async () => {
  const wave = `
    const { signal } = (globalThis.living ??= new AbortController());
    const handle = async (options) => {
      const handle = await sandbox.run("print", { wait: false, ...options });
      for await (const _ of handle) break;
      return handle;
    };
    const low = async (options) => {
      const [messages] = await sandwire.runWsStream(sandbox.dataplane_url, "k", "print", options);
      for (let count = 0; count < 2; count++) await messages.next();
      return messages;
    };
    await Promise.all([
      handle({ signal }),
      handle({}).then((handle) => handle.reconnect({ signal })),
      low({}),
      low({ signal }),
      low({ signal }).then((messages) => messages.return()),
    ]);`;
  const { sockets: left, fds, rss } = await grown({ wave, waves: 120, warm: 60 });
  expect(left).toBe(0);
  expect(fds).toBeLessThanOrEqual(4);
  expect(rss / MB).toBeLessThan(32);
});

it("threads started and ended while streams run", async () => {
  const wave = `
    const { Worker } = require("node:worker_threads");
    const code = \`
      const { workerData, parentPort } = require("node:worker_threads");
      const sandwire = require(workerData.entry);
      const client = new sandwire.SandboxClient({ apiEndpoint: process.env.ENDPOINT, apiKey: "k" });
      (async () => {
        const sandbox = await client.getSandbox("box");
        void sandbox.run("sleep").catch(() => {});
        void sandbox.run("sleep", { wait: false });
        for await (const _ of await sandbox.run("print", { wait: false })) {
          parentPort.postMessage(1);
          if (workerData.leaves) process.exit();
        }
      })();\`;
    const entry = Object.keys(require.cache).find((path) => /index.js$/.test(path));
    await Promise.all([0, 1, 2, 3].map(async (n) => {
      const worker = new Worker(code, { eval: true, workerData: { entry, leaves: n % 2 === 0 } });
      const exit = new Promise((resolve, reject) => worker.once("exit", resolve).once("error", reject));
      await new Promise((resolve) => worker.once("message", resolve));
      if (n % 2 === 1) await worker.terminate();
      await exit;
    }));`;
  const { sockets: left, fds, rss } = await grown({ wave, waves: 25, warm: 10 });
  expect(left).toBe(0);
  expect(fds).toBeLessThanOrEqual(4);
  expect(rss / MB).toBeLessThan(48);
});
