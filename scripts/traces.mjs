// What sandboxes could leave behind on a machine, counted. Used before and after by the leak tests.

import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";

/** Counts processes, mounts, cgroups, namespaces, the entries of a state directory and those that belong to sandboxes. */
export async function countTraces(stateDir) {
  const [processes, namespaces] = await foreignProcesses();
  return {
    processes,
    namespaces,
    mounts: (await readFile("/proc/self/mountinfo", "utf8")).split("\n").length - 1,
    cgroups: await countCgroups(),
    files: await countFiles(stateDir),
    sandboxFiles: (await countFiles(join(stateDir, "boxes"))) + (await countFiles(join(stateDir, "trash"))),
  };
}

/** Our programs and everything else in a pid namespace that is not ours, and the namespaces of all of those. */
async function foreignProcesses() {
  const own = await readlink("/proc/self/ns/pid");
  const namespaces = new Set();
  let processes = 0;
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
    const space = await readlink(`/proc/${pid}/ns/pid`).catch(() => own);
    if (space === own && !/^sandwire(d|-init)$/m.test(name)) continue;
    processes++;
    for (const kind of ["mnt", "net", "pid", "user", "ipc", "uts", "cgroup"]) {
      namespaces.add(await readlink(`/proc/${pid}/ns/${kind}`).catch(() => ""));
    }
  }
  return [processes, namespaces.size];
}

const countFiles = async (dir) => (await readdir(dir, { recursive: true }).catch(() => [])).length;

async function countCgroups() {
  let count = 0;
  const walk = async (dir) => {
    for (const entry of await readdir(dir, { withFileTypes: true }).catch(() => [])) {
      if (!entry.isDirectory()) continue;
      count++;
      await walk(join(dir, entry.name));
    }
  };
  await walk("/sys/fs/cgroup");
  return count;
}

/** Counts again until the result is `wanted` (the kernel takes namespaces and cgroups down in its own time), or returns the last one. */
export async function settle(stateDir, wanted, deadline = 20_000) {
  const end = Date.now() + deadline;
  for (;;) {
    const counts = await countTraces(stateDir);
    const same = Object.keys(wanted).every((key) => counts[key] === wanted[key]);
    if (same || Date.now() > end) return counts;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
