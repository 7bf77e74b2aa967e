// `npm run long -- NAME [ARGUMENT]`: what takes longer than a test may, run by hand. Prints its figures; fails if they are
// wrong.

import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";

import { build, buildDebugServer } from "./build.mjs";
import { crashAtPlaces, crashUnderLoad } from "./crash.mjs";
import { manyCutRuns } from "./cut.mjs";
import { fuzzAll } from "./fuzz.mjs";
import { leakOfDeletes, leakOfKill } from "./leak.mjs";
import { schemathesis as describedBy } from "./schemathesis.mjs";
import { soak as soakFor } from "./soak.mjs";
import { main, step, StepError } from "./step.mjs";
import { withWorkDirectory } from "./workdir.mjs";

const runs = { crash, cut, fuzz, leak, schemathesis, soak };

/** R1: `count` runs of 100 MB through cuts, 100 unless told. */
async function cut(work, count = 100) {
  const stateDir = await mkdtemp(join(work, "cut-"));
  await step(`${count} runs of 100 MB through a proxy that cuts`, async (progress) => {
    const cuts = await manyCutRuns(stateDir, { count, atOnce: 10, bytes: 100_000_000, progress });
    return `every SHA-256 equal, ${cuts} cuts`;
  });
}

/** R2: the server dies at every place of a debug build, then under load, so many times, 50 unless told. */
async function crash(work, rounds = 50) {
  const program = await buildDebugServer();
  await step("the server dies at each place in turn", async (progress) => {
    const stateDir = await mkdtemp(join(work, "crash-"));
    const { places, sandboxes } = await crashAtPlaces(stateDir, { program, progress });
    return `${places} places, ${sandboxes} sandboxes as they must be`;
  });
  await step(`kill -9 under load, ${rounds} times`, async (progress) => {
    const stateDir = await mkdtemp(join(work, "crash-"));
    const totals = await crashUnderLoad(stateDir, { rounds, atOnce: 6, progress });
    return `${totals.requests} requests; compared ${totals.sandboxes} sandboxes and ${totals.files} files`;
  });
}

/** R4: each fuzz target for so many minutes, 10 unless told. */
async function fuzz(work, minutes = 10) {
  await fuzzAll(work, minutes);
}

async function leak(work) {
  const deletes = await step("2,000 sandboxes created, used and deleted", async () =>
    leakOfDeletes(await mkdtemp(join(work, "deletes-")), { count: 2000, atOnce: 8 }),
  );
  console.table(deletes);
  sameOrThrow("idle", deletes.idleAfter, deletes.idle);
  sameOrThrow("after the end", deletes.afterEnd, deletes.before);
  for (let round = 1; round <= 5; round++) {
    const kill = await step(`kill -9 with 200 sandboxes, restart, end (${round} of 5)`, async () =>
      leakOfKill(await mkdtemp(join(work, "kill-")), { count: 200 }),
    );
    console.table(kill);
    sameOrThrow("after the end", kill.afterEnd, kill.before);
  }
}

/** So many requests for each path of the server's description, 500 unless told. */
async function schemathesis(work, examples = 500) {
  await describedBy(work, examples);
}

/** Mixed load for so many minutes, 30 unless told; nothing may grow. */
async function soak(work, minutes = 30) {
  const stateDir = await mkdtemp(join(work, "soak-"));
  const outcome = await step(`${minutes} minutes of mixed load`, (progress) =>
    soakFor(stateDir, { minutes, progress }),
  );
  const every = Math.ceil(outcome.samples.length / 30);
  console.table(outcome.samples.filter((_, index) => index % every === 0));
  console.table(outcome.thirds);
  console.table({ "quiet before": outcome.quiet, "quiet after": outcome.quietAfter });
  console.log(outcome.done);
  if (outcome.wrong.length > 0) throw new StepError(outcome.wrong.join("; "));
}

/** The copy of the host's /etc stays in a state directory, so `files` is not compared. */
function sameOrThrow(when, { files: _, ...actual }, { files: __, ...wanted }) {
  const different = Object.keys(wanted).filter((key) => actual[key] !== wanted[key]);
  if (different.length > 0) throw new StepError(`left behind ${when}: ${different.join(", ")}`);
}

main(async () => {
  const [name, argument] = process.argv.slice(2);
  if (!Object.hasOwn(runs, name ?? "")) throw new StepError(`npm run long -- ${Object.keys(runs).join(" | ")}`);
  await build("release");
  await withWorkDirectory((work) => runs[name](work, argument === undefined ? undefined : Number(argument)));
});
