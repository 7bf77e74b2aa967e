"use strict";
// The exec stream as messages, for those who bring their own handle. One connection, nothing is repeated: what is lost
// stays lost, and the next `reconnectWsStream` is the caller's. The extension is not asked for, so that the caller can
// compute with positions: they count the bytes of the text that is given.

const { whenAborted, withSignal } = require("./abort.js");
const { Callbacks } = require("./callbacks.js");
const { binding } = require("./load.js");
const { callOptions, check, parse, rules, toBuffer } = require("./options.js");
const { checkCommand, commandSpec, runRules } = require("./run.js");
const { STREAMS, STRIDE, Tap } = require("./tap.js");

const ignore = () => {};

const { timeout, env, cwd, shell, idleTimeout, killOnDisconnect, ttlSeconds, pty, commandId, runConfig } = runRules;
const { onStdout, onStderr, signal, headers } = runRules;
const sharedRules = { signal, headers };
const runStreamRules = {
  ...{ timeout, env, cwd, shell, idleTimeout, killOnDisconnect, ttlSeconds, pty, commandId, runConfig },
  ...{ closeStdin: rules.flag, onStdout, onStderr },
  ...sharedRules,
};
const reconnectStreamRules = { stdoutOffset: rules.count, stderrOffset: rules.count, ...sharedRules };

const url = {
  expects: "a URL of http, https, ws or wss",
  test: (value) => typeof value === "string" && URL.canParse(value) && /^(http|ws)s?:/i.test(value),
};

let client;

/** One for all: whom it speaks to and with which key is said with each call. */
function shared() {
  const config = { apiEndpoint: "http://localhost", apiKey: null, timeoutMs: 10_000, maxRetries: 0 };
  return (client ??= new (binding().NativeClient)({ ...config, maxConcurrency: null, headers: [] }));
}

/** Controls a stream. Its calls never fail; after the end they do nothing. */
class WSStreamControl {
  #native;
  #callbacks;
  #killed = false;

  /** @param {any} native the native command @param {Callbacks} callbacks none of them is waited for after a kill */
  constructor(native, callbacks) {
    this.#native = native;
    this.#callbacks = callbacks;
  }

  get killed() {
    return this.#killed;
  }

  sendKill() {
    this.#killed = true;
    this.#callbacks.interrupt();
    this.#native.kill().catch(ignore);
  }

  /** @param {string | Uint8Array} data */
  sendInput(data) {
    check("sendInput", "data", data, rules.bytes);
    this.#native.sendInput(toBuffer(data)).catch(ignore);
  }

  sendCloseStdin() {
    this.#native.closeInput().catch(ignore);
  }
}

/** Out here, where it has nothing of the stream: see `whenAborted`. */
const onAbort = (control) => control.sendKill();

/** The messages of a stream. Whoever leaves the loop leaves the command alone, and closes the connection. */
async function* messages(native, { control, callbacks, signal }) {
  const tap = new Tap(native);
  const release = whenAborted(signal, control, onAbort);
  try {
    // The first step is taken before anybody listens, so that leaving always ends what is below.
    yield { type: "none" };
    yield { type: "started", command_id: native.commandId, ...(native.pid === null ? {} : { pid: native.pid }) };
    for (let batch; (batch = await tap.receive()) !== null;) {
      for (let at = 0; at < batch.length; at += STRIDE) {
        // A gap shows in the next offset.
        if (batch[at] < 0) continue;
        const [stream, data, offset] = [STREAMS[batch[at] & 1], batch[at + 1], batch[at + 2]];
        await callbacks.take({ stream, data });
        signal?.throwIfAborted();
        yield { type: stream, data, offset };
      }
    }
    signal?.throwIfAborted();
    yield { type: "exit", exit_code: (await native.result()).exitCode };
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  } finally {
    release();
    native.detach();
  }
}

/** Attaches, and gives `[messages, control]`. */
async function open(dataplaneUrl, apiKey, options, start) {
  const given = callOptions(options).headers ?? [];
  const explicit = !apiKey || given.some(([name]) => name.toLowerCase() === "x-api-key");
  const call = { headers: explicit ? given : [["X-Api-Key", apiKey], ...given], timeoutMs: null };
  const target = { name: "", dataplaneUrl: dataplaneUrl.replace(/^ws/i, "http") };
  const stream = { maxOutputBytes: 1, closeInput: options.closeStdin ?? false, input: null, raw: false };
  const native = await withSignal(options.signal, (cancel) =>
    start(shared(), target, { ...stream, reconnect: false }, call, cancel),
  );
  const { onStdout = null, onStderr = null, signal } = options;
  const callbacks = new Callbacks({ onStdout, onStderr, onGap: null });
  const control = new WSStreamControl(native, callbacks);
  const loop = messages(native, { control, callbacks, signal });
  await loop.next();
  return [loop, control];
}

function checkServer(call, dataplaneUrl, apiKey) {
  check(call, "dataplaneUrl", dataplaneUrl, url);
  if (apiKey !== undefined) check(call, "apiKey", apiKey, rules.secret);
}

/** @param {string} dataplaneUrl @param {string | undefined} apiKey @param {string} command @param {any} [given] */
async function runWsStream(dataplaneUrl, apiKey, command, given) {
  checkServer("runWsStream", dataplaneUrl, apiKey);
  checkCommand("runWsStream", command);
  const options = parse("runWsStream", runStreamRules, given);
  const spec = commandSpec(command, options);
  return open(dataplaneUrl, apiKey, options, (client, target, ...rest) => client.run(target, spec, ...rest));
}

/** @param {string} dataplaneUrl @param {string | undefined} apiKey @param {string} commandId @param {any} [given] */
async function reconnectWsStream(dataplaneUrl, apiKey, commandId, given) {
  checkServer("reconnectWsStream", dataplaneUrl, apiKey);
  check("reconnectWsStream", "commandId", commandId, rules.text);
  const options = parse("reconnectWsStream", reconnectStreamRules, given);
  const from = [options.stdoutOffset ?? 0, options.stderrOffset ?? 0];
  return open(dataplaneUrl, apiKey, options, (client, target, ...rest) =>
    client.reconnect(target, commandId, from[0], from[1], ...rest),
  );
}

module.exports = { runWsStream, reconnectWsStream };
