// The official JavaScript client on our server, exactly as its users would write it: only endpoint and key are ours.

import { SandboxClient, type Sandbox } from "langsmith/sandbox";
import { LocalServer } from "../../index.mjs";

/** A server and the official client for it, ended by `close`. */
export async function startOfficial() {
  const server = await LocalServer.start();
  const client = new SandboxClient({ apiEndpoint: server.apiEndpoint, apiKey: server.apiKey });
  return { server, client, close: () => server.close() };
}

/** Passes a fresh sandbox to `body` and deletes it. */
export async function withSandbox(client: SandboxClient, body: (sandbox: Sandbox) => Promise<void>) {
  const sandbox = await client.createSandbox();
  try {
    await body(sandbox);
  } finally {
    await sandbox.delete();
  }
}

/** What `promise` rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("expected a rejection");
}
