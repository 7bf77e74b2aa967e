// Commands that are waited for.

import { describe, expect, it } from "vitest";

import * as sandwire from "../../index.mjs";
import { rejection, until, useLocalServer } from "./local.js";

const local = useLocalServer();
const run: sandwire.Sandbox["run"] = ((command: string, options?: object) =>
  local.sandbox.run(command, options)) as never;

/** Whether a command line with this word in it runs in the sandbox. The pattern does not match itself. */
const runs = async (word: string) =>
  (await run(`grep -lsa '[${word[0]}]${word.slice(1)}' /proc/[0-9]*/cmdline`)).exit_code === 0;

describe("the result", () => {
  it("has output, exit code and sizes", async () => {
    expect(await run("echo out; echo err >&2; exit 7")).toMatchObject({
      stdout: "out\n",
      stderr: "err\n",
      exit_code: 7,
      success: false,
      outcome: "exited",
      stdout_bytes: 4,
      stderr_bytes: 4,
    });
    expect(await run("true")).toMatchObject({ exit_code: 0, success: true, stdout: "", gaps: [] });
  });

  it("of a missing command is exit code 127", async () => {
    const result = await run("no-such-command-here");
    expect(result.exit_code).toBe(127);
    expect(result.stderr).toContain("not found");
  });

  it("of a signal is 128 + n", async () => {
    expect((await run("kill -TERM $$")).exit_code).toBe(143);
  });

  it("is exact for large output on both streams", async () => {
    const script = "head -c 3000000 /dev/zero | tr '\\0' a; head -c 2000000 /dev/zero | tr '\\0' b >&2";
    const result = await run(script);
    expect(result.stdout).toBe("a".repeat(3_000_000));
    expect(result.stderr).toBe("b".repeat(2_000_000));
    expect(result.gaps).toEqual([]);
  });

  it("keeps characters whole, wherever the chunks are cut", async () => {
    const text = "äöü€😀漢字".repeat(20_000);
    const result = await run("cat", { input: text });
    expect(result.stdout === text).toBe(true);
  });

  it("is bytes on request, as they are, and never loses one that is text", async () => {
    const bytes = await run("printf 'a\\xc3\\xa4\\xff\\0b'", { output: "bytes" });
    expect([...bytes.stdout]).toEqual([0x61, 0xc3, 0xa4, 0xff, 0, 0x62]);
    expect(bytes.stdout_bytes).toBe(6);
    const broken = await run("printf 'a\\xffb'");
    expect(broken.stdout).toBe("a\uFFFDb");
    const mixed = await run("printf '\\xff\\xfe'; sleep .2; printf 'abc\\n'; sleep .2; echo final");
    expect(mixed.stdout).toBe("\uFFFD\uFFFDabc\nfinal\n");
  });

  it("keeps head and tail beyond maxOutputBytes", async () => {
    const result = await run("seq 1 200000", { maxOutputBytes: 1000 });
    expect(result.stdout.startsWith("1\n2\n3\n")).toBe(true);
    expect(result.stdout.endsWith("199999\n200000\n")).toBe(true);
    expect(result).toMatchObject({ stdout_truncated: true, stdout_bytes: 1288895, exit_code: 0 });
  });
});

describe("the command", () => {
  it("gets environment, directory, shell and user", async () => {
    expect((await run("echo $GREETING", { env: { GREETING: "hällo wörld" } })).stdout).toBe("hällo wörld\n");
    expect((await run("pwd", { cwd: "/usr" })).stdout).toBe("/usr\n");
    expect((await run("echo $0", { shell: "/bin/sh" })).stdout).toContain("sh");
    const configured = await run("echo $A; pwd", { runConfig: { work_dir: "/tmp", env_vars: { A: "b" } } });
    expect(configured.stdout).toBe("b\n/tmp\n");
    expect((await run("echo $HOME; id -u")).stdout).toBe("/root\n0\n");
  });

  it("in a directory that does not exist fails with a reason", async () => {
    const outcome = await run("pwd", { cwd: "/no/such/dir" }).catch((error: unknown) => error);
    if (outcome instanceof Error) expect(outcome).toBeInstanceOf(sandwire.SandboxOperationError);
    expect(JSON.stringify(outcome)).toMatch(/no such/i);
  });

  it("reads nothing unless it is given input", async () => {
    expect((await run("cat; echo done")).stdout).toBe("done\n");
    expect((await run("read x || echo eof")).stdout).toBe("eof\n");
    expect((await run("tr a-z A-Z", { input: "abc" })).stdout).toBe("ABC");
    expect((await run("wc -c", { input: new Uint8Array(3_000_000) })).stdout.trim()).toBe("3000000");
  });

  it("under a terminal sees one, and has one stream of output", async () => {
    const result = await run("tty; echo err >&2; test -t 0 && test -t 1 && test -t 2", { pty: true });
    expect(result).toMatchObject({ exit_code: 0, stderr: "" });
    expect(result.stdout).toMatch(/^\/dev\/pts\/\d+\r\nerr\r\n$/);
  });

  it("that times out is killed with all it started", async () => {
    const error = await rejection(run("echo start; sleep 31337 & sleep 31338", { timeout: 1 }));
    expect(error).toBeInstanceOf(sandwire.CommandTimeoutError);
    expect(error).toMatchObject({ timeout: 1, stdout: "start\n", outcome: "timed_out", code: "COMMAND_TIMEOUT" });
    await until(async () => !(await runs("31337")) && !(await runs("31338")));
    expect(await run("sleep 9", { timeout: 1, reject: false })).toMatchObject({ outcome: "timed_out", success: false });
  });

  it("leaves a daemon behind, and is over when itself is", async () => {
    const result = await run("setsid sleep 4242 >/dev/null 2>&1 & echo started");
    expect(result.stdout).toBe("started\n");
    expect(await runs("4242")).toBe(true);
    const holding = await run("sleep 4243 & echo started");
    expect(holding.stdout).toBe("started\n");
    await run("pkill -f 'sleep 42' || true");
  });

  it("that is aborted is killed with all it started", async () => {
    const controller = new AbortController();
    const pending = rejection(run("sleep 5151 & sleep 5152", { signal: controller.signal }));
    await until(() => runs("5152"));
    controller.abort();
    expect(await pending).toBe(controller.signal.reason);
    await until(async () => !(await runs("5151")) && !(await runs("5152")));
  });

  it("of the same id is attached to, not repeated", async () => {
    const commandId = crypto.randomUUID();
    const command = "echo once >> /tmp/once; sleep 0.3; echo end";
    const both = await Promise.all([run(command, { commandId }), run(command, { commandId })]);
    expect(both.map(({ stdout }) => stdout)).toEqual(["end\n", "end\n"]);
    expect((await run("cat /tmp/once")).stdout).toBe("once\n");
  });

  it("runs beside many others", async () => {
    const results = await Promise.all(Array.from({ length: 50 }, (_, index) => run(`echo ${index}; exit ${index}`)));
    expect(results.map(({ exit_code }) => exit_code)).toEqual(results.map((_, index) => index));
    expect(results.map(({ stdout }) => stdout)).toEqual(results.map((_, index) => `${index}\n`));
  });

  it("can be python", async () => {
    expect((await run("python3 -c 'print(2 + 2)'")).stdout).toBe("4\n");
  });
});
