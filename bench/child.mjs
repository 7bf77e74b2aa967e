// One client in a process of its own: `node bench/child.mjs JSON` does what the JSON says and prints its figures as JSON.

import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

const task = JSON.parse(process.argv[2]);
const modes = { stream, slow, rounds, burst, digest };

async function connect({ side, endpoint, apiKey, sandbox }) {
  const options = { apiEndpoint: endpoint, apiKey };
  const module =
    side === "official" ? await import("langsmith/sandbox") : createRequire(import.meta.url)("../index.js");
  return new module.SandboxClient(options).getSandbox(sandbox);
}

const options = () => ({
  wait: false,
  timeout: 0,
  ...(task.side === "ours" && task.maxOutputBytes ? { maxOutputBytes: task.maxOutputBytes } : {}),
});

/** Reads a whole stream: chunks, UTF-16 units, seconds, cpu seconds, event-loop delay. */
async function stream(sandbox) {
  await read(await sandbox.run(task.warm, options()));
  globalThis.gc?.();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const [cpu, start] = [process.cpuUsage(), performance.now()];
  delay.enable();
  const { chunks, units } = await read(await sandbox.run(task.command, options()));
  delay.disable();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const rss = process.resourceUsage().maxRSS * 1024;
  return { chunks, units, seconds, cpu: (user + system) / 1e6, delay: delay.percentile(99) / 1e6, rss };
}

async function read(handle) {
  let [chunks, units] = [0, 0];
  for await (const { data } of handle) {
    chunks += 1;
    units += data.length;
  }
  return { chunks, units };
}

/** Takes `task.take` chunks with a timer of 1 ms after each, and says how far memory grew meanwhile. */
async function slow(sandbox) {
  await read(await sandbox.run(task.warm, options()));
  globalThis.gc?.();
  const before = process.memoryUsage.rss();
  let [most, left] = [before, task.take];
  for await (const _ of await sandbox.run(task.command, options())) {
    await sleep(1);
    most = Math.max(most, process.memoryUsage.rss());
    if (--left === 0) break;
  }
  return { growth: most - before, before };
}

/** Runs one after the other: microseconds of each, cpu microseconds per run. */
async function rounds(sandbox) {
  for (let i = 0; i < 100; i++) await sandbox.run(task.command);
  const taken = [];
  const cpu = process.cpuUsage();
  for (let i = 0; i < task.count; i++) {
    const start = performance.now();
    await sandbox.run(task.command);
    taken.push((performance.now() - start) * 1000);
  }
  return { taken, cpu: cpuMicroseconds(cpu) / task.count };
}

/** Runs many at once: runs per second, cpu microseconds per run. */
async function burst(sandbox) {
  let left = 300;
  const lane = async () => {
    while (left-- > 0) await sandbox.run(task.command);
  };
  const lanes = () => Promise.all(Array.from({ length: task.atOnce }, lane));
  await lanes();
  left = task.count;
  const [cpu, start] = [process.cpuUsage(), performance.now()];
  await lanes();
  return { rate: (task.count / (performance.now() - start)) * 1000, cpu: cpuMicroseconds(cpu) / task.count };
}

function cpuMicroseconds(since) {
  const { user, system } = process.cpuUsage(since);
  return user + system;
}

/** The SHA-256 of a stream, and whether anything was missing or came twice. */
async function digest(sandbox) {
  const start = performance.now();
  const hash = createHash("sha256");
  let [bytes, seams] = [0, 0];
  const ending = { exitCode: null, error: null };
  try {
    const handle = await sandbox.run(task.command, options());
    for await (const { data, offset } of handle) {
      if (offset !== bytes) seams += 1;
      bytes += Buffer.byteLength(data);
      hash.update(data);
    }
    ending.exitCode = (await handle.result).exit_code;
  } catch (error) {
    ending.error = `${error.name}: ${error.message}`;
  }
  return { sha256: hash.digest("hex"), bytes, seams, ...ending, seconds: (performance.now() - start) / 1000 };
}

const sandbox = await connect(task);
const figures = await modes[task.mode](sandbox);
process.stdout.write(`${JSON.stringify(figures)}\n`, () => process.exit(0));
