// Hours of a server in minutes: mixed load from several lanes, with a look at the server every few seconds. What grows
// with time and not with load is a leak: the last third is compared with the first, and the quiet server at the end with
// the quiet one after the warm-up.

import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

import { startDaemon } from "./daemon.mjs";
import { live } from "./soak-load.mjs";
import { StepError } from "./step.mjs";
import { countTraces, settle } from "./traces.mjs";

const { SandboxClient } = createRequire(import.meta.url)("../index.js");

const LANES = 6;
const SAMPLE_SECONDS = 10;

/** Growth from the first third to the last that is still noise: a factor and, for small numbers, an amount. */
const noise = {
  rss_mb: [1.15, 8],
  fds: [1.25, 20],
  threads: [1.25, 8],
  mounts: [1.25, 20],
  cgroups: [1.25, 20],
};

/** Allocators keep some of what a load needed once, megabytes. */
const QUIET_RSS_MB = 24;

/** Runs the load; resolves with samples and summaries, rejects if something grew or an answer was wrong. */
export async function soak(stateDir, { minutes, progress }) {
  const before = await countTraces(stateDir);
  const server = await startDaemon(stateDir, { env: { SANDWIRED_LOG_LEVEL: "warn" } });
  const client = new SandboxClient(server.config);
  const load = { client, ...server.config, done: {} };
  // The first of everything is never like the rest: threads, buffers, the kernel's caches.
  await run(load, Math.min(minutes * 60 * 0.2, 60));
  const quiet = await settled(server, stateDir, before);
  const samples = [];
  const until = performance.now() + minutes * 60_000;
  const sampling = sampleUntil(until, server, async (sample) => {
    samples.push(sample);
    progress(`${samples.length * SAMPLE_SECONDS} s, ${total(load.done)} acts, ${sample.rss_mb} MB`);
  });
  await Promise.all([run(load, minutes * 60), sampling]);
  const quietAfter = await settled(server, stateDir, quiet);
  client.close();
  await server.end("SIGTERM");
  const afterEnd = await settle(stateDir, comparable(before));
  const thirds = compareThirds(samples);
  const wrong = [
    ...thirds.filter(({ verdict }) => verdict !== "flat").map(({ what }) => `${what} grew`),
    ...different("quiet server", quietAfter, quiet),
    ...different("after the end", comparable(afterEnd), comparable(before)),
  ];
  return { samples, thirds, quiet, quietAfter, done: load.done, wrong };
}

/** All lanes for so many seconds. An error of one ends the run. */
async function run(load, seconds) {
  const until = performance.now() + seconds * 1000;
  const lane = async (number) => {
    for (let life = 0; performance.now() < until; life++) {
      await live(load, number, life).catch((cause) => {
        throw new StepError(`lane ${number}, life ${life}: ${cause.stack}`);
      });
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, number) => lane(number)));
}

async function sampleUntil(until, server, hear) {
  while (performance.now() + SAMPLE_SECONDS * 1000 < until) {
    await sleep(SAMPLE_SECONDS * 1000);
    await hear(await sample(server));
  }
}

/** What the server says of itself, and what the kernel has for it. */
async function sample(server) {
  const metrics = await readMetrics(server.config);
  const ready = metrics.get('sandwired_sandboxes{state="ready"}');
  return {
    rss_mb: Math.round(metrics.get("process_resident_memory_bytes") / 1e5) / 10,
    fds: metrics.get("process_open_fds"),
    threads: metrics.get("process_threads"),
    mounts: (await readFile(`/proc/${server.pid}/mountinfo`, "utf8")).split("\n").length - 1,
    cgroups: (await readdir("/sys/fs/cgroup", { recursive: true }).catch(() => [])).filter((path) =>
      /sandwire[^/]*\/[^/]+$/.test(path),
    ).length,
    ready,
    running: metrics.get("sandwired_commands_running"),
  };
}

async function readMetrics({ apiEndpoint, apiKey }) {
  const answer = await fetch(new URL("/metrics", apiEndpoint), { headers: { "X-Api-Key": apiKey } });
  const lines = (await answer.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]));
}

/** The server once nothing of the load is left, or what is left after a while. */
async function settled(server, stateDir, { processes, namespaces, ...like }) {
  const traces = await settle(
    stateDir,
    "fds" in like ? { processes, namespaces, sandboxFiles: 0 } : { sandboxFiles: 0 },
  );
  // Idle connections of the client close by themselves; those of this process's own fetch do as well.
  await sleep(5000);
  const { rss_mb, fds, threads, running, ready } = await sample(server);
  return { ...comparable(traces), rss_mb, fds, threads, running, ready };
}

const comparable = ({ files: _, ...traces }) => traces;

function compareThirds(samples) {
  const third = Math.max(1, Math.floor(samples.length / 3));
  return Object.entries(noise).map(([what, [factor, amount]]) => {
    const first = median(samples.slice(0, third).map((sample) => sample[what]));
    const last = median(samples.slice(-third).map((sample) => sample[what]));
    return { what, first, last, verdict: last <= Math.max(first * factor, first + amount) ? "flat" : "GREW" };
  });
}

/** Where the two differ by more than they may. Connections come and go in the background, memory too. */
function different(when, actual, wanted) {
  const slack = { rss_mb: QUIET_RSS_MB, fds: LANES * 2, threads: 8 };
  const bad = (key) => actual[key] > wanted[key] + (slack[key] ?? 0);
  return Object.keys(wanted)
    .filter(bad)
    .map((key) => `${when}: ${key} ${wanted[key]} -> ${actual[key]}`);
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

const total = (done) => Object.values(done).reduce((sum, count) => sum + count, 0);
