// `npm run check`: everything that is not a test: formatting, lints, types, dependencies, and the places that must agree
// with each other. Each check runs even if an earlier one failed.

import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { licenses } from "./build.mjs";
import { main, root, run, step, StepError, works } from "./step.mjs";

const read = (file) => readFile(join(root, file), "utf8");
const node = (file, ...args) => run(process.execPath, [join(root, "node_modules", file), ...args]);

const checks = {
  "cargo fmt": () => run("cargo", ["fmt", "--all", "--check"]),
  "cargo clippy": (progress) =>
    run("cargo", ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], { progress }),
  "cargo doc": (progress) =>
    run("cargo", ["doc", "--workspace", "--no-deps", "--locked"], { progress, env: { RUSTDOCFLAGS: "-D warnings" } }),
  "cargo deny": deny,
  "only the addon knows napi": onlyTheAddonKnowsNapi,
  types: () => node("typescript/bin/tsc", "-p", root),
  prettier: () => node("prettier/bin/prettier.cjs", "--check", root),
  "platform packages agree with package.json": platformPackages,
  "package-lock.json names no registry": lockFile,
  "the README shows the examples as they are": readme,
  "docs/COMPATIBILITY.md names tests that there are": compatibility,
};

async function deny() {
  if (!(await works("cargo", ["deny", "--version"]))) throw new StepError("cargo install cargo-deny --locked");
  await run("cargo", ["deny", "check", "bans", "licenses", "sources"]);
}

async function onlyTheAddonKnowsNapi() {
  const tree = await run("cargo", [
    "tree",
    "--workspace",
    "--locked",
    "--depth",
    "1",
    "--prefix",
    "depth",
    "--all-features",
  ]);
  let owner = "";
  for (const line of tree.split("\n")) {
    if (line.startsWith("0")) owner = line.slice(1).split(" ")[0];
    if (/^1napi/.test(line) && owner !== "sandwire") throw new StepError(`${owner} depends on napi`);
  }
}

async function platformPackages() {
  const manifest = JSON.parse(await read("package.json"));
  const cargo = /^version = "(.+)"$/m.exec((await read("Cargo.toml")).split("[workspace.package]")[1])[1];
  if (cargo !== manifest.version) throw new StepError(`Cargo.toml says ${cargo}, package.json ${manifest.version}`);
  const dirs = await readdir(join(root, "npm"));
  if (dirs.length !== manifest.napi.targets.length) throw new StepError(`npm/ has ${dirs.length} directories`);
  for (const dir of dirs) {
    const { name, version, os, cpu, files, engines } = JSON.parse(await read(`npm/${dir}/package.json`));
    const server = os[0] === "linux" ? ["sandwire-init", "sandwired"] : [];
    const actual = [name, version, `${os[0]}-${cpu[0]}`, engines.node, ...files];
    const place = dir.split("-").slice(0, 2).join("-");
    const addon = `${manifest.napi.binaryName}.${dir}.node`;
    const wanted = [
      `${manifest.napi.packageName}-${dir}`,
      manifest.version,
      place,
      manifest.engines.node,
      addon,
      ...server,
      ...licenses,
    ];
    if (String(actual) !== String(wanted))
      throw new StepError(`npm/${dir}/package.json: ${actual} instead of ${wanted}`);
  }
}

async function lockFile() {
  if (/"resolved": "http/.test(await read("package-lock.json"))) {
    throw new StepError('package-lock.json names a registry: remove its "resolved" members');
  }
}

/** A code block that follows `<!-- FILE -->` shows that file. */
async function readme() {
  for (const page of ["README.md", ...(await readdir(join(root, "docs"))).map((name) => `docs/${name}`)]) {
    for (const [, file, code] of (await read(page)).matchAll(/<!-- (examples\/\S+) -->\n+```\w*\n([^]*?)```/g)) {
      if (!existsSync(join(root, file)) || (await read(file)) !== code)
        throw new StepError(`${page} does not show ${file} as it is`);
    }
  }
}

/** Where the tests are that docs/COMPATIBILITY.md names, and how they begin there. `later` marks what doesn't work yet. */
const shows = {
  js: [(file) => `__test__/conformance/${file}.test.ts`, (title) => [`test("${title}"`, `later("${title}"`]],
  py: [
    (file) => `__test__/conformance/python/test_${file}.py`,
    (name) => [`def test_${name}(`, new RegExp(`^@later\\n(?:[@ )\\]].*\\n)*(?:async )?def test_${name}\\(`, "m")],
  ],
  it: [(file) => `crates/server/tests/it/${file}.rs`, (name) => [`fn ${name}()`]],
};

/** Each row of its tables names a test that shows it, or says that it is not there. */
async function compatibility() {
  const problems = [];
  for (const line of (await read("docs/COMPATIBILITY.md")).split("\n## ").slice(1).join("\n").split("\n")) {
    if (!line.startsWith("| ") || /^\| (What |-)/.test(line)) continue;
    const tests = [...line.matchAll(/`(js|py|it)\/(\w+)::([^`]+)`/g)];
    if (tests.length === 0 && !/later issue|not in the local server/.test(line))
      problems.push(`shown by nothing: ${line}`);
    for (const [reference, kind, file, name] of tests) {
      const [path, beginnings] = shows[kind];
      const [there, marked] = beginnings(name);
      const text = existsSync(join(root, path(file))) ? await read(path(file)) : "";
      if (typeof marked === "string" ? text.includes(marked) : marked?.test(text))
        problems.push(`not shown yet: ${reference}`);
      else if (!text.includes(there)) problems.push(`no such test: ${reference}`);
    }
  }
  if (problems.length > 0) throw new StepError(`docs/COMPATIBILITY.md:\n${problems.join("\n")}`);
}

main(async () => {
  const only = process.argv.slice(2);
  const [passed, failed] = [[], []];
  for (const [name, body] of Object.entries(checks)) {
    if (only.length > 0 && !only.includes(name)) continue;
    await step(name, async (progress) => void (await body(progress))).then(
      () => passed.push(name),
      (error) => {
        console.error(`${error.output ?? ""}  ✗ ${error instanceof StepError ? error.message : error.stack}`);
        failed.push(name);
      },
    );
  }
  // .ci/run adds these figures up.
  console.log(`npm run check: ${passed.length} passed, ${failed.length} failed`);
  if (failed.length > 0) throw new StepError(`failed: ${failed.join(", ")}`);
});
