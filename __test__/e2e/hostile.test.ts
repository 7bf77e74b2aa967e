// Sandboxes that mean harm: the server answers others all the while, and gets rid of them.

import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";

import * as sandwire from "../../index.mjs";
import { lives, rejection, until, useLocalServer } from "./local.js";

const { LocalServer } = sandwire;
const local = useLocalServer("each");

/** Others are served as if nothing had happened. Runs before the server of the test is ended. */
afterEach(async () => {
  expect(lives(local.server.pid)).toBe(true);
  expect((await local.sandbox.run("echo alive")).stdout).toBe("alive\n");
  await using fresh = await local.client.sandbox();
  expect((await fresh.run("echo new")).stdout).toBe("new\n");
});

/** Files of the sandbox on the host are the server's business; that its name is free again shows that it is gone. */
async function deleteForGood(sandbox: sandwire.Sandbox): Promise<void> {
  await sandbox.delete();
  await (await local.client.createSandbox({ name: sandbox.name })).delete();
}

describe("a sandbox goes, although it", () => {
  it("nested 20,000 directories", async () => {
    const stateDir = mkdtempSync(join(tmpdir(), "sandwire-deep-"));
    await using server = await LocalServer.start({ stateDir });
    const files = () => Number(execFileSync("sh", ["-c", `find ${stateDir} 2>/dev/null | wc -l`]));
    const sandbox = await server.client().createSandbox();
    const before = files();
    const script = `
import os
os.chdir("/var/tmp")
for i in range(20000):
    os.mkdir("d")
    os.chdir("d")
print(i)`;
    expect((await sandbox.run("python3 -", { input: script })).stdout).toBe("19999\n");
    await sandbox.delete();
    await until(() => files() <= before || !lives(server.pid));
    expect(lives(server.pid)).toBe(true);
    expect((await (await server.client().createSandbox()).run("echo alive")).stdout).toBe("alive\n");
  });

  it("made files that resist: read-only folders, odd names, links, sockets, fifos", async () => {
    const sandbox = await local.client.createSandbox();
    const script = `
import os, socket
os.makedirs("/var/tmp/a/b"); os.chdir("/var/tmp/a")
for name in [b"\\xff\\xfe", b" ", b"-rf", b"new\\nline", b"x" * 255]:
    open(name, "w").close()
os.symlink("/", "root"); os.symlink("loop", "loop"); os.mkfifo("fifo"); os.link("fifo", "hard")
socket.socket(socket.AF_UNIX).bind("socket")
os.chmod("b", 0); os.chmod(".", 0o555)
print("made")`;
    expect((await sandbox.run("python3 -", { input: script })).stdout).toBe("made\n");
    await deleteForGood(sandbox);
  });

  it("is a fork bomb", async ({ skip }) => {
    if (!local.server.isolation.limits.pids)
      skip("this machine can't limit processes (see doctor): the bomb would hit it");
    const sandbox = await local.client.createSandbox();
    const handle = await sandbox.run("bomb() { bomb | bomb & }; bomb; sleep 600", { wait: false });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect((await local.sandbox.run("echo fine")).stdout).toBe("fine\n");
    await handle.kill();
    expect((await handle.result).success).toBe(false);
    await deleteForGood(sandbox);
  });

  it("is a fork bomb that is not killed first", async ({ skip }) => {
    if (!local.server.isolation.limits.pids)
      skip("this machine can't limit processes (see doctor): the bomb would hit it");
    const sandbox = await local.client.createSandbox();
    await sandbox.run("bomb() { bomb | bomb & }; bomb", { wait: false });
    await new Promise((resolve) => setTimeout(resolve, 500));
    await deleteForGood(sandbox);
  });

  it("writes 100 MB that nobody reads", async () => {
    const sandbox = await local.client.createSandbox();
    const handle = await sandbox.run("head -c 100000000 /dev/zero; head -c 100000000 /dev/zero >&2", { wait: false });
    for await (const _ of handle) break;
    await deleteForGood(sandbox);
    expect(await handle.result.catch((error: unknown) => error)).not.toMatchObject({ success: true });
  });

  it("ignores every signal", async () => {
    const sandbox = await local.client.createSandbox();
    await sandbox.run("trap '' TERM INT HUP; while :; do sleep 0.1; done", { wait: false });
    await deleteForGood(sandbox);
  });
});

describe("a command ends, although it", () => {
  it("is busy", async () => {
    const error = await rejection(local.sandbox.run("yes > /dev/null", { timeout: 1 }));
    expect(error).toBeInstanceOf(sandwire.CommandTimeoutError);
  });

  it("ignores signals and left its group and session", async () => {
    const command = "trap '' TERM INT HUP; (trap '' TERM INT HUP; setsid sleep 9191 & setsid sleep 9192); sleep 9193";
    await rejection(local.sandbox.run(command, { timeout: 1 }));
    await until(async () => !(await local.sandbox.run("grep -lsa '[9]19[123]' /proc/[0-9]*/cmdline")).success);
  });

  it("floods both streams at once", async () => {
    const result = await local.sandbox.run("yes & yes >&2", { timeout: 1, reject: false, maxOutputBytes: 1000 });
    expect(result).toMatchObject({ outcome: "timed_out", stdout_truncated: true, stderr_truncated: true });
  });

  it("closes its streams and goes on", async () => {
    const result = await local.sandbox.run("exec >&- 2>&- <&-; sleep 0.3; exit 4");
    expect(result).toMatchObject({ exit_code: 4, stdout: "", stderr: "" });
  });
});

describe("too much of it is refused with a reason", () => {
  it.each([
    ["a command", () => local.sandbox.run(`echo ${"x".repeat(1_000_000)}`)],
    ["an environment", () => local.sandbox.run("true", { env: { BIG: "x".repeat(1_000_000) } })],
    ["a command beyond every message", () => local.sandbox.run(`echo ${"x".repeat(8_000_000)}`)],
  ])("%s", async (_, call) => {
    const error = await rejection(call());
    expect(error).toBeInstanceOf(sandwire.SandboxClientError);
    expect(error.message.length).toBeLessThan(1000);
  });
});
