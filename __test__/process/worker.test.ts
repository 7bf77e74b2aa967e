// The addon in worker threads: several at once, ended by themselves and in the middle of something.

import { expect, it } from "vitest";

import { useLocalServer } from "../e2e/local.js";
import { runNode } from "./child.js";

const local = useLocalServer();

const WORKERS = (body: string) => `
  const { Worker } = require("node:worker_threads");
  const code = \`
    const { workerData, parentPort } = require("node:worker_threads");
    const sandwire = require(workerData.entry);
    const client = new sandwire.SandboxClient({ apiEndpoint: process.env.ENDPOINT, apiKey: process.env.KEY });
    (async () => {
      const sandbox = await client.getSandbox(workerData.name);
      ${body}
    })();\`;
  const entry = Object.keys(require.cache).find((path) => /index.js$/.test(path));
  const start = () => new Worker(code, { eval: true, workerData: { entry, name: sandbox.name } });
  const ended = (worker) => new Promise((resolve, reject) => worker.once("exit", resolve).once("error", reject));`;

it("runs in several threads at once, and each ends by itself", async () => {
  const ended = await runNode(
    local.server,
    local.sandbox.name,
    `
    ${WORKERS('for (let i = 0; i < 20; i++) { const { stdout } = await sandbox.run("echo " + i); if (stdout.trim() !== String(i)) process.exit(9); }')}
    const codes = await Promise.all(Array.from({ length: 4 }, () => ended(start())));
    print(codes.join());
    print((await sandbox.run("echo main")).stdout.trim());`,
  );
  expect(ended).toMatchObject({ code: 0, signal: null, stdout: "0,0,0,0\nmain\n", stderr: "" });
});

it("an error keeps its class in a thread", async () => {
  const ended = await runNode(
    local.server,
    local.sandbox.name,
    `
    ${WORKERS('const e = await sandbox.read("/none").catch((x) => x); parentPort.postMessage([e.name, e instanceof sandwire.ResourceNotFoundError, e.resourceType].join());')}
    const worker = start();
    worker.on("message", print);
    await ended(worker);`,
  );
  expect(ended).toMatchObject({ code: 0, stdout: "ResourceNotFoundError,true,file\n" });
});

it("survives threads that are terminated while they stream, run and iterate", async () => {
  const ended = await runNode(
    local.server,
    local.sandbox.name,
    `
    ${WORKERS('void sandbox.run("sleep 600").catch(() => {}); parentPort.postMessage(1); for await (const _ of await sandbox.run("yes", { wait: false, killOnDisconnect: true }));')}
    for (let i = 0; i < 5; i++) {
      const worker = start();
      await new Promise((resolve) => worker.once("message", resolve));
      await new Promise((resolve) => setTimeout(resolve, 50));
      await worker.terminate();
    }
    print((await sandbox.run("echo main")).stdout.trim());`,
  );
  expect(ended, ended.stderr).toMatchObject({ code: 0, signal: null, stdout: "main\n" });
});
