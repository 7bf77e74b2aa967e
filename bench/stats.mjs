// Medians, percentiles and the tables made of them. All times are milliseconds.

import { mkdir, writeFile } from "node:fs/promises";
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";

import { root, run } from "../scripts/step.mjs";

/** The value below which the share `q` of the samples lies. */
export function quantile(samples, q) {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

export const median = (samples) => quantile(samples, 0.5);

/**
 * Lets every contender take `perRound` samples in each of `rounds` rounds, the first one rotating, so that slow minutes
 * of the machine hit all alike. A contender is `{ name, sample() -> milliseconds }`.
 */
export async function interleave(contenders, { rounds, perRound }) {
  const taken = new Map(contenders.map(({ name }) => [name, []]));
  for (const { sample } of contenders) await sample();
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < contenders.length; i++) {
      const { name, sample } = contenders[(round + i) % contenders.length];
      const samples = [];
      for (let n = 0; n < perRound; n++) samples.push(await sample());
      taken.get(name).push(samples);
    }
    process.stdout.write(`\r  round ${round + 1} of ${rounds}`);
  }
  process.stdout.write("\r\x1b[K");
  return [...taken].map(([name, blocks]) => summary(name, blocks));
}

/** The median of the rounds' medians, and the 99th percentile of all samples. */
const summary = (name, blocks) => ({
  name,
  p50: median(blocks.map(median)),
  p99: quantile(blocks.flat(), 0.99),
  samples: blocks,
});

/** Prints rows with their ratio to the first one. */
export function printTable(title, rows) {
  console.log(`\n${title}`);
  const width = Math.max(...rows.map(({ name }) => name.length));
  console.log(`  ${"".padEnd(width)}   p50 ms    p99 ms   times ours`);
  for (const { name, p50, p99 } of rows) {
    const cells = [p50.toFixed(3).padStart(8), p99.toFixed(3).padStart(9), (p50 / rows[0].p50).toFixed(2).padStart(12)];
    console.log(`  ${name.padEnd(width)} ${cells.join(" ")}`);
  }
}

/** Prints how a figure stands to its goal; `goal` is an upper bound unless `atLeast`. */
export function printGoal(name, value, goal, { unit = "ms", atLeast = false } = {}) {
  const met = atLeast ? value >= goal : value <= goal;
  console.log(
    `  ${met ? "met  " : "SHORT"} ${name}: ${value.toFixed(3)} ${unit}, goal ${atLeast ? ">=" : "<="} ${goal}`,
  );
}

/** Keeps the raw samples and what they were taken on. */
export async function save(name, results) {
  const dir = join(root, "bench", "results");
  await mkdir(dir, { recursive: true });
  const commit = await run("git", ["rev-parse", "--short", "HEAD"]).then(
    (text) => text.trim(),
    () => "none",
  );
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memory: totalmem(),
    kernel: release(),
    node: process.version,
  };
  const date = new Date().toISOString();
  const file = join(dir, `${name}-${date.slice(0, 19).replaceAll(":", "")}.json`);
  await writeFile(file, `${JSON.stringify({ name, date, commit, machine, ...results })}\n`);
  console.log(`\n  raw samples: ${file.slice(root.length)}`);
}
