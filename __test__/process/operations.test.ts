// What an operator does with the program itself, as docs/OPERATIONS.md describes it.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, expect, it } from "vitest";

import { SandboxClient } from "../../index.mjs";

const { serverPaths } = createRequire(import.meta.url)("../../lib/load.js");
const sandwired: string = serverPaths().find((path: string) => existsSync(path));
const home = mkdtempSync(join(tmpdir(), "sandwire-ops-"));
const keyFile = join(home, "key");
const manual = readFileSync(new URL("../../docs/OPERATIONS.md", import.meta.url), "utf8");
writeFileSync(keyFile, "the-key\n", { mode: 0o600 });
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** The blocks of the manual in this language. */
const blocks = (language: string) =>
  [...manual.matchAll(new RegExp(`^( *)\`\`\`${language}\\n(.*?)\`\`\``, "gms"))].map(([, indent = "", text = ""]) =>
    text.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  );

function say(...args: string[]) {
  const { status, stdout } = spawnSync(sandwired, args, { encoding: "utf8" });
  return { status, stdout };
}

async function start(stateDir: string, ...more: string[]) {
  const args = ["serve", "--listen", "127.0.0.1:0", "--api-key-file", keyFile, "--state-dir", stateDir, ...more];
  const child = spawn(sandwired, args, { stdio: ["ignore", "pipe", "ignore"] });
  const exit = once(child, "exit");
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  const { event, endpoint } = JSON.parse(String(line));
  expect(event).toBe("ready");
  const get = (path: string, init: RequestInit = {}) =>
    fetch(new URL(path, endpoint), { ...init, headers: { "X-Api-Key": "the-key", ...init.headers } });
  return { child, exit, endpoint, get, client: new SandboxClient({ apiEndpoint: endpoint, apiKey: "the-key" }) };
}

it("settings: the nearer source counts, and what is misspelt is refused with what was meant", () => {
  const file = join(home, "sandwired.toml");
  writeFileSync(file, 'drain_seconds = 7\nlog_format = "json"\n');
  const { stdout } = say("config", "--config", file, "--drain-seconds", "9");
  expect(stdout).toContain("drain_seconds = 9\n");
  expect(stdout).toContain('log_format = "json"\n');
  writeFileSync(file, "drain_second = 7\n");
  const refused = say("serve", "--config", file, "--ephemeral");
  expect(refused.status).toBe(1);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    event: "error",
    message: expect.stringContaining("`drain_second`"),
    remedy: "did you mean `drain_seconds`?",
  });
});

it("the template is a configuration", () => {
  const file = join(home, "template.toml");
  writeFileSync(file, say("config", "--default").stdout);
  expect(say("config", "--config", file)).toEqual(say("config"));
});

it("the units of the manual are units", (context) => {
  if (spawnSync("systemd-analyze", ["--version"]).status !== 0) return context.skip("no systemd-analyze here");
  const units = blocks("ini");
  expect(units.length).toBe(2);
  for (const [index, unit] of units.entries()) {
    const path = join(home, `unit-${index}.service`);
    writeFileSync(path, unit.replaceAll(/^ExecStart=\S+/gm, `ExecStart=${sandwired}`).replaceAll("%h", home));
    const { stderr } = spawnSync("systemd-analyze", ["verify", path], { encoding: "utf8" });
    expect(stderr.split("\n").filter((line) => line.includes(`unit-${index}`))).toEqual([]);
  }
});

it("every flag and command that the manual names exists", () => {
  const commands = new Set([...manual.matchAll(/\bsandwired ([a-z]+) --/g)].map(([, command = ""]) => command));
  expect([...commands].sort()).toEqual(["config", "doctor", "gc", "serve"]);
  for (const command of commands) {
    const { stdout } = say(command, "--help");
    for (const [line] of manual.matchAll(new RegExp(`\\bsandwired ${command}( --?[a-z-]+( [^-\\s]\\S*)?)+`, "g"))) {
      for (const [flag] of line.matchAll(/--[a-z-]+/g)) expect(stdout).toContain(flag);
    }
  }
});

