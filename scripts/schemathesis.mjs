// The server against its own description: schemathesis makes requests from /openapi.json, valid ones and broken ones, and
// checks that the answers are among those described.

import { mkdtemp, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

import { startDaemon } from "./daemon.mjs";
import { venv } from "./python.mjs";
import { run } from "./step.mjs";

const { SandboxClient } = createRequire(import.meta.url)("../index.js");

/** What is checked of every answer. Whether a valid request is refused depends on what exists, so that is not. */
const checks = [
  "not_a_server_error",
  "status_code_conformance",
  "content_type_conformance",
  "response_schema_conformance",
  "ignored_auth",
].join(",");

/** 501 is an answer that is described; 502 and 504 are those of programs in a sandbox; 507 is a full disk. */
const config = (sandbox) => `
[parameters]
"path.name" = "${sandbox.name}"
"path.id" = "${sandbox.id}"

# Deleting would end the sandbox that all requests share.
[[operations]]
include-name = "DELETE /v2/sandboxes/boxes/{name}"
parameters = { "path.name" = "nobody" }

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "501", "502", "504", "507"]
`;

/** Its answers never end. */
const left = "/events$";

/** Runs `examples` requests per operation against a server of its own. Rejects with the report if one is wrong. */
export async function schemathesis(work, examples) {
  const bin = await venv();
  const server = await startDaemon(await mkdtemp(join(work, "schemathesis-")));
  try {
    const client = new SandboxClient(server.config);
    const sandbox = await client.createSandbox({ name: "described" });
    const file = join(work, "schemathesis.toml");
    await writeFile(file, config(sandbox));
    const url = new URL("/openapi.json", server.config.apiEndpoint).href;
    const args = ["--config-file", file, "run", url, "--header", `X-Api-Key: ${server.config.apiKey}`];
    // One at a time: a request that stops the sandbox would end the work of another, and what is found could not be repeated.
    args.push("--checks", checks, "--max-examples", String(examples), "--request-timeout", "60", "--workers", "1");
    args.push("--exclude-path-regex", left);
    args.push("--phases", "examples,coverage,fuzzing", "--no-color", "--generation-database", "none");
    await run(join(bin, "schemathesis"), args, { env: { TMPDIR: work }, cwd: work, live: true });
  } finally {
    await server.end();
  }
}
