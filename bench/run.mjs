// `npm run bench -- NAME [--as-is]`: measures us beside our peers, in one run, on the build that is published, or with
// `--as-is` on the one that is there.

import { parseArgs } from "node:util";

import { build } from "../scripts/build.mjs";
import { main, StepError } from "../scripts/step.mjs";
import { withWorkDirectory } from "../scripts/workdir.mjs";
import { buildBenchServer } from "./bench-server.mjs";

const benches = {
  create: async (work) => (await import("./create.mjs")).benchCreate(work),
  cut: async () => (await import("./cut.mjs")).benchCut(),
  memory: async () => (await import("./memory.mjs")).benchMemory(),
  run: async (work, profile) => (await import("./exec.mjs")).benchRun(work, profile),
  stream: async (_, profile) => (await import("./stream.mjs")).benchStream(profile),
};

const needBenchServer = new Set(["run", "stream"]);

main(async () => {
  const { values, positionals } = parseArgs({ options: { "as-is": { type: "boolean" } }, allowPositionals: true });
  const [name] = positionals;
  if (!Object.hasOwn(benches, name ?? "")) throw new StepError(`npm run bench -- ${Object.keys(benches).join(" | ")}`);
  if (process.platform !== "linux") throw new StepError("the sandbox server needs Linux");
  const profile = values["as-is"] ? "release" : "dist";
  if (!values["as-is"]) await build(profile);
  if (needBenchServer.has(name)) await buildBenchServer(profile);
  await withWorkDirectory(async (work) => {
    process.env.TMPDIR = work;
    await benches[name](work, profile);
  });
});
