// The examples of the LangSmith sandbox guide, in TypeScript, as its users write them.

import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

import * as sandwire from "../../index.mjs";
import { rejection, until, useLocalServer } from "./local.js";

const local = useLocalServer();

/** Whether a command line with this word in it runs in the sandbox. The pattern does not match itself. */
const runs = async (word: string) =>
  (await local.sandbox.run(`grep -lsa '[${word[0]}]${word.slice(1)}' /proc/[0-9]*/cmdline`)).success;

/** Another process of the same user, with the package and a way to the sandbox. */
async function elsewhere(body: string, ...args: string[]): Promise<string> {
  const { apiEndpoint, apiKey } = local.server;
  const source = `
    import { SandboxClient } from ${JSON.stringify(new URL("../../index.mjs", import.meta.url).href)};
    const [apiEndpoint, apiKey, name, ...args] = process.argv.slice(1);
    const client = new SandboxClient({ apiEndpoint, apiKey });
    const sandbox = await client.getSandbox(name);
    ${body}`;
  const argv = ["--input-type=module", "-e", source, "--", apiEndpoint, apiKey, local.sandbox.name, ...args];
  const { stdout } = await promisify(execFile)(process.execPath, argv, { timeout: 20_000 });
  return stdout;
}

describe("running", () => {
  it("with callbacks", async () => {
    const [out, err]: string[][] = [[], []];
    const result = await local.sandbox.run("echo building; echo careful >&2; echo built", {
      timeout: 600,
      onStdout: (text) => out.push(text),
      onStderr: (text) => err.push(text),
    });
    expect([out.join(""), err.join("")]).toEqual(["building\nbuilt\n", "careful\n"]);
    expect(result).toMatchObject({ success: true, stdout: "building\nbuilt\n", stderr: "careful\n" });
  });

  it("with a handle, its chunks and its result", async () => {
    const handle = await local.sandbox.run("echo out; echo err >&2; exit 3", { timeout: 600, wait: false });
    expect(handle.commandId).toMatch(/^[\w-]{16,}$/);
    let log = "";
    for await (const chunk of handle) log += `[${chunk.stream === "stdout" ? "OUT" : "ERR"}] ${chunk.data}`;
    expect(log.split("\n").sort()).toEqual(["", "[ERR] err", "[OUT] out"]);
    expect((await handle.result).exit_code).toBe(3);
  });

  it("with a handle and callbacks", async () => {
    const seen: string[] = [];
    const options = { wait: false, onStdout: (text: string) => void seen.push(text) } as const;
    const handle = await local.sandbox.run("read name; echo hello $name", options);
    await handle.sendInput("you\n");
    expect(await handle.result).toMatchObject({ stdout: "hello you\n", exit_code: 0 });
    expect(seen.join("")).toBe("hello you\n");
  });

  it("times out", async () => {
    const error = await rejection(local.sandbox.run("sleep 999", { timeout: 1 }));
    expect(error).toBeInstanceOf(sandwire.CommandTimeoutError);
  });
});

describe("timeout: 0", () => {
  it("break when the server is up, do other work, then kill", async () => {
    const handle = await local.sandbox.run("echo Starting; echo Ready; sleep 4711", { timeout: 0, wait: false });
    for await (const chunk of handle) if (chunk.data.includes("Ready")) break;
    expect(await runs("4711")).toBe(true);
    await handle.kill();
    const result = await handle.result;
    expect(result).toMatchObject({ outcome: "killed", success: false });
    expect(result.exit_code).not.toBe(0);
    await until(async () => !(await runs("4711")));
  });

  it("works with callbacks too", async () => {
    expect((await local.sandbox.run("echo a", { timeout: 0, onStdout: () => {} })).stdout).toBe("a\n");
  });
});

describe("killing", () => {
  it("from outside the loop", async () => {
    const handle = await local.sandbox.run("echo up; sleep 3600", { timeout: 7200, wait: false });
    let output = "";
    for await (const chunk of handle) {
      output += chunk.data;
      void sleep(20).then(() => handle.kill());
    }
    expect(output).toBe("up\n");
    expect((await handle.result).exit_code).not.toBe(0);
  });

  it("by a signal that the command may answer", async () => {
    const script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    const handle = await local.sandbox.run(script, { wait: false });
    for await (const chunk of handle) if (chunk.data.includes("up")) break;
    expect(await handle.kill("SIGTERM")).toBe(true);
    expect(await handle.result).toMatchObject({ outcome: "exited", exit_code: 7, stdout: "up\nbye\n" });
    expect(await handle.kill("SIGTERM")).toBe(false);
  });

  it("tells the signal that ended the command", async () => {
    const handle = await local.sandbox.run("echo up; exec sleep 3600", { wait: false });
    for await (const _ of handle) break;
    await handle.kill("SIGINT");
    expect(await handle.result).toMatchObject({ exit_code: 130, signal: 2 });
  });
});

