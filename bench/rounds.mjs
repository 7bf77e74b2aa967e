// Runs that print ten bytes, on the bench server: S7 (one after the other) and S8 (64 at once).

import { withBenchServer } from "./bench-server.mjs";
import { measureInterleaved } from "./children.mjs";
import { median, printGoal, quantile } from "./stats.mjs";

const roundCount = 5;
const command = "emit 10 1";
const names = ["sandwire", "langsmith 0.10.5", "sandwire, with the extension"];

/** Measures and prints; returns what is to be saved. */
export function benchRounds(profile) {
  return withBenchServer(profile, async (server) => {
    const sequential = await sequentialRuns(server);
    const atOnce = await runsAtOnce(server);
    console.log();
    printGoals(sequential, atOnce);
    return { sequential, atOnce };
  });
}

const tasksFor = ({ endpoint }, rest) =>
  [
    ["ours", "plain"],
    ["official", "plain"],
    ["ours", "extended"],
  ].map(([side, sandbox]) => ({ side, sandbox, endpoint, apiKey: "none", command, ...rest }));

async function sequentialRuns(server) {
  const taken = await measureInterleaved(tasksFor(server, { mode: "rounds", count: 1000 }), roundCount);
  const floors = [];
  for (let round = 0; round < roundCount; round++) floors.push({ taken: await server.rounds(1000), cpu: 0 });
  const rows = [...names, "floor: a blocking socket"].map((name, i) => {
    const figures = taken[i] ?? floors;
    const blocks = figures.map((figure) => figure.taken);
    const cpu = median(figures.map((figure) => figure.cpu));
    return { name, p50: median(blocks.map(median)), p99: median(blocks.map((b) => quantile(b, 0.99))), cpu, figures };
  });
  console.log('\nrun("...") of ten bytes, one after the other, on the bench server');
  for (const { name, p50, p99, cpu } of rows) {
    console.log(
      `  ${name.padEnd(30)} p50 ${p50.toFixed(0).padStart(5)} us, p99 ${p99.toFixed(0).padStart(6)} us, cpu ${cpu.toFixed(0)} us`,
    );
  }
  return rows;
}

async function runsAtOnce(server) {
  const taken = await measureInterleaved(tasksFor(server, { mode: "burst", count: 4000, atOnce: 64 }), roundCount);
  const rows = taken.map((figures, i) => ({
    name: names[i],
    rate: median(figures.map(({ rate }) => rate)),
    cpu: median(figures.map(({ cpu }) => cpu)),
    figures,
  }));
  console.log("\nThe same, 64 at once");
  for (const { name, rate, cpu } of rows) {
    console.log(`  ${name.padEnd(30)} ${rate.toFixed(0).padStart(6)} runs/s, cpu ${cpu.toFixed(0)} us per run`);
  }
  return rows;
}

function printGoals([ours, official, , floor], [many, officialMany]) {
  printGoal("S7 p50, share of the official client's", ours.p50 / official.p50, 0.6, { unit: "x" });
  printGoal("S7 p99, share of the official client's", ours.p99 / official.p99, 0.25, { unit: "x" });
  printGoal("S7 p50, times a round over a blocking socket", ours.p50 / floor.p50, 1.5, { unit: "x" });
  printGoal("S8 runs/s, times the official client's", many.rate / officialMany.rate, 3.5, { unit: "x", atLeast: true });
  printGoal("S8 cpu per run", many.cpu, 100, { unit: "us" });
}
