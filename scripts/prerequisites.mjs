// What a machine must have before anything can be built: Node, Rust, a C compiler (for `ring` and as the linker), and a
// python3 for the example. As root on a Debian-like system missing packages are installed, otherwise they are named.

import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

import { root, run, step, StepError, works } from "./step.mjs";

// The package itself runs on every Node from 20.0; these are what vitest and the napi CLI need, by major version.
const oldestNode = { 20: 19, 22: 13, 23: 5 };
const oldestRust = [1, 88];
const needed = [
  ["cc", "gcc libc6-dev"],
  ["python3", "python3"],
];
const isRoot = process.getuid?.() === 0;

/** Checks (and as root repairs) what `npm run quickstart` and `npm test` need. `extra` are further [program, Debian package] pairs. */
export async function checkPrerequisites(extra = []) {
  await step("look at this machine", async () => {
    const node = process.versions.node;
    if (!buildsWith(node)) {
      throw new StepError(
        `The build tools need Node 20.19, 22.13 or 23.5, or newer (^20.19 || ^22.13 || >=23.5); this is ${node}`,
      );
    }
    if (process.platform === "linux") await installMissing([...needed, ...extra]);
    const rust = await checkRust();
    if (process.platform !== "win32" && !(await works("cc")))
      throw new StepError("no C compiler: install one (Debian: apt install gcc libc6-dev)");
    return `Node ${node}, Rust ${rust}`;
  });
}

async function checkRust() {
  const home = join(process.env.CARGO_HOME ?? join(homedir(), ".cargo"), "bin");
  if (!(await works("cargo")) && existsSync(join(home, "cargo"))) process.env.PATH += delimiter + home;
  if (!(await works("cargo"))) {
    throw new StepError(`Rust ${oldestRust.join(".")} or newer is needed and there is no cargo: see https://rustup.rs`);
  }
  const version = (await run("cargo", ["--version"])).match(/cargo (\S+)/)?.[1] ?? "";
  if (!atLeast(version, oldestRust)) {
    throw new StepError(`Rust ${oldestRust.join(".")} or newer is needed, this is ${version}: rustup update`);
  }
  return version;
}

/** `needs` are [program, packages] pairs; the base of a sandbox is the host's /usr, so programs are looked for there. */
async function installMissing(needs) {
  const missing = needs.filter(([program]) => !["/usr/bin", "/bin"].some((dir) => existsSync(join(dir, program))));
  if (missing.length === 0) return;
  await installPackages(missing.flatMap(([, names]) => names.split(" ")));
}

/** As root on a Debian-like system, otherwise they are named for whoever can. */
export async function installPackages(packages) {
  if (!isRoot || !existsSync("/usr/bin/apt-get")) {
    console.log(`  (missing here, by Debian's names: ${packages.join(", ")})`);
    return;
  }
  await step(`apt-get install ${packages.join(" ")}`, async (progress) => {
    const env = { DEBIAN_FRONTEND: "noninteractive" };
    const install = ["install", "-y", "--no-install-recommends", ...packages];
    // A fresh container image has no package lists at all: then the first attempt fails and they are fetched.
    await run("apt-get", install, { env, progress }).catch(async () => {
      await run("apt-get", ["update"], { env, progress });
      await run("apt-get", install, { env, progress });
    });
  });
}

/** Installs the development dependencies of package-lock.json unless they are there already. */
export async function installNodeModules() {
  await step("install the development dependencies (npm ci)", async (progress) => {
    if (await modulesMatch()) return "up to date";
    await run("npm", ["ci", "--no-audit", "--no-fund"], { progress });
  });
}

/** npm writes down what it installed; a lock file newer than that was changed since. */
async function modulesMatch() {
  const age = (file) =>
    stat(join(root, file)).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    );
  return (await age("package-lock.json")) <= (await age("node_modules/.package-lock.json"));
}

const buildsWith = (version) => {
  const [major, minor] = version.split(".").map(Number);
  return major > 23 || minor >= (oldestNode[major] ?? Infinity);
};

const atLeast = (version, [major, minor]) => {
  const [a, b] = version.split(".").map(Number);
  return a > major || (a === major && b >= minor);
};
