// `sandwired` started by hand rather than by LocalServer: with a state directory that outlives it, so that it can be
// killed and started again.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { platformName } from "./platform.mjs";
import { root } from "./step.mjs";

const apiKey = "a-key-for-tests";

/** Starts a server on `stateDir`; resolves when it is ready. It ends with this process at the latest. */
export async function startDaemon(stateDir) {
  const program = join(root, "npm", platformName(), "sandwired");
  const child = spawn(program, ["serve", "--listen", "127.0.0.1:0", "--state-dir", stateDir], {
    env: { ...process.env, SANDWIRED_API_KEY: apiKey },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const killWithUs = () => child.kill("SIGKILL");
  process.once("exit", killWithUs);
  child.once("exit", () => process.off("exit", killWithUs));
  const [line] = await Promise.race([once(createInterface({ input: child.stdout }), "line"), exited]);
  const event = JSON.parse(String(line));
  if (event.event !== "ready") throw new Error(`sandwired did not start: ${line}`);
  const end = async (signal) => {
    child.kill(signal);
    await exited;
  };
  return { config: { apiEndpoint: event.endpoint, apiKey }, pid: child.pid, end };
}
