// I6: what an idle sandbox costs, from the kernel's own accounts before and after a hundred of them.

import { readdir, readFile, writeFile } from "node:fs/promises";

import { withServer } from "./sides.mjs";
import { printGoal, save } from "./stats.mjs";

const count = 100;
const accounts = ["AnonPages", "Slab", "KernelStack", "PageTables"];

export async function benchMemory() {
  await withServer(async ({ server, ours }) => {
    await (await ours.createSandbox()).run("true");
    const before = await measure(server);
    for (let i = 0; i < count; i++) await (await ours.createSandbox()).run("true");
    const after = await measure(server);
    const perSandbox = Object.fromEntries(Object.keys(before).map((key) => [key, (after[key] - before[key]) / count]));
    console.log(`\nPer idle sandbox, of ${count}`);
    for (const [key, value] of Object.entries(perSandbox)) console.log(`  ${key.padEnd(12)} ${value.toFixed(2)}`);
    printGoal("I6 idle memory", accounts.reduce((sum, key) => sum + perSandbox[key], 0) / 1024, 0.45, { unit: "MB" });
    printGoal("I7 file descriptors of the server", perSandbox.descriptors, 8, { unit: "each" });
    await save("memory", { before, after, perSandbox });
  });
}

/** Kilobytes of each account, and the server's open descriptors. */
async function measure({ pid }) {
  await writeFile("/proc/sys/vm/drop_caches", "3").catch(() => console.log("  (not root: caches are not dropped)"));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const info = await readFile("/proc/meminfo", "utf8");
  const kilobytes = (key) => Number(new RegExp(`^${key}:\\s+(\\d+)`, "m").exec(info)[1]);
  const descriptors = (await readdir(`/proc/${pid}/fd`)).length;
  return { ...Object.fromEntries(accounts.map((key) => [key, kilobytes(key)])), descriptors };
}
