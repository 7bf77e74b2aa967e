// The package without its binary: importing works, the first use says what is wrong and how to repair it.

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const home = mkdtempSync(join(tmpdir(), "sandwire-load-"));
const copy = join(home, "node_modules", "sandwire");

const USE = `
  const { SandboxClient, SandboxClientError } = require("sandwire");
  try { new SandboxClient({ apiEndpoint: "http://127.0.0.1:1" }); } catch (error) {
    console.log(JSON.stringify({ ...error, name: error.name, message: error.message, known: error instanceof SandboxClientError }));
  }`;

function use(script = USE, type = "commonjs"): any {
  const file = join(home, type === "module" ? "use.mjs" : "use.cjs");
  writeFileSync(file, script);
  const env = { PATH: process.env.PATH, HOME: home };
  return JSON.parse(execFileSync(process.execPath, [file], { env, encoding: "utf8" }));
}

beforeAll(() => {
  mkdirSync(copy, { recursive: true });
  for (const part of ["package.json", "index.js", "index.mjs", "index.d.ts", "lib"]) {
    cpSync(join(root, part), join(copy, part), { recursive: true });
  }
});

afterAll(() => rmSync(home, { recursive: true, force: true }));

describe("without the binary", () => {
  it("imports as CommonJS and as a module, with the same names", () => {
    const cjs = use(`console.log(JSON.stringify(Object.keys(require("sandwire")).sort()))`);
    const esm = use(`import * as all from "sandwire"; console.log(JSON.stringify(Object.keys(all).sort()))`, "module");
    expect(esm.filter((name: string) => name !== "default" && name !== "module.exports")).toEqual(cjs);
    expect(cjs).toContain("SandboxClient");
  });

  it("fails at the first use, naming platform, libc, node, what was tried and one command", () => {
    const error = use();
    expect(error).toMatchObject({ name: "UnsupportedError", code: "UNSUPPORTED", phase: "load", known: true });
    expect(error.message).toContain(`node ${process.version}`);
    expect(error.message).toContain(`${process.platform}-${process.arch}`);
    if (process.platform === "linux") expect(error.message).toMatch(/glibc \d|musl/);
    expect(error.message).toContain("binding.js");
    expect(error.remedy).toMatch(/^npm install --include=optional sandwire@\d/);
    expect(error.message).toContain(error.remedy);
  });

  it("tells the text of dlopen and of every file that the loader tried", () => {
    const loader = `
      const missing = new Error("Cannot find module './sandwire.node'\\nRequire stack:\\n- /x");
      throw new Error("Cannot find native binding", { cause: Object.assign(new Error("libfoo.so.1: cannot open"), { cause: missing }) });`;
    writeFileSync(join(copy, "binding.js"), loader);
    const { message } = use();
    expect(message).toContain("libfoo.so.1: cannot open");
    expect(message).toContain("Cannot find module './sandwire.node'");
    expect(message).not.toContain("Require stack");
  });

  it("refuses a binary of another version", () => {
    writeFileSync(join(copy, "binding.js"), `module.exports = { version: () => "9.9.9" };`);
    expect(use().message).toMatch(/version 9\.9\.9.*two versions of sandwire are mixed/s);
  });

  it("validates before it needs the binary", () => {
    rmSync(join(copy, "binding.js"));
    const error = use(USE.replace("apiEndpoint", "api_endpoint"));
    expect(error).toMatchObject({ name: "ValidationError", field: "api_endpoint" });
    expect(error.message).toContain("did you mean `apiEndpoint`?");
  });
});
