// The official JavaScript client on our server, exactly as its users would write it: only endpoint and key are ours.

import dns from "node:dns";

import { SandboxClient, type CreateSandboxOptions, type Sandbox } from "langsmith/sandbox";
import { test } from "vitest";

import { LocalServer } from "../../index.mjs";

/** A test of what the server is to do and does not do yet. It fails as soon as it does. */
export const later = test.fails;

/**
 * Names below localhost are this machine, as browsers, curl and most resolvers have it; the C library alone has not.
 * Holds for this process, which is one test file's.
 */
export function resolveLocalNames() {
  const lookup = dns.lookup as (host: string, ...rest: unknown[]) => void;
  const local = (host: string, ...rest: unknown[]) => lookup(host.endsWith(".localhost") ? "127.0.0.1" : host, ...rest);
  dns.lookup = local as typeof dns.lookup;
}

/** A server and the official client for it, ended by `close`. */
export async function startOfficial() {
  const server = await LocalServer.start();
  const client = new SandboxClient({ apiEndpoint: server.apiEndpoint, apiKey: server.apiKey });
  return { server, client, close: () => server.close() };
}

/** Passes a fresh sandbox to `body` and deletes it. */
export async function withSandbox(
  client: SandboxClient,
  body: (sandbox: Sandbox) => Promise<void>,
  options: CreateSandboxOptions = {},
) {
  const sandbox = await client.createSandbox(options);
  try {
    await body(sandbox);
  } finally {
    // By its id, since it may have been renamed.
    await client.deleteSandbox(sandbox.id!);
  }
}
