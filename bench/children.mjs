// Starts bench/child.mjs and reads what it measured.

import { spawn } from "node:child_process";
import { join } from "node:path";

import { root } from "../scripts/step.mjs";

const script = join(root, "bench", "child.mjs");

/**
 * One client in a process of its own. A child that does not end within `limit` milliseconds is ended, and gives
 * `{ hung: true }`.
 *
 * @param {object} task see bench/child.mjs
 */
export function measure(task, { limit = 120_000 } = {}) {
  const child = spawn(process.execPath, ["--expose-gc", script, JSON.stringify(task)], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: limit,
    killSignal: "SIGKILL",
  });
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (signal === "SIGKILL") return resolve({ hung: true });
      if (code === 0) return resolve(JSON.parse(output));
      reject(new Error(`the child ended with ${code}: ${JSON.stringify(task)}`));
    });
  });
}

/** Lets each task have its turn in each round, the first one rotating; a list of figures per task. */
export async function measureInterleaved(tasks, rounds) {
  const taken = tasks.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < tasks.length; i++) {
      const at = (round + i) % tasks.length;
      taken[at].push(await measure(tasks[at]));
    }
    process.stdout.write(`\r  round ${round + 1} of ${rounds}`);
  }
  process.stdout.write("\r\x1b[K");
  return taken;
}
