// A program ends when it has nothing to do: nothing of the package keeps it alive but what it waits for.

import { describe, expect, it } from "vitest";

import { useLocalServer } from "../e2e/local.js";
import { runNode } from "./child.js";

const local = useLocalServer();
const node = (script: string, flags?: string[]) => runNode(local.server, local.sandbox.name, script, flags);

describe("the program ends by itself", () => {
  it.each([
    ["after a run, with the client open", `await sandbox.run("true");`],
    ["with a handle that nobody reads", `await sandbox.run("sleep 600", { wait: false });`],
    ["with a handle that nobody reads and that has output", `await sandbox.run("yes", { wait: false });`],
    ["after a break", `for await (const _ of await sandbox.run("echo a; sleep 600", { wait: false })) break;`],
    [
      "after a break in the middle of much output",
      `for await (const _ of await sandbox.run("yes", { wait: false })) break;`,
    ],
    [
      "with a signal that still could abort",
      `
      const { signal } = globalThis.controller = new AbortController();
      await sandbox.run("sleep 600", { wait: false, signal });`,
    ],
    [
      "after an abort",
      `
      const error = await sandbox.run("sleep 600", { signal: AbortSignal.timeout(100) }).catch((reason) => reason);
      if (error.name !== "TimeoutError") throw error;`,
    ],
    [
      "after a terminal",
      `for await (const _ of await sandbox.run("echo a; sleep 600", { wait: false, pty: true })) break;`,
    ],
    [
      "after a web stream that was read half",
      `await (await sandbox.run("echo a; sleep 600", { wait: false })).stdout.getReader().read();`,
    ],
    [
      "after web streams",
      `
      const handle = await sandbox.run("echo a; echo b >&2", { wait: false });
      await Promise.all([new Response(handle.stdout).text(), new Response(handle.stderr).text(), handle.result]);`,
    ],
    [
      "after a handle with callbacks",
      `await (await sandbox.run("echo a", { wait: false, onStdout: () => {}, onStderr: async () => {} })).result;`,
    ],
    [
      "after a new handle took over",
      `
      const first = await sandbox.run("echo a; sleep 600", { wait: false });
      for await (const _ of first) break;
      await first.reconnect();`,
    ],
    ...["", `for await (const { type } of messages) if (type === "stdout") break;`].map((then): [string, string] => [
      `with a low-level stream that is ${then ? "left" : "dropped"}`,
      `
      const url = sandbox.dataplane_url;
      const [messages] = await sandwire.runWsStream(url, process.env.KEY, "echo a; sleep 600");
      ${then}`,
    ]),
    ["after a closed client", `client.close();`],
    ["with a local server that it did not close", `await sandwire.LocalServer.start();`],
    ["after an error", `await sandbox.read("/none").catch(() => {});`],
  ])("%s", async (_, script) => {
    const ended = await node(`${script}\nprint("end of script");`);
    expect(ended).toMatchObject({ code: 0, signal: null, stdout: "end of script\n", stderr: "" });
  });

  it("but not while it waits for output or for a result", async () => {
    const waiting = await node(`
      const handle = await sandbox.run("sleep 0.4; echo late", { wait: false });
      for await (const { data } of handle) print(data.trim());
      print(String((await sandbox.run("sleep 0.4; exit 3")).exit_code));`);
    expect(waiting).toMatchObject({ code: 0, stdout: "late\n3\n" });
  });
});

describe("rejections", () => {
  it("that nobody asked for never end the program", async () => {
    const ended = await node(`
      process.on("unhandledRejection", (error) => print("unhandled " + error));
      const own = await sandwire.LocalServer.start();
      const box = await own.client({ maxRetries: 0 }).createSandbox();
      const handle = await box.run("cat", { wait: false });
      void handle.result;
      process.removeAllListeners("warning");
      process.on("warning", () => {});
      process.kill(own.pid, "SIGKILL");
      for (let i = 0; i < 5; i++) {
        void handle.sendInput("x"); void handle.kill(); void handle.closeInput();
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
      handle.close();
      print("end of script");`);
    expect(ended.stdout).toBe("end of script\n");
    expect(ended).toMatchObject({ code: 0, signal: null });
  });
});
