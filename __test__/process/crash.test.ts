// What was acknowledged survives the death of the server, wherever it comes. The long form is `npm run long -- crash`.

import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

import { buildDebugServer } from "../../scripts/build.mjs";
import { crashAtPlaces, crashUnderLoad, places } from "../../scripts/crash.mjs";

const stateDir = () => mkdtempSync(join(tmpdir(), "sandwire-crash-"));

it("at every place where something is half done", { timeout: 600_000 }, async () => {
  const outcome = await crashAtPlaces(stateDir(), { program: await buildDebugServer() });
  expect(outcome.places).toBe(places.length);
});

it("under load, some times in a row", async () => {
  const { requests, files } = await crashUnderLoad(stateDir(), { rounds: 5, atOnce: 4 });
  expect(requests).toBeGreaterThan(20);
  expect(files).toBeGreaterThan(0);
});
