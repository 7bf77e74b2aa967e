"use strict";
// The control plane: sandboxes are made, found and deleted here.

const { inspect } = require("node:util");
const { withSignal } = require("./abort.js");
const { classes } = require("./errors.js");
const { fromNative } = require("./failure.js");
const { binding } = require("./load.js");
const { callOptions, callRules, check, parse, rules } = require("./options.js");
const { Sandbox } = require("./sandbox.js");

const REQUEST_TIMEOUT_MS = 10_000;
const RETRIES = 3;
const CREATE_TIMEOUT_SECONDS = 30;
const WAIT_TIMEOUT_SECONDS = 120;
const POLL_INTERVAL_SECONDS = 1;

const configRules = {
  apiEndpoint: rules.text,
  apiKey: rules.secret,
  timeoutMs: rules.milliseconds,
  maxRetries: rules.count,
  maxConcurrency: rules.limit,
  headers: rules.headers,
};

const createRules = {
  snapshotName: rules.text,
  name: rules.name,
  timeout: rules.wholeSeconds,
  waitForReady: rules.flag,
  idleTtlSeconds: rules.minutes,
  deleteAfterStopSeconds: rules.minutes,
  vCpus: rules.positive,
  memBytes: rules.positive,
  fsCapacityBytes: rules.positive,
  proxyConfig: rules.json,
  ...callRules,
};

const waitRules = {
  timeout: rules.seconds,
  pollInterval: { expects: "a number of seconds above 0", test: (value) => Number.isFinite(value) && value > 0 },
  ...callRules,
};

/** Credentials belong in `apiKey` or `headers`: a URL is shown in messages and logs. */
function checkEndpoint(endpoint) {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : null;
  if (url && /^https?:$/.test(url.protocol) && !url.username && !url.password) return;
  const remedy = "check `apiEndpoint`, or LANGSMITH_ENDPOINT in the environment";
  const message = `SandboxClient: the API endpoint must be an http or https URL without credentials; ${remedy}`;
  throw new classes.ValidationError(message, { field: "apiEndpoint" });
}

function openNative(options, apiEndpoint) {
  const { NativeClient, resolveApiKey } = binding();
  try {
    return new NativeClient({
      apiEndpoint,
      apiKey: resolveApiKey(options.apiKey),
      timeoutMs: options.timeoutMs ?? REQUEST_TIMEOUT_MS,
      maxRetries: options.maxRetries ?? RETRIES,
      maxConcurrency: options.maxConcurrency === Infinity ? null : options.maxConcurrency,
      headers: Object.entries(options.headers ?? {}),
    });
  } catch (error) {
    throw fromNative(error);
  }
}

/** The options of a create as the wire has them. */
function createBody(options, snapshotId, waitSeconds) {
  return JSON.stringify({
    wait_for_ready: options.waitForReady ?? true,
    timeout: waitSeconds ?? undefined,
    name: options.name ?? undefined,
    snapshot_id: snapshotId,
    snapshot_name: options.snapshotName ?? undefined,
    idle_ttl_seconds: options.idleTtlSeconds ?? undefined,
    delete_after_stop_seconds: options.deleteAfterStopSeconds ?? undefined,
    vcpus: options.vCpus ?? undefined,
    mem_bytes: options.memBytes ?? undefined,
    fs_capacity_bytes: options.fsCapacityBytes ?? undefined,
    proxy_config: options.proxyConfig ?? undefined,
  });
}

class SandboxClient {
  #native;
  #apiEndpoint;

  constructor(config) {
    const options = parse("SandboxClient", configRules, config);
    this.#apiEndpoint = binding().resolveEndpoint(options.apiEndpoint);
    checkEndpoint(this.#apiEndpoint);
    this.#native = openNative(options, this.#apiEndpoint);
  }

  get apiEndpoint() {
    return this.#apiEndpoint;
  }

  /** `createSandbox(options?)` or `createSandbox(snapshotId?, options?)`. */
  async createSandbox(first, second) {
    return this.#create("createSandbox", first, second, false);
  }

  async sandbox(first, second) {
    return this.#create("sandbox", first, second, true);
  }

  async #create(method, first, second, owned) {
    const positional = typeof first === "string" || second !== undefined;
    const snapshotId = positional ? first : undefined;
    const options = parse(method, createRules, positional ? second : first);
    if (snapshotId !== undefined) check(method, "snapshotId", snapshotId, rules.text);
    if (snapshotId !== undefined && options.snapshotName !== null) {
      const message = `${method}: \`snapshotId\` and \`snapshotName\` exclude each other; give one`;
      throw new classes.ValidationError(message, { field: "snapshotId" });
    }
    const waitSeconds = (options.waitForReady ?? true) ? (options.timeout ?? CREATE_TIMEOUT_SECONDS) : null;
    const body = createBody(options, snapshotId, waitSeconds);
    const data = await withSignal(options.signal, (cancel) =>
      this.#native.createSandbox(body, waitSeconds ?? 0, callOptions(options), cancel),
    );
    return new Sandbox(this.#native, JSON.parse(data), owned);
  }

  async getSandbox(name, options) {
    const { call, signal } = this.#named("getSandbox", name, options);
    const data = await withSignal(signal, (cancel) => this.#native.getSandbox(name, call, cancel));
    return new Sandbox(this.#native, JSON.parse(data));
  }

  async listSandboxes(options) {
    const { signal, ...call } = parse("listSandboxes", callRules, options);
    const data = await withSignal(signal, (cancel) => this.#native.listSandboxes(callOptions(call), cancel));
    return JSON.parse(data).map((item) => new Sandbox(this.#native, item));
  }

  async deleteSandbox(name, options) {
    const { call, signal } = this.#named("deleteSandbox", name, options);
    await withSignal(signal, (cancel) => this.#native.deleteSandbox(name, call, cancel));
  }

  async getSandboxStatus(name, options) {
    const { call, signal } = this.#named("getSandboxStatus", name, options);
    const data = await withSignal(signal, (cancel) => this.#native.sandboxStatus(name, call, cancel));
    const { status, status_message } = JSON.parse(data);
    return { status, status_message: status_message ?? undefined };
  }

  async waitForSandbox(name, options) {
    check("waitForSandbox", "name", name, rules.name);
    const { signal, ...given } = parse("waitForSandbox", waitRules, options);
    const timeout = given.timeout ?? WAIT_TIMEOUT_SECONDS;
    const interval = given.pollInterval ?? POLL_INTERVAL_SECONDS;
    const data = await withSignal(signal, (cancel) =>
      this.#native.waitForSandbox(name, timeout, interval, callOptions(given), cancel),
    );
    return new Sandbox(this.#native, JSON.parse(data));
  }

  #named(method, name, given) {
    check(method, "name", name, rules.name);
    const options = parse(method, callRules, given);
    return { call: callOptions(options), signal: options.signal };
  }

  close() {
    this.#native.close();
  }

  async [Symbol.asyncDispose]() {
    this.close();
  }

  toString() {
    return `[SandboxClient apiEndpoint="${this.#apiEndpoint}"]`;
  }

  toJSON() {
    return { apiEndpoint: this.#apiEndpoint };
  }

  [inspect.custom]() {
    return this.toString();
  }
}

module.exports = { SandboxClient };
