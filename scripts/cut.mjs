// R1: a command that prints much, read through a proxy that cuts the connection again and again. Used by the test, by
// `npm run long -- cut` and by the benchmark.

import { createHash } from "node:crypto";
import { createRequire } from "node:module";

import { startCuttingProxy } from "./cutting-proxy.mjs";
import { startDaemon } from "./daemon.mjs";

const { SandboxClient } = createRequire(import.meta.url)("../index.js");

/** A command that prints so many bytes, each line another one, as fast as a pipe takes them. */
export const printing = (bytes) => `seq 1 20000000 | head -c ${bytes}`;

/** The ways to take output; each gives `hear` all text of stdout and resolves with the result. */
const ways = {
  async loop(sandbox, command, options, hear) {
    const handle = await sandbox.run(command, { ...options, wait: false });
    let next = 0;
    for await (const { data, offset } of handle) {
      if (offset !== next) throw new Error(`a chunk at ${offset} instead of ${next}`);
      next += Buffer.byteLength(data);
      hear(data);
    }
    return handle.result;
  },
  callbacks: (sandbox, command, options, hear) => sandbox.run(command, { ...options, onStdout: hear }),
  async result(sandbox, command, options, hear) {
    const result = await sandbox.run(command, { ...options, maxOutputBytes: 256 * 1024 ** 2 });
    hear(result.stdout);
    return result;
  },
};

/**
 * Runs the command once through a proxy of its own. Nothing but a connection may be lost: the same seed cuts the same way.
 *
 * @param {{ config: { apiEndpoint: string, apiKey: string }, sandbox: string, bytes: number, seed: number,
 *   way?: "loop" | "callbacks" | "result" }} run
 */
export async function cutRun({ config, sandbox, bytes, seed, way = "loop" }) {
  const { protocol, host, port } = new URL(config.apiEndpoint);
  const proxy = await startCuttingProxy({ port: Number(port), seed });
  const client = new SandboxClient({
    ...config,
    apiEndpoint: config.apiEndpoint.replace(`${protocol}//${host}`, proxy.url),
  });
  const hash = createHash("sha256");
  let heard = 0;
  const hear = (text) => {
    hash.update(text);
    heard += Buffer.byteLength(text);
  };
  try {
    const box = await client.getSandbox(sandbox);
    const options = { timeout: 0, maxOutputBytes: 1024 * 1024 };
    const result = await ways[way](box, `${printing(bytes)}; exit 7`, options, hear);
    const { exit_code: exitCode, gaps } = result;
    return { sha256: hash.digest("hex"), bytes: heard, exitCode, gaps: gaps.length, cuts: proxy.cuts };
  } finally {
    client.close();
    await proxy.close();
  }
}

/** What every run must give: measured by the sandbox itself. */
export async function expected(sandbox, bytes) {
  const { stdout } = await sandbox.run(`${printing(bytes)} | sha256sum`);
  return { sha256: stdout.split(" ")[0], bytes, exitCode: 7, gaps: 0 };
}

/** `count` runs, `atOnce` at a time; throws at the first that is not whole. Resolves with how many cuts there were. */
export async function manyCutRuns(stateDir, { count, atOnce, bytes, progress }) {
  const server = await startDaemon(stateDir);
  const client = new SandboxClient(server.config);
  try {
    const sandbox = await client.createSandbox();
    const wanted = await expected(sandbox, bytes);
    const waysInTurn = Object.keys(ways);
    let [seed, done, cuts] = [0, 0, 0];
    const lane = async () => {
      while (seed < count) {
        const run = { config: server.config, sandbox: sandbox.name, bytes, seed: ++seed };
        const { cuts: times, ...got } = await cutRun({ ...run, way: waysInTurn[run.seed % waysInTurn.length] });
        if (JSON.stringify(got) !== JSON.stringify(wanted)) {
          throw new Error(`seed ${run.seed}: ${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`);
        }
        cuts += times;
        progress(`${++done} of ${count} runs, ${cuts} cuts`);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, lane));
    return cuts;
  } finally {
    client.close();
    await server.end("SIGTERM");
  }
}
