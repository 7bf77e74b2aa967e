// The local server as a process: how it starts, ends and fails. It never outlives the program that started it.

import { spawn } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { createRequire } from "node:module";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import * as sandwire from "../../index.mjs";
import { lives, rejection, until } from "./local.js";

const { LocalServer } = sandwire;
const { serverPaths } = createRequire(import.meta.url)("../../lib/load.js");
const entry = fileURLToPath(new URL("../../index.js", import.meta.url));
const sandwired: string = serverPaths().find((path: string) => existsSync(path));

let scratch: string;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "sandwire-server-"));
});

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  rmSync(scratch, { recursive: true, force: true });
});

/** A `sandwired` that is a shell script. */
function pretend(script: string): void {
  const path = join(scratch, "sandwired");
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  vi.stubEnv("SANDWIRE_SERVER_PATH", path);
}

describe("start", () => {
  it("gives endpoint, key, pid, isolation and clients", async () => {
    await using server = await LocalServer.start();
    expect(server.apiEndpoint).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v2\/sandboxes$/);
    expect(server.apiKey.length).toBeGreaterThanOrEqual(32);
    expect(lives(server.pid)).toBe(true);
    expect(server.isolation.namespaces).toContain("user");
    expect(server.warnings).toBe(server.isolation.warnings);
    await using client = server.client();
    await using sandbox = await client.sandbox();
    expect((await sandbox.run("echo hi")).stdout).toBe("hi\n");
  });

  it("takes port, key and directory of its state", async () => {
    const stateDir = join(scratch, "state");
    const first = await LocalServer.start({ apiKey: "chosen-key", stateDir });
    const { port } = new URL(first.apiEndpoint);
    await first.close();
    await using second = await LocalServer.start({ apiKey: "chosen-key", stateDir, port: Number(port) });
    expect([second.apiKey, new URL(second.apiEndpoint).port]).toEqual(["chosen-key", port]);
    await second.client().listSandboxes();
  });

  it("a port that is taken is told, and nothing is left", async () => {
    await using server = await LocalServer.start();
    const error = await rejection(LocalServer.start({ port: Number(new URL(server.apiEndpoint).port) }));
    expect(error).toBeInstanceOf(sandwire.SandboxClientError);
    expect(error.message).toMatch(/in use/i);
  });

  it("can be aborted, before and while", async () => {
    const reason = new Error("never mind");
    await expect(LocalServer.start({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    pretend(`echo $$ > ${scratch}/pid; exec sleep 60`);
    const controller = new AbortController();
    const pending = rejection(LocalServer.start({ signal: controller.signal }));
    await until(() => existsSync(join(scratch, "pid")) && statSync(join(scratch, "pid")).size > 0);
    controller.abort(reason);
    expect(await pending).toBe(reason);
    expect(lives(Number(readFileSync(join(scratch, "pid"), "utf8")))).toBe(false);
  });

  it("several live beside each other", async () => {
    await using one = await LocalServer.start();
    await using two = await LocalServer.start();
    const sandbox = await one.client().createSandbox({ name: "mine" });
    expect(await rejection(two.client().getSandbox("mine"))).toBeInstanceOf(sandwire.ResourceNotFoundError);
    expect(await rejection(two.client({ apiKey: one.apiKey }).listSandboxes())).toBeInstanceOf(
      sandwire.SandboxAuthenticationError,
    );
    expect((await sandbox.run("true")).success).toBe(true);
  });
});

describe("secrets", () => {
  it("are neither shown nor on the command line, and sandboxes don't get them", async () => {
    vi.stubEnv("MY_TOKEN", "hunter2");
    await using server = await LocalServer.start({ apiKey: "sk-hunter2" });
    const shown = [String(server), JSON.stringify(server), inspect(server, { depth: 9, showHidden: true })].join();
    expect(shown).not.toContain("hunter2");
    expect(readFileSync(`/proc/${server.pid}/cmdline`, "utf8")).not.toContain("hunter2");
    expect(readFileSync(`/proc/${server.pid}/environ`, "utf8")).not.toContain("MY_TOKEN");
    await using sandbox = await server.client().sandbox();
    expect((await sandbox.run("env; cat /proc/*/environ /proc/*/cmdline")).stdout).not.toContain("hunter2");
  });

  it("requests from web pages and without the key are refused", async () => {
    await using server = await LocalServer.start();
    const status = (headers: object) =>
      new Promise((resolve, reject) => {
        const options = { headers: { ...headers } as Record<string, string> };
        request(`${server.apiEndpoint}/boxes`, options, (response) => {
          response.resume();
          resolve(response.statusCode);
        })
          .on("error", reject)
          .end();
      });
    expect(await status({})).toBe(401);
    expect(await status({ "X-Api-Key": server.apiKey })).toBe(200);
    expect(await status({ "X-Api-Key": server.apiKey, Origin: "https://evil.example" })).toBe(403);
  });
});

describe("the end", () => {
  it("close() ends the process and what ran in it, and can be repeated", async () => {
    const before = readdirSync(tmpdir()).length;
    const server = await LocalServer.start();
    const sandbox = await server.client().createSandbox();
    const marker = `31${Math.floor(Math.random() * 1e6)}`;
    await sandbox.run(`setsid sleep ${marker} >/dev/null 2>&1 &`);
    // The shell may be over before what it left in the background has executed its program.
    await until(() => hostRuns(marker));
    await Promise.all([server.close(), server.close()]);
    expect(lives(server.pid)).toBe(false);
    expect(await hostRuns(marker)).toBe(false);
    expect(readdirSync(tmpdir()).length).toBe(before);
    expect(await rejection(sandbox.run("true"))).toBeInstanceOf(sandwire.SandboxConnectionError);
  });

  it("a server that dies is told: by calls, and by one warning", async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => void warnings.push(warning);
    process.on("warning", onWarning);
    const server = await LocalServer.start();
    const client = server.client({ maxRetries: 0 });
    const sandbox = await client.createSandbox();
    const handle = await sandbox.run("echo up; sleep 600", { wait: false });
    for await (const _ of handle) break;
    process.kill(server.pid, "SIGKILL");
    const lost = await rejection(handle.result);
    expect(lost).toBeInstanceOf(sandwire.SandboxConnectionError);
    expect(lost).toMatchObject({ outcome: "lost", stdout: "up\n", exit_code: null });
    expect(await rejection(client.listSandboxes())).toBeInstanceOf(sandwire.SandboxConnectionError);
    await until(() => warnings.length > 0);
    expect(warnings[0]?.message).toMatch(/ended unexpectedly: SIGKILL/);
    await server.close();
    process.off("warning", onWarning);
  });

  const endings: Array<[string, string]> = [
    ["ends by itself", ""],
    ["calls process.exit", "process.exit(3);"],
    ["throws", "setImmediate(() => { throw new Error('bang'); });"],
    ["is killed", "process.kill(process.pid, 'SIGKILL');"],
    ["is interrupted", "process.kill(process.pid, 'SIGINT');"],
  ];

  it.each(endings)("the server vanishes with a program that %s", async (_, ending) => {
    const marker = `32${Math.floor(Math.random() * 1e6)}`;
    const script = `
      const { LocalServer } = require(${JSON.stringify(entry)});
      (async () => {
        const server = await LocalServer.start();
        const sandbox = await server.client().createSandbox();
        await sandbox.run("setsid sleep ${marker} >/dev/null 2>&1 &");
        require("node:fs").writeSync(1, String(server.pid) + "\\n");
        ${ending}
      })();`;
    const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "ignore"] });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    await new Promise((resolve) => child.once("close", resolve));
    const pid = Number(output.trim());
    expect(pid).toBeGreaterThan(0);
    await until(() => !lives(pid));
    await until(async () => !(await hostRuns(marker)));
  });
});

