// R1: 100 MB through a proxy that cuts the connection again and again, with both clients. What arrives must be what was
// printed.

import { expected, printing } from "../scripts/cut.mjs";
import { measure } from "./children.mjs";
import { startCuttingProxy } from "../scripts/cutting-proxy.mjs";
import { withServer } from "./sides.mjs";
import { median, printGoal, save } from "./stats.mjs";

const bytes = 100_000_000;
const runs = 5;
/** A client that is stuck for so long is given up, milliseconds. */
const limit = 180_000;

export async function benchCut() {
  await withServer(async ({ server, ours }) => {
    const sandbox = await ours.createSandbox();
    const { sha256: wanted } = await expected(sandbox, bytes);
    const rows = [];
    for (const side of ["ours", "official"]) {
      // At the same time: a run is mostly pauses between connections.
      const seeds = Array.from({ length: runs }, (_, i) => i + 1);
      const run = (seed) => throughProxy(server, { side, sandbox: sandbox.name, seed, wanted });
      rows.push(...(await Promise.all(seeds.map(run))));
    }
    printRows(rows);
    const whole = (side) => rows.filter((row) => row.side === side && row.whole).length;
    console.log();
    printGoal(`R1 runs of ${runs} that were whole`, whole("ours"), runs, { unit: "runs", atLeast: true });
    await save("cut", { rows, wanted });
  });
}

async function throughProxy(server, { side, sandbox, seed, wanted }) {
  const proxy = await startCuttingProxy({ port: Number(new URL(server.apiEndpoint).port), seed });
  try {
    const endpoint = server.apiEndpoint.replace(/^http:\/\/[^/]+/, proxy.url);
    const task = {
      side,
      sandbox,
      endpoint,
      apiKey: server.apiKey,
      mode: "digest",
      command: `${printing(bytes)}; exit 7`,
    };
    const figures = await measure({ ...task, maxOutputBytes: 1024 * 1024 }, { limit });
    const whole = figures.sha256 === wanted && figures.bytes === bytes && figures.seams === 0 && figures.exitCode === 7;
    return { side, seed, whole, cuts: proxy.cuts, ...figures };
  } finally {
    await proxy.close();
  }
}

function printRows(rows) {
  console.log(`\n${bytes / 1e6} MB through a proxy that cuts every 256 KiB to 4 MiB`);
  for (const { side, seed, whole, cuts, hung, bytes: got, seams, exitCode, error, seconds } of rows) {
    const how = hung
      ? `given up after ${limit / 1000} s`
      : `${got} bytes (${got - bytes >= 0 ? "+" : ""}${got - bytes}), ${seams} seams, exit ${exitCode}, ${seconds.toFixed(1)} s${error ? `, ${error}` : ""}`;
    console.log(`  ${side.padEnd(9)} seed ${seed}: ${whole ? "whole" : "WRONG"}, ${cuts} cuts, ${how}`);
  }
  for (const side of ["ours", "official"]) {
    const times = rows.filter((row) => row.side === side && row.seconds).map(({ seconds }) => seconds);
    if (times.length > 0) console.log(`  ${side.padEnd(9)} ${median(times).toFixed(1)} s in the median`);
  }
}
