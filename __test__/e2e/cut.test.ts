// A connection that is cut again and again in the middle of 100 MB: every byte arrives once, however it is taken.

import { beforeAll, describe, expect, it } from "vitest";

import { cutRun, expected } from "../../scripts/cut.mjs";
import { useLocalServer } from "./local.js";

const local = useLocalServer();
const bytes = 100_000_000;

let wanted: Awaited<ReturnType<typeof expected>>;

beforeAll(async () => {
  wanted = await expected(local.sandbox, bytes);
});

/** One run; how often it was cut is no part of what is expected. */
async function run(seed: number, way: "loop" | "callbacks" | "result") {
  const { apiEndpoint, apiKey } = local.server;
  const config = { apiEndpoint, apiKey };
  const { cuts, ...got } = await cutRun({ config, sandbox: local.sandbox.name, bytes, seed, way });
  expect(cuts, "the proxy cut nothing").toBeGreaterThan(20);
  return got;
}

// At the same time: a run is mostly pauses between connections.
describe.concurrent("100 MB through cuts", { timeout: 240_000 }, () => {
  it("in loops, five times", async ({ expect }) => {
    expect(await Promise.all([1, 2, 3, 4, 5].map((seed) => run(seed, "loop")))).toEqual(Array(5).fill(wanted));
  });

  it("with callbacks", async ({ expect }) => {
    expect(await run(6, "callbacks")).toEqual(wanted);
  });

  it("with the result alone", async ({ expect }) => {
    expect(await run(7, "result")).toEqual(wanted);
  });
});
