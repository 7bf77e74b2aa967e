// Runs the fuzz targets (fuzz/), each for some minutes. A finding ends the run with what was found, and how to see it again.

import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { root, run, step, StepError } from "./step.mjs";

const targets = ["documents", "frames", "messages", "requests", "session", "tokens"];

/** LLVM's coverage instrumentation, as libFuzzer wants it; it goes to the targets, not to what builds them. */
const instrumentation = [
  "passes=sancov-module",
  "llvm-args=-sanitizer-coverage-level=4",
  "llvm-args=-sanitizer-coverage-inline-8bit-counters",
  "llvm-args=-sanitizer-coverage-pc-table",
  "llvm-args=-sanitizer-coverage-trace-compares",
];

/** Builds all targets; resolves with the directory of the programs. */
async function build() {
  const host = /^host: (.+)$/m.exec(await run("rustc", ["-vV"]))[1];
  const directory = join(root, "target", "fuzz");
  const manifest = join(root, "fuzz", "Cargo.toml");
  const flags = instrumentation.flatMap((flag) => ["-C", flag]).join(" ");
  const args = ["--profile", "fuzz", "--manifest-path", manifest, "--target", host, "--target-dir", directory];
  await step("compile the fuzz targets", (progress) =>
    run("cargo", ["build", ...args], { env: { RUSTFLAGS: flags }, progress }),
  );
  return join(directory, host, "fuzz");
}

/** @param {string} work a directory for what is found @param {number} minutes for each target */
export async function fuzzAll(work, minutes) {
  const programs = await build();
  for (const target of targets) {
    const title = `${target}, ${minutes} minutes`;
    await step(title, (progress) => fuzz(join(programs, target), target, work, minutes, progress));
  }
}

async function fuzz(program, target, work, minutes, progress) {
  const corpus = join(work, `corpus-${target}`);
  await mkdir(corpus, { recursive: true });
  const seeds = join(root, "fuzz", "seeds", target);
  const found = join(root, "target", "fuzz", `${target}-`);
  const limits = [`-max_total_time=${Math.round(minutes * 60)}`, "-rss_limit_mb=1024", "-timeout=10", "-max_len=4096"];
  const args = [...limits, `-artifact_prefix=${found}`, corpus];
  if (existsSync(seeds)) args.push(seeds);
  let executions = "0";
  const watch = (line) => {
    executions = /^#(\d+)/.exec(line)?.[1] ?? executions;
    progress(line.slice(0, 80));
  };
  await run(program, args, { progress: watch }).catch((failure) => {
    const finding = new StepError(`${target} found something; again: ${program} ${found}...`);
    finding.output = failure.output;
    throw finding;
  });
  return `more than ${executions} inputs`;
}
