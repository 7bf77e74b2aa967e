"use strict";
// A sandbox server on this machine, inside the package: no account, no image, no daemon to install.

const { randomBytes } = require("node:crypto");
const { existsSync } = require("node:fs");
const { dirname, join } = require("node:path");
const { inspect } = require("node:util");
const { SandboxClient } = require("./client.js");
const { Daemon, makeExecutable } = require("./daemon.js");
const { classes } = require("./errors.js");
const { serverPaths } = require("./load.js");
const { parse, rules } = require("./options.js");

const START_TIMEOUT_MS = 30_000;

const startRules = {
  port: rules.port,
  stateDir: rules.text,
  apiKey: {
    expects: "a non-empty string that is valid in an HTTP header",
    test: (value) => typeof value === "string" && /^[\x21-\x7e]+$/.test(value),
    secret: true,
  },
  signal: rules.signal,
  startTimeoutMs: rules.milliseconds,
};

function refuseOtherPlatforms() {
  if (process.platform === "linux") return;
  const remedy = "run it on Linux (a container, a virtual machine, WSL 2) and pass its address as apiEndpoint";
  const message = `LocalServer needs Linux namespaces, which ${process.platform} does not have; ${remedy}`;
  throw new classes.UnsupportedError(message, { phase: "start", reason: process.platform, remedy });
}

function findServer() {
  const paths = serverPaths();
  const path = paths.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    const remedy = existsSync(join(dirname(__dirname), "Cargo.toml"))
      ? "npm run build"
      : "npm install --include=optional";
    const message = `sandwired was not found; looked at ${paths.join(", ")}. To repair it, run: ${remedy}`;
    throw new classes.UnsupportedError(message, { phase: "start", remedy });
  }
  makeExecutable(path);
  makeExecutable(join(dirname(path), "sandwire-init"));
  return path;
}

/** The error that the server itself reported, with its reason and remedy. */
function reported({ code, message, remedy }) {
  const Class = Object.values(classes).find((candidate) => candidate.code === code) ?? classes.SandboxClientError;
  const text = `The local server can't start: ${message}${remedy ? ` (${remedy})` : ""}`;
  return new Class(text, { code, phase: "start", reason: message, remedy });
}

/** What kept the server from getting ready, as an error. */
function startFailure(outcome, log, timeoutMs) {
  const tail = log ? `; it said:\n${log}` : "";
  const attributes = { phase: "start", cause: outcome.error };
  if (outcome.late) {
    const message = `The local server was not ready within ${timeoutMs} ms (startTimeoutMs)${tail}`;
    return new classes.SandboxConnectTimeoutError(message, attributes);
  }
  const what = outcome.error?.message ?? outcome.ended ?? `its first line is unreadable: ${outcome.line}`;
  return new classes.SandboxClientError(`The local server can't start: ${what}${tail}`, attributes);
}

function parseLine(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

/** Waits until the server is ready; returns what it said of itself. */
async function ready(daemon, timeoutMs, signal) {
  const outcome = await daemon.firstLine(timeoutMs, signal);
  if (outcome.aborted) throw /** @type {AbortSignal} */ (signal).reason;
  const event = outcome.line === undefined ? null : parseLine(outcome.line);
  if (event?.event === "ready") return event;
  if (event?.event === "error") throw reported(event);
  throw startFailure(outcome, daemon.log, timeoutMs);
}

class LocalServer {
  #daemon;
  #apiKey;
  /** @type {Promise<void> | null} */
  #closed = null;

  /** @param {Daemon} daemon @param {any} event what it said when it was ready @param {string} apiKey */
  constructor(daemon, event, apiKey) {
    this.#daemon = daemon;
    this.#apiKey = apiKey;
    this.apiEndpoint = event.endpoint;
    this.pid = daemon.pid;
    this.isolation = event.isolation;
    this.warnings = event.isolation.warnings;
  }

  static async start(options) {
    const { port, stateDir, apiKey, signal, startTimeoutMs } = parse("LocalServer.start", startRules, options);
    signal?.throwIfAborted();
    refuseOtherPlatforms();
    const key = apiKey ?? randomBytes(32).toString("base64url");
    const args = ["serve", "--ephemeral", "--listen", `127.0.0.1:${port ?? 0}`];
    if (stateDir !== null) args.push("--state-dir", stateDir);
    // The key goes by the environment: command lines are readable by every user of the machine.
    const daemon = new Daemon(findServer(), args, { SANDWIRED_API_KEY: key });
    try {
      const event = await ready(daemon, startTimeoutMs ?? START_TIMEOUT_MS, signal);
      daemon.release();
      return new LocalServer(daemon, event, key);
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  }

  /** Not a data member, so that it is neither logged nor serialised. */
  get apiKey() {
    return this.#apiKey;
  }

  client(config) {
    return new SandboxClient({ apiEndpoint: this.apiEndpoint, apiKey: this.#apiKey, ...config });
  }

  close() {
    this.#closed ??= this.#daemon.stop();
    return this.#closed;
  }

  async [Symbol.asyncDispose]() {
    await this.close();
  }

  toString() {
    return `[LocalServer apiEndpoint="${this.apiEndpoint}" pid=${this.pid}]`;
  }

  [inspect.custom]() {
    return this.toString();
  }
}

module.exports = { LocalServer };
