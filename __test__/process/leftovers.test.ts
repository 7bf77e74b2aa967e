// Sandboxes leave nothing behind: neither when they are deleted, nor when the server ends, nor when it is killed.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";

import { SandboxClient } from "../../index.mjs";
import { lives, until } from "../e2e/local.js";

const { serverPaths } = createRequire(import.meta.url)("../../lib/load.js");
const sandwired: string = serverPaths().find((path: string) => existsSync(path));
const home = mkdtempSync(join(tmpdir(), "sandwire-left-"));
const stateDir = join(home, "state");
const keyFile = join(home, "key");
const hostMounts = () => readFileSync("/proc/self/mountinfo", "utf8").split("\n").length;

interface Running {
  child: ChildProcess;
  pid: number;
  client: SandboxClient;
}

let server: Running;
let mounts: number;

async function start(): Promise<Running> {
  const args = ["serve", "--listen", "127.0.0.1:0", "--api-key-file", keyFile, "--state-dir", stateDir];
  const child = spawn(sandwired, args, { stdio: ["ignore", "pipe", "inherit"] });
  const line = await new Promise<string>((resolve) => child.stdout.once("data", (data) => resolve(String(data))));
  const { event, endpoint } = JSON.parse(line.split("\n")[0] ?? "");
  expect(event).toBe("ready");
  return { child, pid: child.pid ?? 0, client: new SandboxClient({ apiEndpoint: endpoint, apiKey: "the-key" }) };
}

const ended = (child: ChildProcess) =>
  new Promise<number | string | null>((resolve) => child.once("exit", (code, signal) => resolve(signal ?? code)));

/** Every process below the server, as the host sees them. */
function descendants(pid: number): number[] {
  const children = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return Number(readFileSync(`/proc/${name}/stat`, "utf8").split(") ")[1]?.split(" ")[1]) === pid;
      } catch {
        return false;
      }
    })
    .map(Number);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

/** What a server holds on this machine. */
function holdings({ pid }: Running) {
  return {
    processes: descendants(pid).length,
    mounts: readFileSync(`/proc/${pid}/mountinfo`, "utf8").split("\n").length,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    files: Number(execFileSync("sh", ["-c", `find '${stateDir}' 2>/dev/null | wc -l`])),
  };
}

const cgroupsOf = (ids: string[]) =>
  execFileSync("sh", ["-c", "find /sys/fs/cgroup -type d 2>/dev/null"], { encoding: "utf8", maxBuffer: 1 << 28 })
    .split("\n")
    .filter((path) => ids.some((id) => path.includes(id)));

async function make(count: number) {
  const made = await Promise.all(Array.from({ length: count }, () => server.client.createSandbox()));
  const command = "echo a > /tmp/a; (setsid sleep 600 &); cat /tmp/a";
  const results = await Promise.all(made.map((sandbox) => sandbox.run(command)));
  expect(results.map(({ stdout }) => stdout)).toEqual(made.map(() => "a\n"));
  return made;
}

beforeAll(async () => {
  writeFileSync(keyFile, "the-key\n", { mode: 0o600 });
  mounts = hostMounts();
  server = await start();
});

afterAll(() => void server?.child.kill("SIGKILL"));

it("200 sandboxes, made, used and deleted", async () => {
  // A first round opens the connections that the client keeps.
  await Promise.all((await make(20)).map((sandbox) => sandbox.delete()));
  await until(() => descendants(server.pid).length === 0);
  const before = holdings(server);
  const ids: string[] = [];
  for (let round = 0; round < 10; round++) {
    const made = await make(20);
    ids.push(...made.map(({ id }) => id ?? "?"));
    if (round === 0) expect(holdings(server).processes).toBeGreaterThanOrEqual(before.processes + 40);
    await Promise.all(made.map((sandbox) => sandbox.delete()));
  }
  await vi.waitFor(
    () => {
      const { descriptors, ...now } = holdings(server);
      expect(now).toEqual({ processes: before.processes, mounts: before.mounts, files: before.files });
      expect(descriptors).toBeLessThanOrEqual(before.descriptors + 2);
    },
    { timeout: 60_000, interval: 100 },
  );
  expect(new Set(ids).size).toBe(200);
  expect(cgroupsOf(ids)).toEqual([]);
  expect(hostMounts()).toBe(mounts);
});

it("20 live sandboxes when the server is killed: the next start cleans up", async () => {
  const made = await make(20);
  const ids = made.map(({ id }) => id ?? "?");
  const processes = descendants(server.pid);
  expect(processes.length).toBeGreaterThanOrEqual(40);
  const end = ended(server.child);
  server.child.kill("SIGKILL");
  expect(await end).toBe("SIGKILL");
  await until(() => !processes.some(lives));
  server = await start();
  await until(() => cgroupsOf(ids).length === 0);
  expect(hostMounts()).toBe(mounts);
  const sandbox = await server.client.createSandbox();
  expect((await sandbox.run("echo again")).stdout).toBe("again\n");
});

it("live sandboxes when the server is asked to end", async () => {
  const ids = (await make(10)).map(({ id }) => id ?? "?");
  const processes = descendants(server.pid);
  const end = ended(server.child);
  server.child.kill("SIGTERM");
  expect(await end).toBe(0);
  expect(processes.filter(lives)).toEqual([]);
  expect(cgroupsOf(ids)).toEqual([]);
  expect(hostMounts()).toBe(mounts);
});
