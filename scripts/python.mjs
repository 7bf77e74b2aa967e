// The Python programs that the tests need, in a virtual environment below target/: the official Python client and what
// drives it. It is made once for each state of the requirements; the index is whatever this machine's pip is set up for.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { platformName } from "./platform.mjs";
import { installPackages } from "./prerequisites.mjs";
import { root, run, step, works } from "./step.mjs";

const conformance = join(root, "__test__", "conformance");
const requirements = join(conformance, "requirements.txt");

/** Makes the virtual environment unless it is there. Resolves with the directory of its programs. */
export async function venv() {
  const version = await run("python3", ["-c", "import sys; print(sys.executable, sys.version)"]);
  const state = createHash("sha256")
    .update(version)
    .update(await readFile(requirements));
  const home = join(root, "target", `python-${state.digest("hex").slice(0, 12)}`);
  const bin = join(home, "bin");
  // Programs of a virtual environment name its place, so it can't be made elsewhere and moved: a mark says it is whole.
  const whole = join(home, "whole");
  if (existsSync(whole)) return bin;
  await step("install the Python programs of the tests", async (progress) => {
    if (!(await works("python3", ["-c", "import ensurepip, venv"]))) await installPackages(["python3-venv"]);
    await rm(home, { recursive: true, force: true });
    await run("python3", ["-m", "venv", home], { progress });
    const quiet = ["--disable-pip-version-check", "--no-input"];
    await run(join(bin, "python"), ["-m", "pip", "install", ...quiet, "-r", requirements], { progress });
    await writeFile(`${whole}.new`, "");
    await rename(`${whole}.new`, whole);
  });
  return bin;
}

/** Runs the official Python client's tests against the server that was built; `only` are further arguments for pytest. */
export async function pythonConformance(env = {}, only = []) {
  const bin = await venv();
  const args = ["-m", "pytest", "-c", join(conformance, "python", "pytest.ini"), ...only, join(conformance, "python")];
  await run(join(bin, "python"), args, {
    env: { ...env, PYTHONDONTWRITEBYTECODE: "1", SANDWIRED: join(root, "npm", platformName(), "sandwired") },
    live: true,
  });
}
