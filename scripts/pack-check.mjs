// Packs the npm package and the platform package of this machine, installs both tarballs into an empty directory far from
// the checkout, without network, and runs the README's example there. What users get is what is checked: sizes included.

import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { build, licenses } from "./build.mjs";
import { platformName } from "./platform.mjs";
import { isMain, main, root, run, step, StepError } from "./step.mjs";
import { withWorkDirectory } from "./workdir.mjs";

const maxPackages = 2;
/** What ships is optimised across crates; what the tests build in a third of the time is not, and larger for it. */
const maxMegabytes = { dist: 15, release: 20 };

/** Does it all below `work`, with what was built by that cargo profile. */
export async function packCheck(work, profile = "dist") {
  const dir = await mkdtemp(join(work, "pack-"));
  const tarballs = join(dir, "tarballs");
  const app = join(dir, "app");
  await Promise.all([mkdir(tarballs), mkdir(app)]);
  const files = [await pack(root, tarballs), await pack(join(root, "npm", platformName()), tarballs)];
  await step("the licences are in both tarballs", () => licensed(files));
  await step("npm install, offline", () => install(app, files));
  await step("size and number of packages", () => measure(app, maxMegabytes[profile]));
  await step("the README's example, as an ES module", () => runExample(app, "agent.mjs"));
  await step("the same, as CommonJS", () => runExample(app, "agent.cjs"));
  await rm(dir, { recursive: true });
}

async function pack(from, to) {
  const [{ filename }] = JSON.parse(await run("npm", ["pack", "--json", "--pack-destination", to], { cwd: from }));
  return join(to, filename);
}

async function licensed(tarballs) {
  for (const tarball of tarballs) {
    const entries = (await run("tar", ["-tzf", tarball])).split("\n");
    const missing = licenses.filter((name) => !entries.includes(`package/${name}`));
    if (missing.length > 0) throw new StepError(`${tarball} carries no ${missing.join(" and no ")}`);
  }
}

async function install(app, files) {
  await writeFile(join(app, "package.json"), JSON.stringify({ name: "app", private: true }));
  const cache = join(app, "..", "empty-cache");
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--cache", cache, ...files], { cwd: app });
}

async function measure(app, most) {
  const packages = (await run("npm", ["ls", "--all", "--parseable"], { cwd: app })).trim().split("\n").length - 1;
  const bytes = 1024 * Number((await run("du", ["-sk", join(app, "node_modules")])).split("\t")[0]);
  const megabytes = `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
  if (packages > maxPackages) throw new StepError(`${packages} packages, ${maxPackages} are allowed`);
  if (bytes > most * 1024 ** 2) throw new StepError(`${megabytes} on disk, ${most} MiB are allowed`);
  const scripts = await installScripts(join(app, "node_modules"));
  if (scripts.length > 0) throw new StepError(`install scripts: ${scripts.join(", ")}`);
  return `${packages} packages, ${megabytes}`;
}

async function installScripts(modules) {
  const found = [];
  for (const entry of await readdir(modules, { recursive: true })) {
    if (!entry.endsWith("package.json")) continue;
    const { scripts = {} } = JSON.parse(await readFile(join(modules, entry), "utf8"));
    found.push(
      ...["preinstall", "install", "postinstall"].filter((name) => name in scripts).map((name) => `${entry}: ${name}`),
    );
  }
  return found;
}

async function runExample(app, name) {
  const esm = await readFile(join(root, "examples", "agent.mjs"), "utf8");
  await writeFile(join(app, name), name.endsWith(".cjs") ? toCommonJs(esm) : esm);
  const output = await run(process.execPath, [name], { cwd: app });
  const wanted = await readFile(join(root, "examples", "agent.txt"), "utf8");
  if (output !== wanted) throw new StepError(`the example printed\n${output}\ninstead of\n${wanted}`);
}

/** The example's imports are static and it awaits at the top level: both are spelled differently in CommonJS. */
function toCommonJs(source) {
  const body = source.replaceAll(/^import (.+) from (".+");$/gm, "const $1 = require($2);");
  return `(async () => {\n${body}\n})();\n`;
}

if (isMain(import.meta.url)) {
  main(async () => {
    const { values } = parseArgs({ options: { "as-is": { type: "boolean" } } });
    const profile = values["as-is"] ? "dist" : "release";
    if (!values["as-is"]) await build(profile);
    await withWorkDirectory((work) => packCheck(work, profile));
  });
}
