// Runs a script in a Node process of its own, with the package and a connection to a server at hand.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

import type { LocalServer } from "../../index.mjs";

const entry = fileURLToPath(new URL("../../index.js", import.meta.url));

/** Where the script connects to. */
export type Endpoint = Pick<LocalServer, "apiEndpoint" | "apiKey">;

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/**
 * The script finds `sandwire`, `client`, `sandbox` (both connected to the server) and `print`. It must end by itself: a
 * process that hangs is killed and shows as `signal`.
 */
export function runNode(server: Endpoint, sandbox: string, script: string, flags: string[] = []): Promise<Ended> {
  const whole = `
    const sandwire = require(${JSON.stringify(entry)});
    const print = (text) => require("node:fs").writeSync(1, text + "\\n");
    const client = new sandwire.SandboxClient({ apiEndpoint: process.env.ENDPOINT, apiKey: process.env.KEY, maxRetries: 0 });
    (async () => {
      const sandbox = await client.getSandbox(${JSON.stringify(sandbox)});
      ${script}
    })();`;
  const env = { ...process.env, ENDPOINT: server.apiEndpoint, KEY: server.apiKey };
  return ended(spawn(process.execPath, [...flags, "-e", whole], { env, ...limits }));
}

/** Runs a whole program, as somebody would write it who has installed the package. */
export function runProgram(program: string, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  // A package can import itself by its name.
  const options = { cwd: dirname(entry), env: { ...process.env, ...env }, ...limits };
  return ended(spawn(process.execPath, ["--input-type=module", "-e", program], options));
}

const limits = { timeout: 60_000, killSignal: "SIGKILL" } as const;

function ended(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  const said = { stdout: "", stderr: "" };
  child.stdout.on("data", (data) => (said.stdout += data));
  child.stderr.on("data", (data) => (said.stderr += data));
  return new Promise((resolve) => child.once("close", (code, signal) => resolve({ ...said, code, signal })));
}