it("a call under way at the end is answered, new ones are sent away, and nothing is lost", async () => {
  const server = await start(join(home, "drained"), "--drain-seconds", "60");
  const sandbox = await server.client.createSandbox();
  const body = JSON.stringify({ command: "echo begun > /home/user/f; sleep 5; echo over" });
  const url = `${sandbox.dataplane_url}/execute`;
  const answer = server.get(url, { method: "POST", body, headers: { "content-type": "application/json" } });
  const file = `${sandbox.dataplane_url}/download?path=/home/user/f`;
  while ((await server.get(file)).status !== 200);
  server.child.kill("SIGTERM");
  while ((await (await server.get("/healthz")).json()).status !== "draining");
  const refused = await server.get(file);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
  expect((await refused.json()).detail.error_id).toBe(refused.headers.get("x-request-id"));
  expect(await (await answer).json()).toMatchObject({ stdout: "over\n", exit_code: 0 });
  expect(await server.exit).toEqual([0, null]);
});

it("metrics and health as doctor and a collector read them", async () => {
  const stateDir = join(home, "watched");
  const server = await start(stateDir);
  // The first answer is not among what it says.
  await server.get("/metrics");
  const text = await (await server.get("/metrics", { headers: { Authorization: "Bearer the-key" } })).text();
  const documented = [...manual.matchAll(/^\| `((?:sandwired|process)_\w+)`/gm)].map(([, name]) => name);
  const described = [...text.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name);
  expect(documented.sort()).toEqual(described.sort());
  const { origin } = new URL(server.endpoint);
  const checks = JSON.parse(
    say("doctor", "--json", "--state-dir", stateDir, "--api-key-file", keyFile, "--endpoint", origin).stdout,
  );
  const verdicts = Object.fromEntries(
    checks.map(({ name, verdict }: { name: string; verdict: string }) => [name, verdict]),
  );
  expect(verdicts).toMatchObject({ server: "ok", sandbox: "ok", "key file": "ok" });
  for (const name of Object.keys(verdicts).filter((name) => !/namespace$|^kernel$/.test(name)))
    expect(manual).toContain(`\`${name}\``);
  server.child.kill("SIGTERM");
  await server.exit;
  expect(say("doctor", "--endpoint", origin).status).toBe(1);
});

it("garbage goes, sandboxes stay, and a directory in use is left alone; a backup is a server", async () => {
  const stateDir = join(home, "kept");
  const server = await start(stateDir);
  const sandbox = await server.client.createSandbox({ name: "mine" });
  await sandbox.write("notes", "still here");
  const inUse = say("gc", "--state-dir", stateDir);
  expect([inUse.status, JSON.parse(inUse.stdout).message]).toEqual([1, expect.stringContaining("in use")]);
  server.child.kill("SIGTERM");
  await server.exit;
  mkdirSync(join(stateDir, "boxes", "stray", "upper"), { recursive: true });
  expect(say("gc", "--state-dir", stateDir, "--dry-run").stdout).toContain(join(stateDir, "boxes", "stray"));
  expect(existsSync(join(stateDir, "boxes", "stray"))).toBe(true);
  expect(say("gc", "--state-dir", stateDir).status).toBe(0);
  expect(existsSync(join(stateDir, "boxes", "stray"))).toBe(false);
  expect(say("gc", "--state-dir", home).status).toBe(1);

  const archive = join(home, "backup.tar");
  const command = blocks("sh").find((block) => block.includes("tar --create")) ?? "";
  const tar = command.replaceAll(/^systemctl.*$/gm, "").replace("/var/backups/sandwired.tar", archive);
  execFileSync("sh", ["-c", tar.replace("/var/lib/sandwired", stateDir)]);
  const restored = join(home, "restored");
  mkdirSync(restored, { mode: 0o700 });
  execFileSync("tar", [
    "--extract",
    "--acls",
    "--xattrs",
    "--xattrs-include=*",
    "--numeric-owner",
    `--file=${archive}`,
    `--directory=${restored}`,
  ]);
  const again = await start(restored);
  expect(await (await again.client.getSandbox("mine")).run("cat notes")).toMatchObject({ stdout: "still here" });
  again.child.kill("SIGTERM");
  await again.exit;
});
