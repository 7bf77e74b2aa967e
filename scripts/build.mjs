// Builds what the package needs on this machine: the addon, and on Linux `sandwired` and the static `sandwire-init`.
// Everything lands in npm/<platform>/, so the local checkout looks like an installed platform package.
//
//   node scripts/build.mjs [--debug | --dist]
//
// cargo decides what is up to date. `--debug` is the fastest to compile, `--dist` is what a release ships.

import { chmod, copyFile, mkdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { platformName } from "./platform.mjs";
import { isMain, main, root, run, step, StepError } from "./step.mjs";

const cargoFlags = { debug: [], release: ["--release"], dist: ["--profile", "dist"] };

/** What every tarball carries beside its programs. */
export const licenses = ["LICENSE-APACHE", "LICENSE-MIT"];

/** Builds everything with one cargo profile: `debug`, `release` or `dist`. */
export async function build(profile = "release") {
  const flags = cargoFlags[profile];
  const platform = platformName();
  const target = join(root, "target", profile);
  const home = join(root, "npm", platform);
  await mkdir(home, { recursive: true });
  await step(`compile the addon (${profile})`, (progress) => addon(flags, progress));
  await place(join(root, `sandwire.${platform}.node`), join(home, `sandwire.${platform}.node`), 0o644);
  for (const name of licenses) await place(join(root, name), join(home, name), 0o644);
  if (process.platform !== "linux") return;
  await step(`compile sandwired (${profile})`, (progress) =>
    cargo(["build", "--locked", "-p", "sandwire-server", "--bin", "sandwired", ...flags], progress),
  );
  await step(`compile sandwire-init, static (${profile})`, (progress) => init(flags, progress));
  await assertStatic(join(target, "sandwire-init"));
  for (const name of ["sandwired", "sandwire-init"]) await place(join(target, name), join(home, name), 0o755);
}

/** `sandwired` with debug assertions, which a test can let die at certain places; resolves with its path. */
export async function buildDebugServer() {
  await step("compile sandwired (debug)", (progress) =>
    cargo(["build", "--locked", "-p", "sandwire-server", "--bin", "sandwired"], progress),
  );
  return join(root, "target", "debug", "sandwired");
}

async function addon(flags, progress) {
  const cli = join(root, "node_modules", "@napi-rs", "cli", "dist", "cli.js");
  const files = ["--platform", "--js", "binding.js", "--dts", "binding.d.ts"];
  return compile(process.execPath, [cli, "build", "-p", "sandwire", ...files, ...flags, "--", "--locked"], progress);
}

/** Static, because inside a sandbox there may be no loader and no libc: an image can hold a single binary. */
async function init(flags, progress) {
  const target = ["-p", "sandwire-init", "--bin", "sandwire-init"];
  return cargo(["rustc", "--locked", ...target, ...flags, "--", "-C", "target-feature=+crt-static"], progress);
}

const cargo = (args, progress) => compile("cargo", args, progress);

async function compile(command, args, progress) {
  let crates = 0;
  const env = { CARGO_TERM_COLOR: "never", CARGO_TERM_PROGRESS_WHEN: "never" };
  await run(command, args, {
    env,
    progress: (line) => {
      if (/^Compiling /.test(line)) progress(`${++crates} crates, now ${line.split(" ")[1]}`);
    },
  });
  return crates ? `${crates} crates compiled` : "up to date";
}

/** A program header of type PT_INTERP names a dynamic loader: a static executable has none. */
async function assertStatic(file) {
  const elf = await readFile(file);
  const [table, size, count] = [Number(elf.readBigUInt64LE(0x20)), elf.readUInt16LE(0x36), elf.readUInt16LE(0x38)];
  for (let i = 0; i < count; i++) {
    if (elf.readUInt32LE(table + i * size) === 3) {
      throw new StepError(`${file} needs a dynamic loader; is the static C library installed (Fedora: glibc-static)?`);
    }
  }
}

/** By rename: a running `sandwired` keeps its file, and nobody ever starts half a copy. */
async function place(from, to, mode) {
  const fresh = `${to}.new`;
  await copyFile(from, fresh);
  await chmod(fresh, mode);
  await rename(fresh, to);
}

if (isMain(import.meta.url)) {
  main(async () => {
    const { values } = parseArgs({ options: { debug: { type: "boolean" }, dist: { type: "boolean" } } });
    await build(values.debug ? "debug" : values.dist ? "dist" : "release");
  });
}