describe("input", () => {
  it("answers a prompt, without any option for it", async () => {
    const script = `python3 -c 'name = input("Name: "); print(f"Hello {name}")'`;
    const handle = await local.sandbox.run(script, { timeout: 30, wait: false });
    let output = "";
    for await (const chunk of handle) {
      if (chunk.data.includes("Name:")) void handle.sendInput("World\n");
      output += chunk.data;
    }
    expect(output).toBe("Name: Hello World\n");
    expect((await handle.result).exit_code).toBe(0);
  });

  it("is any bytes, and so is output", async () => {
    const bytes = new Uint8Array(65_536).map((_, index) => index * 31 + (index >> 8));
    const copied = await local.sandbox.run("cat", { input: bytes, output: "bytes" });
    expect(Buffer.compare(copied.stdout, bytes)).toBe(0);
    const handle = await local.sandbox.run("cat", { wait: false });
    await handle.sendInput(bytes);
    await handle.closeInput();
    expect(Buffer.compare(Buffer.from(await new Response(handle.stdout).arrayBuffer()), bytes)).toBe(0);
    expect(handle.lastStdoutOffset).toBe(bytes.length);
    const text = await local.sandbox.reconnect(handle.commandId);
    for await (const _ of text) continue;
    expect(text.lastStdoutOffset).toBe(bytes.length);
  });
});

describe("a terminal", () => {
  it("break, type, and iterate again: a Python session", async () => {
    const env = { PYTHON_BASIC_REPL: "1" };
    const handle = await local.sandbox.run("python3", { pty: true, env, wait: false });
    let output = "";
    const readUntil = async (text: string) => {
      output = "";
      for await (const chunk of handle) {
        output += chunk.data;
        if (output.includes(text)) return;
      }
    };
    await readUntil(">>> ");
    await handle.sendInput("print('hel' + 'lo')\n");
    await readUntil("hello\r\n");
    expect(output).toContain("hello\r\n");
    await handle.sendInput("exit()\n");
    for await (const _ of handle) continue;
    expect((await handle.result).exit_code).toBe(0);
  });

  it("is what top wants", async () => {
    const result = await local.sandbox.run("top -b -n 1", { pty: true });
    expect(result.stdout).toMatch(/PID/);
    expect(result).toMatchObject({ exit_code: 0, stderr: "" });
  });

  it("has a size, which changes", async () => {
    const handle = await local.sandbox.run("stty size; read x; stty size", { pty: true, wait: false });
    for await (const chunk of handle) if (chunk.data.includes("24 80")) break;
    expect(await handle.resize({ cols: 132, rows: 43 })).toBe(true);
    await handle.sendInput("\n");
    expect((await handle.result).stdout).toContain("43 132");
  });

  it("ends input with closeInput()", async () => {
    const handle = await local.sandbox.run("cat; echo over", { pty: true, wait: false });
    await handle.sendInput("line\n");
    await handle.closeInput();
    expect((await handle.result).stdout).toBe("line\r\nline\r\nover\r\n");
  });
});

