// `npm test`: everything that is tested, with all set-up, on a machine that has only Node and Rust. Every suite runs even
// if an earlier one failed; the exit code and the last lines say what became of each.

import { join } from "node:path";

import { build } from "./build.mjs";
import { packCheck } from "./pack-check.mjs";
import { checkPrerequisites, installNodeModules } from "./prerequisites.mjs";
import { pythonConformance } from "./python.mjs";
import { schemathesis } from "./schemathesis.mjs";
import { main, run, seconds, step, StepError, works } from "./step.mjs";
import { copyCheckout, ensureTestUsers, runAs } from "./test-users.mjs";
import { withWorkDirectory } from "./workdir.mjs";

const linux = process.platform === "linux";
const isRoot = process.getuid?.() === 0;
const vitest = ["node_modules/vitest/vitest.mjs", "run"];

async function test() {
  const start = performance.now();
  await checkPrerequisites([
    ["newuidmap", "uidmap"],
    ["pgrep", "procps"],
  ]);
  await installNodeModules();
  await build("release");
  const outcomes = await withWorkDirectory(runSuites);
  const failed = outcomes.filter(({ error }) => error);
  console.log(`\n${outcomes.map(({ title, error, time }) => `${error ? "✗" : "✓"} ${title} (${time})`).join("\n")}`);
  // .ci/run adds these figures up.
  console.log(
    `\nnpm test: ${outcomes.length - failed.length} passed, ${failed.length} failed, of the suites in ${seconds(start)}`,
  );
  if (failed.length > 0) throw new StepError(`failed: ${failed.map(({ title }) => title).join("; ")}`);
}

async function runSuites(work) {
  const users = await rootlessUsers(work);
  const outcomes = [];
  for (const [title, body] of suites(work, users)) {
    const start = performance.now();
    console.log(`\n━━ ${title}`);
    const error = await body().then(
      () => undefined,
      (failure) => failure,
    );
    if (error) console.error(`${error.output ?? ""}\n✗ ${error instanceof StepError ? error.message : error.stack}`);
    outcomes.push({ title, error, time: seconds(start) });
  }
  return outcomes;
}

function suites(work, users) {
  const env = { TMPDIR: work };
  const vitestOf =
    (...projects) =>
    () =>
      run(process.execPath, [...vitest, ...projects.flatMap((name) => ["--project", name])], { env, live: true });
  const always = [
    ["Rust", () => rustTests(env)],
    ["JavaScript: unit, types", vitestOf("unit", "types")],
  ];
  if (!linux) return always;
  return [
    ...always,
    [`real server, as ${isRoot ? "root" : "this user"}: e2e, conformance`, vitestOf("e2e", "conformance")],
    ["the official Python client", () => pythonConformance(env)],
    ["the server against its own description", () => schemathesis(work, 10)],
    ["processes and leaks", vitestOf("process")],
    ...users.map((user) => [`real server, as ${user}: e2e`, () => e2eAs(user, work)]),
    ["the package, installed elsewhere", () => packCheck(work, "release")],
  ];
}

/** Who else runs the tests: only root can make users and become them. */
async function rootlessUsers(work) {
  if (!linux || !isRoot) return [];
  return step("prepare the users of the rootless tests", async () => {
    await copyCheckout(work);
    return ensureTestUsers();
  });
}

async function rustTests(env) {
  const cargo = (...args) => run("cargo", [...args, "--locked"], { env, live: true });
  // The isolation tests have no harness: they enter namespaces first of all, and as root they run once more as each of the
  // users. cargo-nextest, which starts one process per test, has no way to run such a program.
  const others = linux
    ? ["--workspace", "--exclude", "sandwire-isolate"]
    : ["-p", "sandwire-protocol", "-p", "sandwire-client"];
  if (await works("cargo", ["nextest", "--version"])) {
    await cargo("nextest", "run", "--no-fail-fast", ...others);
    await cargo("test", "--doc", ...others);
  } else {
    await cargo("test", "--no-fail-fast", ...others);
  }
  if (linux) await cargo("test", "--no-fail-fast", "-p", "sandwire-isolate");
}

const e2eAs = (user, work) =>
  runAs(user, work, join(work, "checkout"), "node", [...vitest, "--project", "e2e"], { CI: process.env.CI ?? "" });

main(test);
