// Our client and the official one, on the same server.

import { createRequire } from "node:module";

import { SandboxClient as OfficialClient } from "langsmith/sandbox";

const { LocalServer } = createRequire(import.meta.url)("../index.js");

/** Starts the server and passes both clients to `body`. */
export async function withServer(body) {
  const server = await LocalServer.start();
  try {
    const official = new OfficialClient({ apiEndpoint: server.apiEndpoint, apiKey: server.apiKey });
    return await body({ server, ours: server.client(), official });
  } finally {
    await server.close();
  }
}

/** How long `body` takes, in milliseconds. */
export async function timed(body) {
  const start = performance.now();
  await body();
  return performance.now() - start;
}

/**
 * Sends one request as plain HTTP. `time` is what the server says it spent in the step `name` (a `Server-Timing` header),
 * or, from a server that does not say, the whole exchange, which `exact` tells apart.
 */
export async function serverTiming({ apiKey }, url, body, name) {
  const headers = { "X-Api-Key": apiKey, "Content-Type": "application/json" };
  const start = performance.now();
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  const json = await response.json();
  const whole = performance.now() - start;
  if (!response.ok) throw new Error(`${url}: ${response.status} ${JSON.stringify(json)}`);
  const match = new RegExp(`\\b${name};dur=([0-9.]+)`).exec(response.headers.get("server-timing") ?? "");
  return { time: match ? Number(match[1]) : whole, exact: match !== null, json };
}

/** The name of a row that `serverTiming` filled. */
export const timingName = (name, exact) => `${name} (${exact ? "the server's own time" : "whole HTTP exchange"})`;
