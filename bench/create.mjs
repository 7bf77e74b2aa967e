// Making sandboxes: I1 (server side), I2 (through the client until a command has returned), I5 (many at once).

import { bubblewrap, crun, installPeers, startStopwatch } from "./peers.mjs";
import { serverTiming, timed, timingName, withServer } from "./sides.mjs";
import { interleave, printGoal, printTable, save } from "./stats.mjs";

const rounds = 7;
const perRound = 30;
const burst = 400;
const atOnce = 16;

export async function benchCreate(work) {
  await installPeers();
  const stopwatch = startStopwatch();
  try {
    await withServer(async (sides) => {
      const peers = [await bubblewrap(work, stopwatch), await crun(work, stopwatch)].filter(Boolean);
      const rows = await interleave([await serverSide(sides), ...peers], { rounds, perRound });
      printTable("Create until ready, server side, beside programs that make a sandbox and run `true` in it", rows);
      const clients = await interleave([throughOurs(sides), throughOfficial(sides)], { rounds, perRound });
      printTable('Create through the client until run("true") has returned', clients);
      const rate = await perSecond(sides);
      printGoals(rows, clients, rate);
      await save("create", { rows, clients, rate });
    });
  } finally {
    stopwatch.stop();
  }
}

function printGoals(rows, clients, rate) {
  const [ours, ...peers] = rows;
  console.log();
  printGoal("I1 create -> ready, p50", ours.p50, 2.5);
  printGoal("I1 create -> ready, p99", ours.p99, 8);
  for (const { name, p50 } of peers) {
    const goal = name.startsWith("crun") ? 2.5 : 1;
    printGoal(`I1 times faster than ${name.split(",")[0]}`, p50 / ours.p50, goal, { unit: "x", atLeast: true });
  }
  printGoal('I2 create until run("true") returned, p50', clients[0].p50, 6);
  printGoal("I5 creations", rate, 450, { unit: "per s", atLeast: true });
}

async function serverSide({ server, ours }) {
  const create = async () => {
    const answer = await serverTiming(server, `${server.apiEndpoint}/boxes`, { wait_for_ready: true }, "create");
    await ours.deleteSandbox(answer.json.name);
    return answer;
  };
  const { exact } = await create();
  return { name: timingName("sandwired, create", exact), sample: async () => (await create()).time };
}

const throughOurs = ({ ours }) => through("sandwire", ours);
const throughOfficial = ({ official }) => through("langsmith 0.10.5 on our server", official);

function through(name, client) {
  const sample = async () => {
    let sandbox;
    const time = await timed(async () => {
      sandbox = await client.createSandbox();
      await sandbox.run("true");
    });
    await sandbox.delete();
    return time;
  };
  return { name, sample };
}

/** Creations per second with several under way; deletions are not counted. */
async function perSecond({ ours }) {
  const names = [];
  const time = await timed(async () => {
    const lane = async () => {
      while (names.length < burst) {
        const slot = names.push(undefined) - 1;
        names[slot] = (await ours.createSandbox()).name;
      }
    };
    await Promise.all(Array.from({ length: atOnce }, lane));
  });
  for (const name of names) await ours.deleteSandbox(name);
  return names.length / (time / 1000);
}
