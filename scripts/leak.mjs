// Makes, uses and deletes many sandboxes and compares what is on the machine before and after, once with a server that
// goes on, once with one that is killed in the middle and started again.

import { readdir } from "node:fs/promises";
import { createRequire } from "node:module";

import { startDaemon } from "./daemon.mjs";
import { countTraces, settle } from "./traces.mjs";

const { SandboxClient } = createRequire(import.meta.url)("../index.js");

/**
 * `count` sandboxes, `atOnce` at a time, on one server. Returns the counts before the server, while it was idle before and
 * after the sandboxes, and after it ended; the server's own descriptors are among the idle ones.
 */
export async function leakOfDeletes(stateDir, { count, atOnce }) {
  const before = await countTraces(stateDir);
  const server = await startDaemon(stateDir);
  const client = new SandboxClient(server.config);
  await useMany(client, 2 * atOnce, atOnce);
  const idle = { ...(await countTraces(stateDir)), descriptors: await descriptors(server) };
  await useMany(client, count, atOnce);
  const idleAfter = { ...(await settle(stateDir, withoutDescriptors(idle))), descriptors: await descriptors(server) };
  client.close();
  await server.end("SIGTERM");
  return { before, idle, idleAfter, afterEnd: await settleLike(stateDir, before) };
}

/** `count` sandboxes with a process in each, then `kill -9`, a restart and an orderly end. */
export async function leakOfKill(stateDir, { count }) {
  const before = await countTraces(stateDir);
  const first = await startDaemon(stateDir);
  const client = new SandboxClient(first.config);
  for (let i = 0; i < count; i++) {
    const sandbox = await client.createSandbox();
    await sandbox.run("sleep 100000 > /dev/null 2>&1 &");
    await sandbox.write("/home/user/file", "x".repeat(10_000));
  }
  const busy = await countTraces(stateDir);
  client.close();
  await first.end("SIGKILL");
  const second = await startDaemon(stateDir);
  await deleteAll(second);
  const restarted = await settle(stateDir, { processes: before.processes + 1, sandboxFiles: 0 });
  await second.end("SIGTERM");
  return { before, busy, restarted, afterEnd: await settleLike(stateDir, before) };
}

/** What a killed server had is there again, stopped. */
async function deleteAll(server) {
  const client = new SandboxClient(server.config);
  for (const sandbox of await client.listSandboxes()) await sandbox.delete();
  client.close();
}

/** The copy of the host's /etc stays in the state directory: the number of all files may differ. */
const settleLike = (stateDir, { files: _, ...wanted }) => settle(stateDir, wanted);

async function useMany(client, count, atOnce) {
  let left = count;
  const lane = async () => {
    while (left-- > 0) {
      const sandbox = await client.createSandbox();
      await sandbox.write("/home/user/file", "content");
      const { stdout } = await sandbox.run("cat /home/user/file; sleep 1000 > /dev/null 2>&1 &");
      if (stdout !== "content") throw new Error(`a sandbox answered ${JSON.stringify(stdout)}`);
      await sandbox.delete();
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
}

const descriptors = async ({ pid }) => (await readdir(`/proc/${pid}/fd`)).length;

const withoutDescriptors = ({ descriptors: _, ...counts }) => counts;
