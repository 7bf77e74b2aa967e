// `npm run quickstart`: from a fresh checkout to the streamed output of a program in a sandbox. It runs before
// node_modules exists, so it imports nothing but Node's own modules and the scripts beside it.

import { createRequire } from "node:module";
import { join } from "node:path";

import { build } from "./build.mjs";
import { platformName } from "./platform.mjs";
import { checkPrerequisites, installNodeModules } from "./prerequisites.mjs";
import { main, root, run, seconds, step, StepError } from "./step.mjs";

const program = `
import os, platform, time
print("hello from Python", platform.python_version(), "as pid", os.getpid(), "on", platform.node(), flush=True)
for n in range(1, 6):
    print(f"  {n} * {n} = {n * n}", flush=True)
    time.sleep(0.2)
print("my /home holds", os.listdir("/home"), "- the host's files stay the host's", flush=True)
`;

async function quickstart() {
  const start = performance.now();
  if (process.platform !== "linux") {
    throw new StepError(
      "The sandbox server needs Linux. On this system only the client works, against a server elsewhere.",
    );
  }
  await checkPrerequisites();
  await installNodeModules();
  await build("release");
  await doctor();
  await tryIt();
  console.log(`\nIt works, ${seconds(start)} in all. Next:`);
  console.log("  node examples/agent.mjs   the README's example");
  console.log("  npm test                  everything that is tested, with all set-up");
  console.log("  docs/ARCHITECTURE.md      how it is made");
}

async function doctor() {
  console.log("▸ sandwired doctor: what this machine can do");
  const binary = join(root, "npm", platformName(), "sandwired");
  await run(binary, ["doctor"], { live: true }).catch(() => {
    throw new StepError("This machine can't isolate a sandbox; the table above names each reason and its remedy.");
  });
}

async function tryIt() {
  const { LocalServer } = createRequire(import.meta.url)("../index.js");
  const server = await step("start a server", () => LocalServer.start());
  try {
    const client = server.client();
    const sandbox = await step("create a sandbox", () => client.createSandbox());
    console.log("▸ run python3 in it, chunk by chunk as it prints:\n");
    await sandbox.write("/home/user/hello.py", program);
    const handle = await sandbox.run("/usr/bin/python3 /home/user/hello.py", { wait: false });
    for await (const chunk of handle) process.stdout.write(`    ${chunk.data.replaceAll(/\n(?=.)/g, "\n    ")}`);
    const result = await handle.result;
    if (result.exit_code !== 0) throw new StepError(`python3 ended with exit code ${result.exit_code}`);
    console.log();
    await step("delete the sandbox", () => client.deleteSandbox(sandbox.name));
  } finally {
    await step("stop the server", () => server.close());
  }
}

main(quickstart);