describe("the life of a command", () => {
  it("another process reconnects by its id, and gets it all", async () => {
    const handle = await local.sandbox.run("echo one; read x; echo two $x; exit 5", { wait: false });
    for await (const _ of handle) break;
    handle.close();
    const body = `
      const handle = await sandbox.reconnect(args[0]);
      await handle.sendInput("three\\n");
      let output = "";
      for await (const { data } of handle) output += data;
      console.log(JSON.stringify([output, (await handle.result).exit_code]));`;
    expect(JSON.parse(await elsewhere(body, handle.commandId))).toEqual(["one\ntwo three\n", 5]);
    const mine = await handle.reconnect();
    expect((await mine.result).stdout).toBe("two three\n");
  });

  it("an ended one can be reconnected to, until its time is over", async () => {
    const start = async (options: object) => {
      const handle = await local.sandbox.run("echo kept", { wait: false, ...options });
      await handle.result;
      return handle.commandId;
    };
    const again = await local.sandbox.reconnect(await start({}));
    expect((await again.result).stdout).toBe("kept\n");
    again.close();
    const expiring = await start({ ttlSeconds: 1 });
    let error: any;
    await until(async () => {
      const handle = await local.sandbox.reconnect(expiring).catch((reason: unknown) => void (error = reason));
      handle?.close();
      return error !== undefined;
    });
    expect(error).toBeInstanceOf(sandwire.SandboxOperationError);
    expect(error.errorType).toBe("SessionExpired");
  });

  it("killOnDisconnect: leaving the loop kills", async () => {
    const options = { killOnDisconnect: true, wait: false } as const;
    const handle = await local.sandbox.run("echo Ready; sleep 4712", options);
    for await (const chunk of handle) if (chunk.data.includes("Ready")) break;
    await until(async () => !(await runs("4712")));
    const ended = await (await local.sandbox.reconnect(handle.commandId)).result;
    expect(ended).toMatchObject({ stdout: "Ready\n", success: false });
  });

  it("killOnDisconnect: a new handle takes over without a kill", async () => {
    const options = { killOnDisconnect: true, wait: false } as const;
    const handle = await local.sandbox.run("echo Ready; read x; echo got $x", options);
    await handle[Symbol.asyncIterator]().next();
    const again = await handle.reconnect();
    await again.sendInput("it\n");
    expect(await again.result).toMatchObject({ stdout: "got it\n", exit_code: 0 });
  });

  it("a short idleTimeout ends what nobody is attached to", async () => {
    const handle = await local.sandbox.run("sleep 4713", { timeout: 0, idleTimeout: 1, wait: false });
    expect(await runs("4713")).toBe(true);
    handle.close();
    await until(async () => !(await runs("4713")));
  });

  it("fire and forget: it lives on when its client is gone, and all of it can be had later", async () => {
    const body = `
      const handle = await sandbox.run("echo early; sleep 0.3; echo late; exit 6", {
        timeout: 0,
        idleTimeout: -1,
        ttlSeconds: -1,
        wait: false,
      });
      console.log(handle.commandId);
      client.close();`;
    const commandId = (await elsewhere(body)).trim();
    const handle = await local.sandbox.reconnect(commandId);
    expect(await handle.result).toMatchObject({ stdout: "early\nlate\n", exit_code: 6 });
  });
});

describe("the web streams", () => {
  it("bring both streams apart, and the result beside them", async () => {
    const handle = await local.sandbox.run("seq 1 200000; seq 1 1000 >&2; exit 4", { wait: false });
    const [out, err, result] = await Promise.all([
      new Response(handle.stdout).text(),
      new Response(handle.stderr).text(),
      handle.result,
    ]);
    expect(out.endsWith("\n199999\n200000\n")).toBe(true);
    expect(out.length).toBe(1_288_895);
    expect(err.endsWith("\n1000\n")).toBe(true);
    expect(result).toMatchObject({ exit_code: 4, stdout_bytes: 1_288_895 });
  });

  it("that nobody reads, or somebody cancels, hold nothing up", async () => {
    const script = "seq 1 2000000; echo done >&2";
    const unread = await local.sandbox.run(script, { wait: false, maxOutputBytes: 1000 });
    expect(await new Response(unread.stderr).text()).toBe("done\n");
    const cancelled = await local.sandbox.run(script, { wait: false, maxOutputBytes: 1000 });
    const reader = cancelled.stdout.getReader();
    await reader.read();
    await reader.cancel();
    expect(await new Response(cancelled.stderr).text()).toBe("done\n");
    const both = await local.sandbox.run(script, { wait: false, maxOutputBytes: 1000 });
    await Promise.all([both.stdout.cancel(), both.stderr.cancel()]);
    expect(await both.result).toMatchObject({ exit_code: 0, stdout_bytes: 14_888_896 });
  });

  it("hold the command back while nobody reads on, and lose nothing", async () => {
    const handle = await local.sandbox.run("seq 1 3000000 && echo end >&2", { wait: false, maxOutputBytes: 1000 });
    let size = 0;
    for await (const piece of handle.stdout) {
      if (size === 0) await sleep(100);
      size += piece.length;
    }
    expect(size).toBe(22_888_896);
    expect(await handle.result).toMatchObject({ exit_code: 0, gaps: [] });
  });
});

describe("the examples of the README", () => {
  const example = (name: string) =>
    promisify(execFile)(process.execPath, [fileURLToPath(new URL(`../../examples/${name}`, import.meta.url))], {
      timeout: 25_000,
    });

  it("run, and end by themselves", async () => {
    const [agent, handle] = await Promise.all(["agent.mjs", "handle.mjs"].map(example));
    expect(agent).toMatchObject({ stderr: "" });
    expect(agent?.stdout.endsWith("19\nexit code 0\n")).toBe(true);
    expect(handle).toMatchObject({ stderr: "" });
    expect(handle?.stdout).toMatch(/^42\r\n[^]*one\ntwo\n\nexit code 143 by signal 15\n$/m);
  });
});
