// Hours of a server in minutes: mixed load from several lanes, with a look at the server every few seconds. What grows
// with time and not with load is a leak: the last third is compared with the first, and the quiet server at the end with
// the quiet one after the warm-up.

import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { startDaemon } from "./daemon.mjs";
import { live } from "./soak-load.mjs";
import { StepError } from "./step.mjs";

const { SandboxClient } = createRequire(import.meta.url)("../index.js");

const LANES = 6;
const SAMPLE_SECONDS = 10;

/** Growth from the first third to the last that is still noise: a factor and, for small numbers, an amount. */
const noise = {
  rss_mb: [1.2, 16],
  fds: [1.25, 20],
  threads: [1.25, 8],
  mounts: [1.25, 20],
  cgroups: [1.25, 20],
};

/** Wait for what ends after its sandbox was deleted: files, and commands that clients abandoned. */
const QUIET_DEADLINE_MS = 60_000;

/** Allocators keep some of what a load needed once, megabytes. */
const QUIET_RSS_MB = 24;

/** Runs the load; resolves with samples and summaries, rejects if something grew or an answer was wrong. */
export async function soak(stateDir, { minutes, progress }) {
  const server = await startDaemon(stateDir, { env: { SANDWIRED_LOG_LEVEL: "warn" } });
  server.stateDir = stateDir;
  const client = new SandboxClient(server.config);
  const load = { client, ...server.config, done: {} };
  // The first of everything is never like the rest: threads, buffers, the kernel's caches.
  await run(load, Math.min(minutes * 60 * 0.2, 60));
  const quiet = await settled(server);
  const samples = [];
  const until = performance.now() + minutes * 60_000;
  const sampling = sampleUntil(until, server, async (sample) => {
    samples.push(sample);
    progress(`${samples.length * SAMPLE_SECONDS} s, ${total(load.done)} acts, ${sample.rss_mb} MB`);
  });
  await Promise.all([run(load, minutes * 60), sampling]);
  const quietAfter = await settled(server);
  client.close();
  const places = await cgroupsOf(server);
  await server.end("SIGTERM");
  const left = places.filter((place) => existsSync(place));
  const thirds = compareThirds(samples);
  const wrong = [
    ...thirds.filter(({ verdict }) => verdict !== "flat").map(({ what }) => `${what} grew`),
    ...different("quiet server", quietAfter, quiet),
    ...left.map((place) => `after the end there is still ${place}`),
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
    cgroups: (await Promise.all((await cgroupsOf(server)).map(countDirectories))).reduce((sum, n) => sum + n, 0),
    processes: await countDescendants(server.pid),
    files: (await Promise.all(["boxes", "trash", "commands"].map((dir) => countEntries(server, dir)))).reduce(
      (sum, n) => sum + n,
    ),
    ready,
    running: metrics.get("sandwired_commands_running"),
  };
}

async function readMetrics({ apiEndpoint, apiKey }) {
  const answer = await fetch(new URL("/metrics", apiEndpoint), { headers: { "X-Api-Key": apiKey } });
  const lines = (await answer.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]));
}

/** The server's cgroups, one per hierarchy; it keeps them in its state directory for the one that comes after it. */
const cgroupsOf = async ({ stateDir }) =>
  (await readFile(join(stateDir, "cgroups"), "utf8").catch(() => "")).split("\n").filter(Boolean);

const countDirectories = async (dir) =>
  (await readdir(dir, { withFileTypes: true, recursive: true }).catch(() => [])).filter((entry) => entry.isDirectory())
    .length;

const countEntries = async ({ stateDir }, dir) => (await readdir(join(stateDir, dir)).catch(() => [])).length;

async function countDescendants(ancestor) {
  const children = new Map();
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(pid)]);
  }
  const count = (pid) => (children.get(pid) ?? []).reduce((sum, child) => sum + 1 + count(child), 0);
  return count(ancestor);
}

/** The server once nothing of the load is left, or what is left after a while. */
async function settled(server) {
  const end = performance.now() + QUIET_DEADLINE_MS;
  for (;;) {
    const { ready, running, files, processes, ...rest } = await sample(server);
    const quiet = ready + running + files + processes === 0;
    if (quiet || performance.now() > end) return { ready, running, files, processes, ...rest };
    await sleep(500);
  }
}

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
