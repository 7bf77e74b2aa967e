// Commands that are held by a handle: streaming, input, killing, coming back.

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";

import * as sandwire from "../../index.mjs";
import { rejection, until, useLocalServer } from "./local.js";

const local = useLocalServer();
const start = (command: string, options: object = {}): Promise<sandwire.CommandHandle> =>
  local.sandbox.run(command, { ...options, wait: false });

async function collect(handle: sandwire.CommandHandle, stream = "stdout"): Promise<string> {
  let text = "";
  for await (const chunk of handle) if (chunk.stream === stream) text += chunk.data;
  return text;
}

describe("streaming", () => {
  it("brings output while the command runs", async () => {
    const handle = await start("echo first; read line; echo second $line");
    const loop = handle[Symbol.asyncIterator]();
    expect((await loop.next()).value).toEqual({ stream: "stdout", data: "first\n", offset: 0 });
    await handle.sendInput("more\n");
    expect((await loop.next()).value).toEqual({ stream: "stdout", data: "second more\n", offset: 6 });
    expect((await loop.next()).done).toBe(true);
    expect(await handle.result).toMatchObject({ stdout: "first\nsecond more\n", exit_code: 0 });
    expect(handle.pid).toBeGreaterThan(0);
  });

  it("has offsets without gap or overlap, however much it is", async () => {
    const handle = await start("seq 1 300000; seq 1 1000 >&2");
    const next = { stdout: 0, stderr: 0 };
    let text = "";
    for await (const { stream, data, offset } of handle) {
      expect(offset).toBe(next[stream]);
      next[stream] += Buffer.byteLength(data);
      if (stream === "stdout") text += data;
    }
    expect(text.split("\n").length).toBe(300_001);
    expect(await handle.result).toMatchObject({ stdout_bytes: next.stdout, stderr_bytes: next.stderr, gaps: [] });
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([next.stdout, next.stderr]);
  });

  it("holds the command back while nobody reads, and loses nothing", async () => {
    const handle = await start("seq 1 3000000; echo done > /tmp/seq-done");
    for await (const _ of handle) break;
    await sleep(300);
    expect((await local.sandbox.run("cat /tmp/seq-done")).success).toBe(false);
    let last = "";
    let bytes = 0;
    for await (const { data } of handle) {
      bytes += data.length;
      last = (last + data).slice(-20);
    }
    expect(last.endsWith("2999999\n3000000\n")).toBe(true);
    expect((await handle.result).stdout_bytes).toBeGreaterThan(bytes);
    expect((await handle.result).gaps).toEqual([]);
  });

  it("goes on in a new handle without a gap, however much came that nobody took", async () => {
    const handle = await start("seq 1 3000000");
    for await (const _ of handle) break;
    await sleep(300);
    let next = handle.lastStdoutOffset;
    expect(next).toBeGreaterThan(0);
    const again = await handle.reconnect();
    for await (const { data, offset } of again) {
      expect(offset).toBe(next);
      next += data.length;
    }
    expect(next).toBe(22_888_896);
    expect((await again.result).gaps).toEqual([]);
  });

  it("calls back in order, and gives the result", async () => {
    const seen: string[] = [];
    const result = await local.sandbox.run("echo a; sleep 0.05; echo b >&2; sleep 0.05; echo c", {
      onStdout: (text) => void seen.push(`out ${text.trim()}`),
      onStderr: (text) => void seen.push(`err ${text.trim()}`),
    });
    expect(seen).toEqual(["out a", "err b", "out c"]);
    expect(result.stdout).toBe("a\nc\n");
  });

  it("gives the result after a break, however much is left and however little is kept", async () => {
    const handle = await start("seq 1 2000000", { maxOutputBytes: 1000 });
    for await (const _ of handle) break;
    expect(await handle.result).toMatchObject({ exit_code: 0, stdout_truncated: true, stdout_bytes: 14_888_896 });
  });

  it("goes on with two commands at once", async () => {
    const [one, two] = await Promise.all([start("seq 1 50000"), start("seq 50001 100000")]);
    const [first, second] = await Promise.all([collect(one), collect(two)]);
    expect(first.endsWith("\n50000\n")).toBe(true);
    expect(second.startsWith("50001\n")).toBe(true);
  });
});

