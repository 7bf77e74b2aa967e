// Nothing stays behind: file descriptors and active handles of the program, sockets of dropped handles, listeners.

import { readdirSync } from "node:fs";
import { expect, it } from "vitest";

import { until, useLocalServer } from "../e2e/local.js";
import { runNode } from "./child.js";

const local = useLocalServer();
const node = (script: string) => runNode(local.server, local.sandbox.name, script, ["--expose-gc"]);
const serverFds = () => readdirSync(`/proc/${local.server.pid}/fd`).length;

it("300 runs, handles, transfers and failures leave no descriptor and no handle", async () => {
  const ended = await node(`
    const fds = () => require("node:fs").readdirSync("/proc/self/fd").length;
    const resources = () => process.getActiveResourcesInfo().sort().join();
    const round = async () => {
      await sandbox.run("echo a");
      const handle = await sandbox.run("echo a; sleep 600", { wait: false });
      for await (const _ of handle) break;
      await handle.kill();
      await handle.result;
      (await sandbox.run("sleep 600", { wait: false, killOnDisconnect: true })).close();
      await sandbox.write("/tmp/leak", "x");
      await sandbox.read("/tmp/leak");
      await sandbox.read("/none").catch(() => {});
      await sandbox.run("sleep 600", { signal: AbortSignal.timeout(1) }).catch(() => {});
    };
    const settle = () => new Promise((resolve) => setTimeout(resolve, 300));
    for (let i = 0; i < 10; i++) await round();
    await settle();
    const before = [fds(), resources()];
    for (let i = 0; i < 50; i++) await round();
    await settle();
    const after = [fds(), resources()];
    print(JSON.stringify({ grown: after[0] - before[0], same: before[1] === after[1], before, after }));`);
  expect(ended).toMatchObject({ code: 0, stderr: "" });
  const { grown, same, ...detail } = JSON.parse(ended.stdout);
  expect(grown, JSON.stringify(detail)).toBeLessThanOrEqual(4);
  expect(same, JSON.stringify(detail)).toBe(true);
});

it("handles that are dropped are detached by the garbage collector", async () => {
  const before = serverFds();
  const ended = await node(`
    const drop = async () => {
      for (let i = 0; i < 40; i++) await sandbox.run("sleep 600", { wait: false, killOnDisconnect: true });
    };
    await drop();
    for (let i = 0; i < 200; i++) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 20));
      const left = (await sandbox.run("grep -lsa '[s]leep.600' /proc/[0-9]*/cmdline | wc -l")).stdout.trim();
      if (left === "0") { print("all gone"); return; }
    }
    print("some stayed");`);
  expect(ended).toMatchObject({ code: 0, stdout: "all gone\n", stderr: "" });
  await until(() => serverFds() <= before + 2);
});

it("collecting garbage in the middle of everything is safe", async () => {
  const ended = await node(`
    const busy = setInterval(globalThis.gc, 1);
    const results = await Promise.all(Array.from({ length: 20 }, async (_, i) => {
      let bytes = 0;
      for await (const { data } of await sandbox.run("seq 1 20000", { wait: false })) bytes += data.length;
      const { stdout } = await sandbox.run("seq 1 2000", { onStdout: () => {} });
      return bytes + stdout.length;
    }));
    clearInterval(busy);
    print([...new Set(results)].join());`);
  expect(ended).toMatchObject({ code: 0, stdout: `${108_894 + 8_893}\n`, stderr: "" });
});

it("an aborted signal that many calls shared has no listeners left", async () => {
  const ended = await node(`
    const { signal } = new AbortController();
    process.on("warning", (warning) => print(warning.name));
    for (let i = 0; i < 30; i++) {
      await sandbox.run("true", { signal });
      await (await sandbox.run("true", { signal, wait: false })).result;
      for await (const _ of await sandbox.run("echo a", { signal, wait: false })) continue;
      const [messages] = await sandwire.runWsStream(sandbox.dataplane_url, process.env.KEY, "echo a", { signal });
      for await (const _ of messages) continue;
    }
    await new Promise((resolve) => setImmediate(resolve));
    print(String(require("node:events").getEventListeners(signal, "abort").length));`);
  expect(ended).toMatchObject({ code: 0, stdout: "0\n" });
});
