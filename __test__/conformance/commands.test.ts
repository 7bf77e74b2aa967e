// Commands: results, streams, callbacks, input, kill, reconnect.

import type { CommandHandle, Sandbox, SandboxClient } from "langsmith/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { startOfficial } from "./official.js";

describe("commands", () => {
  let official: Awaited<ReturnType<typeof startOfficial>>;
  let client: SandboxClient;
  let sandbox: Sandbox;
  beforeAll(async () => {
    official = await startOfficial();
    client = official.client;
    sandbox = await client.createSandbox();
  });
  afterAll(() => official.close());

  const start = (command: string, options = {}) =>
    sandbox.run(command, { ...options, wait: false }) as Promise<CommandHandle>;

  test("the result has both streams and the exit code", async () => {
    const result = await sandbox.run("echo out; echo err >&2; exit 3");
    expect(result).toMatchObject({ stdout: "out\n", stderr: "err\n", exit_code: 3 });
  });

  test("env, cwd and shell are honoured", async () => {
    const result = await sandbox.run('echo "$GREETING from $PWD"; echo $0', {
      env: { GREETING: "hello" },
      cwd: "/tmp",
      shell: "/bin/sh",
    });
    expect(result.stdout).toBe("hello from /tmp\n/bin/sh\n");
  });

  test("a missing command is exit code 127, no exception", async () => {
    expect((await sandbox.run("no-such-program")).exit_code).toBe(127);
  });

  test("chunks arrive while the command runs", async () => {
    // It goes on only after the first chunk was seen: a server that collects output until the end would hang here.
    const handle = await start("echo first; read line; echo second $line", { timeout: 30, closeInput: false });
    const seen: string[] = [];
    for await (const chunk of handle) {
      seen.push(chunk.data);
      if (seen.length === 1) handle.sendInput("go\n");
    }
    expect(seen.join("")).toBe("first\nsecond go\n");
    expect(seen.length).toBeGreaterThanOrEqual(2);
    expect((await handle.result).exit_code).toBe(0);
  });

  test("a handle knows its command, process and offsets", async () => {
    const handle = await start("printf 12345; printf abc >&2");
    const result = await handle.result;
    expect(handle.commandId).toMatch(/./);
    expect(handle.pid).toBeGreaterThan(0);
    expect(result).toMatchObject({ stdout: "12345", stderr: "abc", exit_code: 0 });
    expect([handle.lastStdoutOffset, handle.lastStderrOffset]).toEqual([5, 3]);
  });

  test("callbacks get every byte of their stream", async () => {
    let [out, err] = ["", ""];
    const result = await sandbox.run("seq 1 2000; seq 1 500 >&2", {
      onStdout: (text) => void (out += text),
      onStderr: (text) => void (err += text),
    });
    expect(result.exit_code).toBe(0);
    expect(out).toBe(Array.from({ length: 2000 }, (_, i) => `${i + 1}\n`).join(""));
    expect(err).toBe(Array.from({ length: 500 }, (_, i) => `${i + 1}\n`).join(""));
  });

  test("closed input is end of file", async () => {
    const handle = await start("cat; echo done", { timeout: 30, closeInput: false });
    handle.sendInput("one\ntwo\n");
    handle.closeInput();
    expect((await handle.result).stdout).toBe("one\ntwo\ndone\n");
  });

  test("characters of several bytes survive, wherever they are cut", async () => {
    const line = "zażółć gęślą 日本語 🦀";
    const result = await sandbox.run(`for i in $(seq 3000); do echo '${line}'; done`);
    expect(result.stdout).toBe(`${line}\n`.repeat(3000));
  });

  test("ten megabytes arrive whole", async () => {
    const result = await sandbox.run("head -c 10000000 /dev/zero | tr '\\0' x");
    expect(result.stdout.length).toBe(10_000_000);
    expect(result.stdout.replaceAll("x", "")).toBe("");
  });

  test("kill ends the command and its children", async () => {
    const handle = await start("sleep 1000 & echo started; wait", { timeout: 0 });
    for await (const chunk of handle) {
      if (chunk.data.includes("started")) handle.kill();
    }
    expect((await handle.result).exit_code).not.toBe(0);
    expect((await sandbox.run("grep -lx sleep /proc/[0-9]*/comm | wc -l")).stdout.trim()).toBe("0");
  });

  test("a second handle replays a finished command", async () => {
    const handle = await start("seq 1 100");
    const { stdout } = await handle.result;
    const again = await sandbox.reconnect(handle.commandId!);
    expect((await again.result).stdout).toBe(stdout);
    const tail = await sandbox.reconnect(handle.commandId!, { stdoutOffset: 5 });
    expect((await tail.result).stdout).toBe(stdout.slice(5));
  });

  test("a second handle joins a running command", async () => {
    const handle = await start("echo before; read line; echo after $line", { timeout: 30, closeInput: false });
    const other = await sandbox.reconnect(handle.commandId!);
    for await (const chunk of other) {
      // The official client drops input that is sent before its socket is open.
      if (chunk.data.includes("before")) other.sendInput("it\n");
    }
    const expected = { stdout: "before\nafter it\n", exit_code: 0 };
    expect(await other.result).toMatchObject(expected);
    expect(await handle.result).toMatchObject(expected);
  });

  test("a signal is an exit code above 128", async () => {
    expect((await sandbox.run("kill -TERM $$")).exit_code).toBe(128 + 15);
  });

  test("a run configuration names user, directory and environment", async () => {
    const runConfig = { user: "65534", work_dir: "/tmp", env_vars: { GREETING: "hello" } };
    const result = await sandbox.run('echo "$(id -u) $PWD $GREETING"', { runConfig });
    expect(result.stdout).toBe("65534 /tmp hello\n");
  });

  test("a pseudo-terminal merges the streams and takes input", async () => {
    const handle = await start("stty -echo; test -t 0 && test -t 2 && echo terminal; cat; echo err >&2", {
      timeout: 30,
      pty: true,
    });
    for await (const chunk of handle) {
      if (chunk.data.includes("terminal")) handle.sendInput("line\n\x04");
    }
    const result = await handle.result;
    expect(result).toMatchObject({ stdout: "terminal\r\nline\r\nerr\r\n", stderr: "", exit_code: 0 });
  });

  test("a command ends with its last client if asked to", async () => {
    const handle = await start("echo $$ > /tmp/pid; echo ready; sleep 1000", { killOnDisconnect: true });
    // This client hangs up when the loop is left.
    for await (const _ of handle) break;
    await sandbox.run("while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.01; done", { timeout: 30 });
  });

  test("a command nobody is attached to ends after its idle time", async () => {
    const handle = await start("echo $$ > /tmp/idle; echo ready; sleep 1000", { idleTimeout: 1 });
    for await (const _ of handle) break;
    await sandbox.run("while kill -0 $(cat /tmp/idle) 2>/dev/null; do sleep 0.01; done", { timeout: 30 });
  });

  test("a loop that was left goes on where it was", async () => {
    const handle = await start("echo first; until [ -e /tmp/go-on ]; do sleep 0.01; done; echo second", {
      timeout: 30,
    });
    const seen: string[] = [];
    for await (const chunk of handle) {
      seen.push(chunk.data);
      break;
    }
    await sandbox.write("/tmp/go-on", "");
    for await (const chunk of handle) seen.push(chunk.data);
    expect(seen.join("")).toBe("first\nsecond\n");
  });

  test("many commands at once do not mix", async () => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => sandbox.run(`echo ${i}; sleep 0.1; echo ${i}`)),
    );
    expect(results.map(({ stdout }) => stdout)).toEqual(Array.from({ length: 20 }, (_, i) => `${i}\n${i}\n`));
  });
});