/** Whether a process with this word in its command line runs on the host. */
async function hostRuns(word: string): Promise<boolean> {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .some((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(word) && lives(Number(pid));
      } catch {
        return false;
      }
    });
}

describe("what can go wrong", () => {
  it("the binary is missing: where it was looked for, and the command that repairs it", async () => {
    vi.stubEnv("SANDWIRE_SERVER_PATH", join(scratch, "nothing"));
    const error = await rejection(LocalServer.start());
    expect(error).toBeInstanceOf(sandwire.UnsupportedError);
    expect(error.message).toContain(join(scratch, "nothing"));
    expect(error.remedy).toMatch(/^npm /);
  });

  it("the executable bit was lost: it is put back", async () => {
    for (const name of ["sandwired", "sandwire-init"]) {
      copyFileSync(join(dirname(sandwired), name), join(scratch, name));
      chmodSync(join(scratch, name), 0o644);
    }
    vi.stubEnv("SANDWIRE_SERVER_PATH", join(scratch, "sandwired"));
    vi.stubEnv("SANDWIRED_INIT", join(scratch, "sandwire-init"));
    await using server = await LocalServer.start();
    expect(lives(server.pid)).toBe(true);
    expect(statSync(join(scratch, "sandwire-init")).mode & 0o111).not.toBe(0);
  });

  it("isolation is missing: refused with the reason and the remedy", async () => {
    const event = {
      event: "error",
      code: "ISOLATION_UNAVAILABLE",
      message: "user namespaces are switched off",
      remedy: "sysctl -w user.max_user_namespaces=10000",
    };
    pretend(`echo '${JSON.stringify(event)}'; exit 1`);
    const error = await rejection(LocalServer.start());
    expect(error).toBeInstanceOf(sandwire.IsolationError);
    expect(error).toMatchObject({
      code: "ISOLATION_UNAVAILABLE",
      reason: event.message,
      remedy: event.remedy,
      phase: "start",
    });
    expect(error.message).toContain(event.message);
    expect(error.message).toContain(event.remedy);
  });

  it("init is missing: refused by the server itself", async () => {
    mkdirSync(join(scratch, "alone"));
    copyFileSync(sandwired, join(scratch, "alone", "sandwired"));
    vi.stubEnv("SANDWIRE_SERVER_PATH", join(scratch, "alone", "sandwired"));
    vi.stubEnv("SANDWIRED_INIT", undefined);
    const error = await rejection(LocalServer.start());
    expect(error).toBeInstanceOf(sandwire.SandboxClientError);
    expect(error.message).toContain("sandwire-init");
  });

  it("it says something else, nothing, or ends: told with its last words", async () => {
    pretend("echo not json; sleep 60");
    expect((await rejection(LocalServer.start())).message).toContain("not json");
    pretend("echo some reason >&2; exit 9");
    expect((await rejection(LocalServer.start())).message).toMatch(/exit code 9; it said:\nsome reason/);
    pretend("echo waiting for nothing >&2; exec sleep 60");
    const late = await rejection(LocalServer.start({ startTimeoutMs: 300 }));
    expect(late).toBeInstanceOf(sandwire.SandboxConnectTimeoutError);
    expect(late.message).toMatch(/within 300 ms.*waiting for nothing/s);
  });

  it.each(["darwin", "win32"])("on %s it is refused, naming the platform", async (platform) => {
    vi.spyOn(process, "platform", "get").mockReturnValue(platform as NodeJS.Platform);
    const error = await rejection(LocalServer.start());
    expect(error).toBeInstanceOf(sandwire.UnsupportedError);
    expect(error.message).toContain(platform);
    expect(error.message).toContain("apiEndpoint");
  });
});
