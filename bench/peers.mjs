// The programs we are measured against, each set up at its best: a tiny root file system, a static `true`, no image
// pulls, no daemon start. A peer that can't run here is skipped and the reason is printed.

import { spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { root, run, StepError, works } from "../scripts/step.mjs";

const isRoot = process.getuid?.() === 0;

/** Starts the stopwatch, in a mount namespace of its own if root (crun refuses a hybrid cgroup mount). */
export function startStopwatch() {
  const script = join(root, "bench", "stopwatch.py");
  const hide = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec python3 "$1"';
  const [command, args] = isRoot ? ["unshare", ["-m", "sh", "-c", hide, "sh", script]] : ["python3", [script]];
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const time = async (argv) => {
    child.stdin.write(`${JSON.stringify(argv)}\n`);
    const { value, done } = await answers.next();
    if (done || Number(value) < 0) throw new StepError(`${argv.join(" ")} failed`);
    return Number(value) / 1e6;
  };
  return { time, stop: () => child.stdin.end() };
}

/** Installs what is missing, as root on a Debian-like system, and says what stays away. */
export async function installPeers() {
  const wanted = { bwrap: "bubblewrap", crun: "crun", busybox: "busybox-static" };
  for (const [program, name] of Object.entries(wanted)) {
    if (await works("which", [program])) continue;
    if (isRoot) await run("apt-get", ["install", "-y", "--no-install-recommends", name]).catch(() => undefined);
    if (!(await works("which", [program]))) console.log(`  skipped: ${program} is not installed (apt install ${name})`);
  }
}

/** A directory with a static busybox, which both peers use as their root file system. */
async function makeRootfs(work) {
  const rootfs = join(await mkdtemp(join(work, "bundle-")), "rootfs");
  for (const dir of ["bin", "proc", "dev", "sys", "tmp"]) await mkdir(join(rootfs, dir), { recursive: true });
  const busybox = (await run("which", ["busybox"])).trim();
  for (const name of ["busybox", "true", "sh", "sleep"]) await copyFile(busybox, join(rootfs, "bin", name));
  return rootfs;
}

/** bubblewrap: namespaces and mounts, but no overlay, no cgroup and no seccomp filter. */
export async function bubblewrap(work, stopwatch) {
  const rootfs = await makeRootfs(work);
  const argv = ["bwrap", "--unshare-all", "--ro-bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"];
  return usable({ name: "bubblewrap, new sandbox + true", sample: () => stopwatch.time(argv) });
}

/** crun: the OCI runtime, with the cgroups of the machine. */
export async function crun(work, stopwatch) {
  const bundle = await makeBundle(work, ["/bin/true"]);
  let count = 0;
  const sample = () => stopwatch.time(["crun", "run", "--bundle", bundle, `sandwire-bench-${process.pid}-${count++}`]);
  return usable({ name: "crun run, new container + true", sample });
}

/** crun exec in a container that stays; `remove` ends it. */
export async function crunExec(work, stopwatch) {
  const bundle = await makeBundle(work, ["/bin/sleep", "100000"]);
  const id = `sandwire-bench-${process.pid}-exec`;
  const started = await stopwatch.time(["crun", "run", "--detach", "--bundle", bundle, id]).catch((error) => error);
  if (started instanceof Error) return void console.log(`  skipped: crun exec: ${started.message}`);
  const sample = () => stopwatch.time(["crun", "exec", id, "/bin/true"]);
  const remove = () => stopwatch.time(["crun", "delete", "-f", id]);
  return usable({ name: "crun exec true", sample, remove });
}

async function makeBundle(work, args) {
  const bundle = join(await makeRootfs(work), "..");
  await run("crun", ["spec"], { cwd: bundle });
  const spec = JSON.parse(await readFile(join(bundle, "config.json"), "utf8"));
  Object.assign(spec.process, { terminal: false, args });
  // Raising a limit takes a capability that not every root has.
  delete spec.process.rlimits;
  spec.linux.resources = { memory: { limit: 512 * 1024 ** 2 }, pids: { limit: 512 } };
  await writeFile(join(bundle, "config.json"), JSON.stringify(spec));
  return bundle;
}

/** A contender that works once is usable; otherwise the reason is printed and `undefined` returned. */
async function usable(contender) {
  try {
    await contender.sample();
    return contender;
  } catch (error) {
    console.log(`  skipped: ${contender.name}: ${error.message}`);
    return undefined;
  }
}
