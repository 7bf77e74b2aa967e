// `npm run bench -- NAME`: measures us beside our peers, in one run, on the build that is published.

import { build } from "../scripts/build.mjs";
import { main, StepError } from "../scripts/step.mjs";
import { withWorkDirectory } from "../scripts/workdir.mjs";

const benches = {
  create: async (work) => (await import("./create.mjs")).benchCreate(work),
  memory: async () => (await import("./memory.mjs")).benchMemory(),
  run: async (work) => (await import("./exec.mjs")).benchRun(work),
};

main(async () => {
  const [name] = process.argv.slice(2);
  if (!Object.hasOwn(benches, name ?? "")) throw new StepError(`npm run bench -- ${Object.keys(benches).join(" | ")}`);
  if (process.platform !== "linux") throw new StepError("the sandbox server needs Linux");
  await build("dist");
  await withWorkDirectory(async (work) => {
    process.env.TMPDIR = work;
    await benches[name](work);
  });
});
