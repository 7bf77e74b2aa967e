"use strict";
// The options of `run` and `reconnect`, checked, and what they become: a command on the wire and a way to receive it.

const { callOptions, callRules, check, oneOf, parse, rules, toBuffer } = require("./options.js");
const { classes } = require("./errors.js");

/** 256 MiB per stream, under the longest string that the engine can make. */
const OUTPUT_LIMIT = 256 * 1024 * 1024;
const TIMEOUT_SECONDS = 60;

const receiveRules = {
  ...callRules,
  output: oneOf("text", "bytes"),
  maxOutputBytes: rules.outputLimit,
  reject: rules.flag,
  onStdout: rules.callback,
  onStderr: rules.callback,
  onGap: rules.callback,
};

const runRules = {
  timeout: rules.wholeSeconds,
  env: rules.environment,
  cwd: rules.text,
  shell: rules.text,
  wait: rules.flag,
  idleTimeout: rules.secondsOrForever,
  killOnDisconnect: rules.flag,
  ttlSeconds: rules.secondsOrForever,
  pty: rules.flag,
  commandId: rules.text,
  runConfig: rules.json,
  closeInput: rules.flag,
  input: rules.bytes,
  ...receiveRules,
};

const reconnectRules = { stdoutOffset: rules.count, stderrOffset: rules.count, ...receiveRules };

const runConfigRules = {
  user: rules.text,
  work_dir: { expects: "an absolute path", test: (value) => rules.text.test(value) && value.startsWith("/") },
  env_vars: rules.environment,
};

/** Leaves out what is absent: on the wire absence means the server's default. */
const present = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));

function runConfig(options) {
  if (options.runConfig === null) return null;
  for (const field of ["env", "cwd"]) {
    if (options[field] === null) continue;
    const message = `run: \`${field}\` can't be combined with \`runConfig\`; put it in there (env_vars, work_dir)`;
    throw new classes.ValidationError(message, { field });
  }
  return present(parse("run: runConfig", runConfigRules, options.runConfig));
}

/** The command as the wire has it. */
function commandSpec(command, options) {
  return JSON.stringify(
    present({
      command,
      timeout_seconds: options.timeout ?? TIMEOUT_SECONDS,
      shell: options.shell,
      idle_timeout_seconds: options.idleTimeout,
      kill_on_disconnect: options.killOnDisconnect,
      ttl_seconds: options.ttlSeconds,
      command_id: options.commandId,
      env: options.env,
      cwd: options.cwd,
      run_config: runConfig(options),
      pty: options.pty,
    }),
  );
}

/** How output is received; the part that `run` and `reconnect` share. */
function reception(options) {
  const { signal, onStdout, onStderr, onGap } = options;
  return {
    call: callOptions(options),
    signal,
    onStdout,
    onStderr,
    onGap,
    callbacks: onStdout !== null || onStderr !== null,
    raw: options.output === "bytes",
    reject: options.reject ?? true,
    killOnBreak: options.killOnDisconnect ?? false,
    from: [options.stdoutOffset ?? 0, options.stderrOffset ?? 0],
    /** The options to receive it the same way once more. */
    receive: present(Object.fromEntries(Object.keys(receiveRules).map((name) => [name, options[name]]))),
  };
}

const streamOptions = (options, closeInput, input) => ({
  maxOutputBytes: options.maxOutputBytes ?? OUTPUT_LIMIT,
  closeInput,
  input,
  raw: options.output === "bytes",
  reconnect: true,
});

/**
 * Who waits for the command has nobody to type, so its readers see the end of input at once; a handle's input stays open.
 * A terminal has no half-close: its input is always open.
 */
function closesInput({ pty, closeInput }, wait) {
  if (pty) return false;
  return closeInput ?? wait;
}

function checkCommand(call, command) {
  check(call, "command", command, {
    expects: "a string without NUL and lone surrogates",
    test: (value) => typeof value === "string" && !value.includes("\0") && value.isWellFormed(),
  });
}

/** @param {unknown} command @param {any} given */
function planRun(command, given) {
  checkCommand("run", command);
  const options = parse("run", runRules, given);
  const wait = options.wait ?? true;
  const input = options.input === null ? null : toBuffer(options.input);
  return {
    ...reception(options),
    wait,
    spec: commandSpec(command, options),
    stream: streamOptions(options, closesInput(options, wait), input),
  };
}

/** @param {unknown} commandId @param {any} given @param {object} [inherited] what holds where `given` says nothing */
function planReconnect(commandId, given, inherited = {}) {
  check("reconnect", "commandId", commandId, rules.text);
  parse("reconnect", reconnectRules, given);
  const options = parse("reconnect", reconnectRules, { ...inherited, ...given });
  return { ...reception(options), commandId, stream: streamOptions(options, false, null) };
}

module.exports = { checkCommand, commandSpec, planRun, planReconnect, runRules };
