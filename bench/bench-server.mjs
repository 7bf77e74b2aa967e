// The bench server (crates/testkit/examples/bench-server): built, started, and measured itself.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { root, run, step } from "../scripts/step.mjs";

const program = (profile) => join(root, "target", profile, "examples", "bench-server");

/** Builds it; `profile` is that of cargo. */
export async function buildBenchServer(profile) {
  const target = ["-p", "sandwire-testkit", "--example", "bench-server"];
  await step(`compile the bench server (${profile})`, () =>
    run("cargo", ["build", "--locked", "--profile", profile, ...target]),
  );
}

/** Starts it and passes `{ endpoint, port, drain(command), rounds(count) }` to `body`. */
export async function withBenchServer(profile, body) {
  const child = spawn(program(profile), [], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [line] = await once(createInterface({ input: child.stdout }), "line");
    const port = Number(line);
    const probe = async (...args) => JSON.parse(await run(program(profile), args.map(String)));
    return await body({
      endpoint: `http://127.0.0.1:${port}`,
      port,
      /** Bytes on the wire per second that the server can send of a command. */
      drain: async (command) => {
        const { bytes, seconds } = await probe("drain", command);
        return bytes / seconds;
      },
      /** Microseconds of runs over a blocking socket: the floor. */
      rounds: (count) => probe("rounds", port, count),
    });
  } finally {
    child.kill("SIGKILL");
  }
}
