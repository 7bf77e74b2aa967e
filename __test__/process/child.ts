// Runs a script in a Node process of its own, with the package and a connection to a server at hand.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

import type { LocalServer } from "../../index.mjs";

const entry = fileURLToPath(new URL("../../index.js", import.meta.url));

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
export function runNode(server: LocalServer, sandbox: string, script: string, flags: string[] = []): Promise<Ended> {
  const whole = `
    const sandwire = require(${JSON.stringify(entry)});
    const print = (text) => require("node:fs").writeSync(1, text + "\\n");
    const client = new sandwire.SandboxClient({ apiEndpoint: process.env.ENDPOINT, apiKey: process.env.KEY, maxRetries: 0 });
    (async () => {
      const sandbox = await client.getSandbox(${JSON.stringify(sandbox)});
      ${script}
    })();`;
  const env = { ...process.env, ENDPOINT: server.apiEndpoint, KEY: server.apiKey };
  const child = spawn(process.execPath, [...flags, "-e", whole], { env, timeout: 60_000, killSignal: "SIGKILL" });
  const ended = { stdout: "", stderr: "" };
  child.stdout.on("data", (data) => (ended.stdout += data));
  child.stderr.on("data", (data) => (ended.stderr += data));
  return new Promise((resolve) => child.once("close", (code, signal) => resolve({ ...ended, code, signal })));
}
