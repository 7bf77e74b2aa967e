// The rootless tests need unprivileged users: one with a range of subordinate ids and one without, because the server
// takes different ways for them. Only root can make users; otherwise whoever runs the tests is the rootless user.

import { chmod, copyFile, cp, mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { root, run, works } from "./step.mjs";

const withRange = "sandwire-test";
const without = "sandwire-single";

/** Makes both users if they are missing. */
export async function ensureTestUsers() {
  for (const name of [withRange, without]) {
    if (!(await works("id", [name]))) {
      // System users get no subordinate ids by themselves.
      await run("useradd", ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]);
    }
  }
  for (const [file, flag] of [
    ["/etc/subuid", "--add-subuids"],
    ["/etc/subgid", "--add-subgids"],
  ]) {
    const ranges = await readFile(file, "utf8").catch(() => "");
    if (!ranges.includes(`${withRange}:`)) await run("usermod", [flag, freeRange(ranges), withRange]);
  }
  return [withRange, without];
}

/** 65,536 ids above every range that is taken. */
function freeRange(ranges) {
  const ends = ranges.split("\n").map((line) =>
    line
      .split(":")
      .slice(1)
      .reduce((sum, n) => sum + Number(n), 0),
  );
  const first = Math.max(1_000_000, ...ends.filter(Number.isFinite));
  return `${first}-${first + 65_535}`;
}

/** A copy of the checkout, without what cargo made, that any user can be given: the checkout itself may lie under /root. */
export async function copyCheckout(work) {
  const copy = join(work, "checkout");
  const skip = new Set([".git", "target", "bench"]);
  await mkdir(copy, { recursive: true });
  for (const name of await readdir(root)) {
    if (!skip.has(name)) await cp(join(root, name), join(copy, name), { recursive: true, verbatimSymlinks: true });
  }
  await mkdir(join(work, "bin"), { recursive: true });
  await copyFile(process.execPath, join(work, "bin", "node"));
  await chmod(join(work, "bin", "node"), 0o755);
  return copy;
}

/** Runs a program as another user, in a directory that is made theirs, with a fresh environment. */
export async function runAs(user, work, cwd, command, args, env = {}) {
  const home = join(work, `home-${user}`);
  await mkdir(home, { recursive: true });
  await run("chown", ["-R", `${user}:`, cwd, home]);
  const clean = {
    PATH: `${join(work, "bin")}:/usr/local/bin:/usr/bin:/bin`,
    HOME: home,
    TMPDIR: home,
    USER: user,
    ...env,
  };
  const pairs = Object.entries(clean).map(([key, value]) => `${key}=${value}`);
  const identity = [`--reuid=${user}`, `--regid=${user}`, "--init-groups", "--inh-caps=-all"];
  await run("setpriv", [...identity, "env", "-i", ...pairs, command, ...args], { cwd, live: true });
}