describe("input", () => {
  it("stays open until it is closed", async () => {
    const handle = await start("cat; echo eof");
    await handle.sendInput("one ");
    await handle.sendInput(Buffer.from("two\n"));
    expect(await handle.closeInput()).toBe(true);
    expect((await handle.result).stdout).toBe("one two\neof\n");
    expect(await handle.sendInput("late")).toBe(false);
  });

  it("of any size arrives whole", async () => {
    const handle = await start("sha256sum");
    const data = Buffer.alloc(2_000_000, "0123456789");
    await handle.sendInput(data);
    await handle.closeInput();
    const { createHash } = await import("node:crypto");
    expect((await handle.result).stdout.split(" ")[0]).toBe(createHash("sha256").update(data).digest("hex"));
  });

  it("can drive an interpreter", async () => {
    const handle = await start("python3 -u -i -q");
    await handle.sendInput("print(6 * 7)\n");
    let text = "";
    for await (const { data } of handle) {
      text += data;
      if (text.includes("42")) break;
    }
    await handle.sendInput("exit(5)\n");
    expect((await handle.result).exit_code).toBe(5);
  });
});

describe("kill", () => {
  it("ends the command and all it started; result is non-zero", async () => {
    const handle = await start("sleep 6161 & sleep 6162");
    expect(await handle.kill()).toBe(true);
    const result = await handle.result;
    expect(result).toMatchObject({ outcome: "killed", success: false });
    expect(result.exit_code).not.toBe(0);
    await until(async () => !(await local.sandbox.run("grep -lsa '[6]16[12]' /proc/[0-9]*/cmdline")).success);
    expect(await handle.kill()).toBe(false);
  });

  it("ends a wait for the result inside the loop, however much output there is", async () => {
    const handle = await start("yes", { maxOutputBytes: 1000 });
    let codes = 0;
    for await (const _ of handle) {
      if (codes === 0) await handle.kill();
      codes += 1;
      expect((await handle.result).exit_code).toBe(137);
    }
    expect(codes).toBeGreaterThan(0);
    const short = await start("seq 1 1000");
    for await (const _ of short) expect((await short.result).exit_code).toBe(0);
  });

  it("by an abort does not wait for a callback that never settles", async () => {
    const controller = new AbortController();
    const onStdout = () => {
      controller.abort();
      return new Promise<void>(() => {});
    };
    const call = local.sandbox.run("yes", { onStdout, signal: controller.signal });
    expect((await rejection(call)).name).toBe("AbortError");
  });

  it("works after a break, with output still waiting", async () => {
    const handle = await start("yes");
    for await (const _ of handle) break;
    await handle.kill();
    expect((await handle.result).exit_code).not.toBe(0);
  });
});

describe("coming back", () => {
  it("sandbox.close() ends the attachments and leaves commands and sandbox alone", async () => {
    const sandbox = await local.client.getSandbox(local.sandbox.name);
    const handle = await sandbox.run("read line; echo got $line", { wait: false });
    sandbox.close();
    sandbox.close();
    expect((await rejection(collect(handle))).message).toMatch(/handle was closed/);
    expect((await rejection(handle.result)).message).toMatch(/handle was closed/);
    const again = await sandbox.reconnect(handle.commandId);
    await again.sendInput("it\n");
    expect((await again.result).stdout).toBe("got it\n");
  });

  it("a detached command lives on; reconnect brings the rest", async () => {
    await local.sandbox.run("mkfifo /tmp/gate");
    const handle = await start("echo one; read x < /tmp/gate; echo two; exit 3");
    for await (const _ of handle) break;
    expect(handle.lastStdoutOffset).toBe(4);
    handle.detach();
    await local.sandbox.run("echo go > /tmp/gate");
    const again = await local.sandbox.reconnect(handle.commandId, { stdoutOffset: handle.lastStdoutOffset });
    expect(await collect(again)).toBe("two\n");
    expect((await again.result).exit_code).toBe(3);
    const whole = await local.sandbox.reconnect(handle.commandId);
    expect((await whole.result).stdout).toBe("one\ntwo\n");
  });

  it("to a command that never was is told", async () => {
    const error = await rejection(local.sandbox.reconnect("no-such-command"));
    expect(error).toBeInstanceOf(sandwire.SandboxOperationError);
    expect(error).toMatchObject({ errorType: "CommandNotFound", operation: "reconnect" });
  });

  it("killOnDisconnect: leaving the loop kills", async () => {
    const handle = await start("echo up; sleep 7171", { killOnDisconnect: true });
    for await (const _ of handle) break;
    await until(async () => !(await local.sandbox.run("grep -lsa '[7]171' /proc/[0-9]*/cmdline")).success);
  });
});
