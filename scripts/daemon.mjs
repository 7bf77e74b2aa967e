// `sandwired` started by hand rather than by LocalServer: with a state directory that outlives it, so that it can be
// killed and started again.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import { platformName } from "./platform.mjs";
import { root } from "./step.mjs";

const apiKey = "a-key-for-tests";

const installed = join(root, "npm", platformName(), "sandwired");

/**
 * Starts a server on `stateDir`; resolves when it is ready. It ends with this process at the latest. Another `program`
 * still uses the installed `sandwire-init`.
 */
export async function startDaemon(stateDir, { program = installed, env = {} } = {}) {
  const child = spawn(program, ["serve", "--listen", "127.0.0.1:0", "--state-dir", stateDir], {
    env: { ...process.env, SANDWIRED_API_KEY: apiKey, SANDWIRED_INIT: `${dirname(installed)}/sandwire-init`, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const killWithUs = () => child.kill("SIGKILL");
  process.once("exit", killWithUs);
  child.once("exit", () => process.off("exit", killWithUs));
  const [line] = await Promise.race([once(createInterface({ input: child.stdout }), "line"), exited]);
  const event = JSON.parse(String(line));
  if (event.event !== "ready") throw new Error(`sandwired did not start: ${line}`);
  /** Ends it by a signal, or waits a moment for an end of its own; resolves with the exit code or the signal of the end. */
  const end = async (signal) => {
    if (signal) child.kill(signal);
    const dead = await Promise.race([exited, signal ? new Promise(() => {}) : sleep(5000, undefined, { ref: false })]);
    if (!dead) return child.kill("SIGKILL") && (await exited, "alive");
    const [code, by] = dead;
    return by ?? code;
  };
  return { config: { apiEndpoint: event.endpoint, apiKey }, pid: child.pid, end };
}
