// Every program in the documentation runs, and ends by itself.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

import { runProgram } from "./child.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const pages = ["README.md", ...readdirSync(`${root}docs`).map((name) => `docs/${name}`)];

/** A block that imports something is a program; others are parts of one. */
const programs = pages.flatMap((page) => {
  const blocks = [...readFileSync(root + page, "utf8").matchAll(/```js\n([^]*?)```/g)].map(([, code = ""]) => code);
  return blocks.filter((code) => /^import /m.test(code)).map((code, i) => ({ name: `${page}, ${i + 1}`, code }));
});

describe("programs of the documentation", () => {
  it("are there", () => expect(programs.length).toBeGreaterThanOrEqual(2));

  it.each(programs)("$name", async ({ code }) => {
    const ended = await runProgram(code);
    expect(ended, ended.stderr).toMatchObject({ code: 0, signal: null, stderr: "" });
  });
});
