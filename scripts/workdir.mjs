// The directory that tests and benchmarks write to. It is memory (tmpfs): sandboxes come and go by the hundred, and a
// disk file system would be measured, worn and in some cases slowed down for everybody by that.

import { chmod, mkdtemp, readFile, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { run } from "./step.mjs";

const neededBytes = 2 * 1024 ** 3;

/** Makes the directory, passes it to `body`, removes it. */
export async function withWorkDirectory(body) {
  const shared = await usable("/dev/shm");
  const dir = await mkdtemp(join(shared ? "/dev/shm" : tmpdir(), "sandwire-"));
  const mounted = !shared && process.getuid?.() === 0 && (await mountTmpfs(dir));
  if (!shared && !mounted) console.log(`  (no large tmpfs here: the tests write to ${dir}, on disk)`);
  await chmod(dir, 0o1777);
  try {
    return await body(dir);
  } finally {
    if (mounted) await run("umount", ["-l", dir]);
    await remove(dir);
  }
}

/** Node gives up where paths get too long, as in the trees that hostile tests make; `rm` walks them. */
async function remove(dir) {
  if (process.platform === "win32") return rm(dir, { recursive: true, force: true });
  await run("rm", ["-rf", dir]).catch((error) => console.error(`  (${dir} is not quite removed: ${error.message})`));
}

const mountTmpfs = (dir) =>
  run("mount", ["-t", "tmpfs", "-o", "size=4g", "tmpfs", dir]).then(
    () => true,
    () => false,
  );

/** Large enough, and programs may be started from it (container engines like to mount it `noexec`). */
async function usable(dir) {
  try {
    const { bavail, bsize } = await statfs(dir);
    const mount = (await readFile("/proc/mounts", "utf8")).split("\n").find((line) => line.split(" ")[1] === dir);
    return bavail * bsize >= neededBytes && mount !== undefined && !/\bnoexec\b/.test(mount);
  } catch {
    return false;
  }
}
