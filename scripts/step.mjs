// Runs the programs that the scripts here drive, and shows what is going on: a title, progress while a program
// works, and the time each step took. On failure the program's whole output is printed, never a summary of it.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const interactive = process.stdout.isTTY === true && !process.env.CI;

/** The directory of the checkout. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** An expected failure: its message says what to do, so no stack is shown. */
export class StepError extends Error {}

export const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(1)} s`;

/** Prints a line for `title`, awaits `work(progress)`, prints how long it took. */
export async function step(title, work) {
  const start = performance.now();
  let latest = "";
  const show = () => latest && print(`  … ${latest} (${seconds(start)})`);
  const ticker = setInterval(show, interactive ? 250 : 15_000);
  console.log(`▸ ${title}`);
  try {
    const result = await work((text) => (latest = text));
    print("");
    console.log(`  ✓ ${typeof result === "string" ? `${result}, ` : ""}${seconds(start)}`);
    return result;
  } finally {
    clearInterval(ticker);
  }
}

function print(line) {
  if (interactive) process.stdout.write(`\r\x1b[K${line}`);
  else if (line) console.log(line);
}

/** Runs a program to its end and resolves with its standard output. `progress` hears each line; `live` shows the output as it comes. */
export function run(command, args, { cwd = root, env = {}, progress, live = false, input } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: [input === undefined ? "ignore" : "pipe", live ? "inherit" : "pipe", live ? "inherit" : "pipe"],
    });
    let [output, standardOutput] = ["", ""];
    const hear = (data) => {
      output += data;
      const line = String(data).trimEnd().split("\n").at(-1).trim();
      if (line) progress?.(line);
    };
    child.stdout?.on("data", (data) => (standardOutput += data));
    child.stdout?.on("data", hear);
    child.stderr?.on("data", hear);
    child.stdin?.end(input);
    child.on("error", (error) => reject(new StepError(`${command} could not be started: ${error.message}`)));
    child.on("close", (code, signal) => {
      if (code === 0) return resolve(standardOutput);
      const failure = new StepError(`${command} ${args.join(" ")} failed (${signal ?? `exit code ${code}`})`);
      failure.output = output;
      reject(failure);
    });
  });
}

/** Whether a program exists and answers `args` with success. */
export const works = (command, args = ["--version"]) =>
  run(command, args).then(
    () => true,
    () => false,
  );

/** Whether the module at `url` is the script that node was started with. */
export const isMain = (url) => process.argv[1] === fileURLToPath(url);

/** Runs a script's main function: exit code 1 and a readable message on failure. */
export function main(body) {
  body().catch((error) => {
    if (error.output) process.stderr.write(`\n${error.output}\n`);
    process.stderr.write(`\n✗ ${error instanceof StepError ? error.message : error.stack}\n`);
    process.exitCode = 1;
  });
}
