// Sandboxes leave nothing behind: neither when they are deleted, nor when the server ends, nor when it is killed.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";

import { type Sandbox, SandboxClient } from "../../index.mjs";
import { countTraces } from "../../scripts/traces.mjs";
import { lives, until } from "../e2e/local.js";

const { serverPaths } = createRequire(import.meta.url)("../../lib/load.js");
const sandwired: string = serverPaths().find((path: string) => existsSync(path));
const home = mkdtempSync(join(tmpdir(), "sandwire-left-"));
const stateDir = join(home, "state");
/** Only root may see the namespaces of processes whose ids are not its own. */
const rooted = process.getuid?.() === 0;
const keyFile = join(home, "key");

interface Running {
  child: ChildProcess;
  pid: number;
  client: SandboxClient;
}

let server: Running;
let clean: Awaited<ReturnType<typeof leftovers>>;

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

async function end() {
  const exit = ended(server.child);
  server.child.kill("SIGTERM");
  expect(await exit).toBe(0);
}

const allProcesses = () => readdirSync("/proc").filter((name) => /^\d+$/.test(name));

/** What a read gives, or nothing where the process is gone or not ours to look at. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Every process below the server, as the host sees them. */
function descendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of allProcesses()) {
    const stat = attempt(() => readFileSync(`/proc/${name}/stat`, "utf8"));
    const parent = Number(stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const below = (parent: number): number[] => (children.get(parent) ?? []).flatMap((child) => [child, ...below(child)]);
  return below(pid);
}

const netOf = (pid: number | string) => attempt(() => readlinkSync(`/proc/${pid}/ns/net`));

/** The net namespaces of processes, without our own. */
function netNamespaces(pids: number[]): Set<string> {
  const spaces = new Set(pids.map(netOf).filter((space) => space !== undefined));
  spaces.delete(netOf("self") ?? "");
  return spaces;
}

/** Who still keeps one of these namespaces: by living in it, by a descriptor, by a mount. */
function keepersOf(spaces: Set<string>): string[] {
  return allProcesses().filter((pid) => {
    if (spaces.has(netOf(pid) ?? "")) return true;
    const descriptors = attempt(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
    if (descriptors.some((fd) => spaces.has(attempt(() => readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? ""))) return true;
    const mounts = attempt(() => readFileSync(`/proc/${pid}/mountinfo`, "utf8")) ?? "";
    return [...mounts.matchAll(/net:\[\d+\]/g)].some(([space]) => spaces.has(space));
  });
}

/** What sandboxes could leave outside of the server. Machine-wide counts would see the neighbours too. */
async function leftovers() {
  const { mounts, sandboxFiles } = await countTraces(stateDir);
  return { mounts, sandboxFiles };
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

/** `count` sandboxes, 20 at a time, each used and with a process that stays. */
async function makeMany(count: number): Promise<Sandbox[]> {
  const made: Sandbox[] = [];
  while (made.length < count) made.push(...(await make(20)));
  return made;
}

async function make(count: number) {
  const made = await Promise.all(Array.from({ length: count }, () => server.client.createSandbox()));
  const command = "echo a > /tmp/a; (setsid sleep 600 &); cat /tmp/a";
  const results = await Promise.all(made.map((sandbox) => sandbox.run(command)));
  expect(results.map(({ stdout }) => stdout)).toEqual(made.map(() => "a\n"));
  return made;
}

beforeAll(async () => {
  writeFileSync(keyFile, "the-key\n", { mode: 0o600 });
  clean = await leftovers();
  server = await start();
});

afterAll(() => void server?.child.kill("SIGKILL"));

it("200 sandboxes, made, used and deleted", async () => {
  // A first round opens the connections that the client keeps.
  await Promise.all((await make(20)).map((sandbox) => sandbox.delete()));
  await until(() => descendants(server.pid).length === 0);
  await until(async () => (await leftovers()).sandboxFiles === 0);
  const before = holdings(server);
  const ids: string[] = [];
  const spaces = new Set<string>();
  for (let round = 0; round < 10; round++) {
    const made = await make(20);
    ids.push(...made.map(({ id }) => id ?? "?"));
    if (round === 0) expect(holdings(server).processes).toBeGreaterThanOrEqual(before.processes + 40);
    for (const space of netNamespaces(descendants(server.pid))) spaces.add(space);
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
  if (rooted) expect(spaces.size).toBeGreaterThanOrEqual(20);
  expect(keepersOf(spaces)).toEqual([]);
  expect(cgroupsOf(ids)).toEqual([]);
  expect(await leftovers()).toEqual(clean);
});

it("200 live sandboxes when the server is killed: nothing of them runs, and once deleted nothing is left", async () => {
  const idle = holdings(server);
  const ids = (await makeMany(200)).map(({ id }) => id ?? "?");
  const processes = descendants(server.pid);
  const spaces = netNamespaces(processes);
  expect(processes.length).toBeGreaterThanOrEqual(400);
  if (rooted) expect(spaces.size).toBe(200);
  expect((await leftovers()).sandboxFiles).toBeGreaterThanOrEqual(200);
  const end = ended(server.child);
  server.child.kill("SIGKILL");
  expect(await end).toBe("SIGKILL");
  await until(() => !processes.some(lives));
  server = await start();
  await until(() => cgroupsOf(ids).length === 0);
  const stopped = await server.client.listSandboxes();
  expect(stopped.map(({ id, status }) => [id, status]).sort()).toEqual(ids.map((id) => [id, "stopped"]).sort());
  for (const sandbox of stopped) await sandbox.delete();
  await vi.waitFor(async () => expect(await leftovers()).toEqual(clean), { timeout: 60_000, interval: 100 });
  expect(keepersOf(spaces)).toEqual([]);
  const { processes: left, mounts } = holdings(server);
  expect({ left, mounts }).toEqual({ left: idle.processes, mounts: idle.mounts });
  const sandbox = await server.client.createSandbox();
  expect((await sandbox.run("echo again")).stdout).toBe("again\n");
});

it("live sandboxes when the server is asked to end: only their files stay", async () => {
  const ids = (await make(10)).map(({ id }) => id ?? "?");
  const processes = descendants(server.pid);
  const spaces = netNamespaces(processes);
  await end();
  expect(processes.filter(lives)).toEqual([]);
  expect(keepersOf(spaces)).toEqual([]);
  expect(cgroupsOf(ids)).toEqual([]);
  expect((await leftovers()).sandboxFiles).toBeGreaterThan(0);
  server = await start();
  for (const sandbox of await server.client.listSandboxes()) await sandbox.delete();
  await end();
  expect(await leftovers()).toEqual(clean);
});
