// Streaming output: S1-S5 (rate, cpu, event-loop delay) and S6 (memory of a slow consumer). Both clients read the very
// same bytes of the bench server, and what a command prints in a real sandbox.

import { withBenchServer } from "./bench-server.mjs";
import { measure, measureInterleaved } from "./children.mjs";
import { withServer } from "./sides.mjs";
import { median, printGoal, save } from "./stats.mjs";

const roundCount = 5;
const MB = 1e6;
const line = `printf '%63s\\n' '' | tr ' ' x`;

const cases = [
  { key: "S1", name: "64 B", size: 64, count: 1_500_000, text: "ascii" },
  { key: "S2", name: "4 KB", size: 4096, count: 100_000, text: "ascii" },
  { key: "S3", name: "32 KB", size: 32_768, count: 12_500, text: "ascii" },
  { key: "S4", name: "4 KB, not ASCII", size: 4096, count: 50_000, text: "mixed" },
];

const goals = {
  S1: [["msg/s, times the official client's", "rate", 5]],
  S2: [["MB/s, times the official client's", "rate", 3]],
  S3: [["MB/s, times the official client's", "rate", 3.5]],
  S4: [["MB/s, times the official client's", "rate", 3]],
};

export async function benchStream(profile) {
  const results = { rows: [], drains: {} };
  await withBenchServer(profile, async (server) => {
    for (const what of cases) results.rows.push(...(await benchServerRows(server, what, results.drains)));
    results.slow = await slowConsumers(server);
  });
  await withServer(async (sides) => results.rows.push(...(await sandboxRows(sides))));
  console.log("\nGoals");
  for (const { key } of cases) printCaseGoals(key, results.rows);
  printSlowGoals(results.slow);
  await save("stream", results);
}

async function benchServerRows({ endpoint, drain }, { key, name, size, count, text }, drains) {
  const command = `emit ${size} ${count} ${text}`;
  drains[key] = await drain(command);
  const common = { endpoint, apiKey: "none", mode: "stream", command, warm: `emit ${size} 2000 ${text}` };
  const tasks = [
    { ...common, side: "ours", sandbox: "plain" },
    { ...common, side: "official", sandbox: "plain" },
    { ...common, side: "ours", sandbox: "extended" },
  ];
  const names = ["sandwire", "langsmith 0.10.5", "sandwire, with the extension"];
  const taken = await measureInterleaved(tasks, roundCount);
  const rows = taken.map((figures, i) => summary(key, names[i], size * count, figures));
  print(`${key}: ${name}, ${count} chunks (the server alone: ${(drains[key] / MB).toFixed(0)} MB/s on the wire)`, rows);
  return rows;
}

/** What `yes` prints in a sandbox, through pipes, the server and the client. */
async function sandboxRows({ server, ours }) {
  const bytes = 400 * MB;
  const { name } = await ours.createSandbox();
  const command = `yes "$(${line} | head -c 63)" | head -c ${bytes}`;
  const { apiEndpoint: endpoint, apiKey } = server;
  const common = { endpoint, apiKey, sandbox: name, mode: "stream", command, warm: "seq 1 10000" };
  const sides = ["ours", "official"].map((side) => ({ ...common, side }));
  const taken = await measureInterleaved(sides, roundCount);
  const names = ["sandwire", "langsmith 0.10.5"];
  const rows = taken.map((figures, i) => summary("sandwired", names[i], bytes, figures));
  print("The same from a real command in a sandbox, 64-byte lines", rows);
  return rows;
}

/** Medians of a row's rounds. `bytes` are those of the output, without the frames around it. */
function summary(key, name, bytes, figures) {
  const of = (value) => median(figures.map(value));
  return {
    key,
    name,
    messages: of(({ chunks, seconds }) => chunks / seconds),
    rate: of(({ seconds }) => bytes / seconds / MB),
    cpu: of(({ cpu }) => cpu / (bytes / 1e9)),
    delay: of(({ delay }) => delay),
    rss: of(({ rss }) => rss / MB),
    figures,
  };
}

function print(title, rows) {
  console.log(`\n${title}`);
  const width = Math.max(...rows.map(({ name }) => name.length));
  console.log(`  ${"".padEnd(width)}      msg/s      MB/s   cpu s/GB   delay p99 ms   RSS MB`);
  for (const { name, messages, rate, cpu, delay, rss } of rows) {
    const cells = [
      messages.toFixed(0).padStart(10),
      rate.toFixed(0).padStart(9),
      cpu.toFixed(2).padStart(10),
      delay.toFixed(2).padStart(14),
      rss.toFixed(0).padStart(8),
    ];
    console.log(`  ${name.padEnd(width)} ${cells.join(" ")}`);
  }
}

function printCaseGoals(key, rows) {
  const [ours, official] = rows.filter((row) => row.key === key);
  for (const [name, figure, goal] of goals[key]) {
    printGoal(`${key} ${name}`, ours[figure] / official[figure], goal, { unit: "x", atLeast: true });
  }
  if (key !== "S4")
    printGoal(`${key} cpu, share of the official client's`, ours.cpu / official.cpu, 1 / 3, { unit: "x" });
  printGoal(`S5 event-loop delay p99 (${key})`, ours.delay, 3);
}

const offers = [100, 400];

async function slowConsumers({ endpoint }) {
  const slow = [];
  for (const side of ["ours", "official"]) {
    for (const offered of offers) {
      const command = `emit 4096 ${Math.round((offered * MB) / 4096)}`;
      const common = { endpoint, apiKey: "none", sandbox: "plain", command, warm: "emit 4096 20000" };
      const task = { ...common, side, mode: "slow", take: 1500, maxOutputBytes: 1024 * 1024 };
      const figures = [];
      for (let round = 0; round < 3; round++) figures.push(await measure(task));
      slow.push({ side, offered, growth: median(figures.map(({ growth }) => growth / MB)), figures });
    }
  }
  console.log("\nS6: growth of memory, one chunk taken per millisecond");
  for (const { side, offered, growth } of slow) {
    console.log(`  ${side.padEnd(9)} ${String(offered).padStart(4)} MB offered: ${growth.toFixed(1).padStart(6)} MB`);
  }
  return slow;
}

function printSlowGoals(slow) {
  const [less, more] = slow.filter(({ side }) => side === "ours");
  printGoal("S6 growth of memory, 400 MB offered", more.growth, 16, { unit: "MB" });
  printGoal("S6 growth from 100 MB to 400 MB offered", more.growth - less.growth, 4, { unit: "MB" });
}
