// Running commands: I3 (server side) and I4 (through the client) in a sandbox that exists, S7 and S8 on the bench server.

import { bubblewrap, crunExec, installPeers, startStopwatch } from "./peers.mjs";
import { benchRounds } from "./rounds.mjs";
import { serverTiming, timed, timingName, withServer } from "./sides.mjs";
import { interleave, printGoal, printTable, save } from "./stats.mjs";

const rounds = 7;
const perRound = 100;

export async function benchRun(work, profile) {
  await installPeers();
  const stopwatch = startStopwatch();
  try {
    await withServer(async (sides) => {
      const mine = await sides.ours.createSandbox();
      const theirs = await sides.official.getSandbox(mine.name);
      const contenders = [
        { name: 'sandwire run("true")', sample: () => timed(() => mine.run("true")) },
        { name: 'langsmith 0.10.5 run("true"), our server', sample: () => timed(() => theirs.run("true")) },
        { name: "floor: bash -c true, no sandbox", sample: () => stopwatch.time(["bash", "-c", "true"]) },
        await crunExec(work, stopwatch),
        await bubblewrap(work, stopwatch),
      ].filter(Boolean);
      const rows = await interleave(contenders, { rounds, perRound });
      printTable('Run "true" in a sandbox that exists, end to end', rows);
      for (const { remove } of contenders) await remove?.();
      const [spawn] = await interleave([await serverSide(sides, mine)], { rounds, perRound });
      console.log();
      printGoal(`I3 ${spawn.name}, p50`, spawn.p50, 0.25);
      printGoal('I4 run("true") with bash, p50', rows[0].p50, 2);
      await save("run", { rows, spawn, ...(await benchRounds(profile)) });
    });
  } finally {
    stopwatch.stop();
  }
}

async function serverSide({ server }, { dataplane_url }) {
  const spawn = () => serverTiming(server, `${dataplane_url}/execute`, { command: "true" }, "spawn");
  const { exact } = await spawn();
  return { name: timingName("start of a process", exact), sample: async () => (await spawn()).time };
}
