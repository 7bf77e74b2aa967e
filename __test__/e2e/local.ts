// The real server for a file of tests, and what they share.

import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";

import { LocalServer, type Sandbox, type SandboxClient } from "../../index.mjs";

export { rejection } from "../rejection.js";

export interface Local {
  readonly server: LocalServer;
  readonly client: SandboxClient;
  /** One sandbox for the whole file. */
  readonly sandbox: Sandbox;
}

/** Starts a server before the tests of this file and ends it after them; with `"each"`, one for each test. */
export function useLocalServer(per: "file" | "each" = "file"): Local {
  const local = {} as { server: LocalServer; client: SandboxClient; sandbox: Sandbox };
  const [before, after] = per === "file" ? [beforeAll, afterAll] : [beforeEach, afterEach];
  before(async () => {
    local.server = await LocalServer.start();
    local.client = local.server.client();
    local.sandbox = await local.client.createSandbox();
  });
  after(async () => {
    local.client?.close();
    await local.server?.close();
  });
  return local;
}

/** Waits until something is so; the test's own limit ends it if it never is. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(20);
}

/** Whether a process lives; a zombie that its parent has not collected does not. */
export function lives(pid: number): boolean {
  const stat = `/proc/${pid}/stat`;
  if (!existsSync(stat)) return false;
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(stat, "utf8"));
  } catch {
    return false;
  }
}
