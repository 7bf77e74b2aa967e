"use strict";
// The result of a command. Its output stays in native memory and becomes a JS value when it is read, so a program that
// looks at the exit code alone never pays for the output.

const { inspect } = require("node:util");
const { classes } = require("./errors.js");
const { partialOf } = require("./failure.js");

/** @typedef {{ raw: boolean, reject: boolean }} ResultOptions */

/** Defines an enumerable property that is computed at its first reading. */
function lazily(target, name, enumerable, read) {
  const settle = (value) => Object.defineProperty(target, name, { value, enumerable, configurable: true });
  Object.defineProperty(target, name, { enumerable, configurable: true, get: () => settle(read())[name] });
}

class ExecutionResult {
  /**
   * @param {{ stdout: () => string | Buffer, stderr: () => string | Buffer }} output
   * @param {Record<string, any>} fields the other members, under their names
   */
  constructor(output, fields) {
    lazily(this, "stdout", true, output.stdout);
    lazily(this, "stderr", true, output.stderr);
    Object.assign(this, fields);
    this.success = this.outcome === "exited" && this.exit_code === 0;
  }

  /** @param {any} native @param {ResultOptions} options */
  static fromNative(native, { raw }) {
    const output = raw
      ? { stdout: () => native.stdoutBytesBuffer(), stderr: () => native.stderrBytesBuffer() }
      : { stdout: () => native.stdout, stderr: () => native.stderr };
    return new ExecutionResult(output, {
      exit_code: native.exitCode,
      outcome: native.outcome,
      ...(native.signal === null ? {} : { signal: native.signal }),
      duration_ms: native.durationMs,
      stdout_bytes: native.stdoutBytes,
      stderr_bytes: native.stderrBytes,
      stdout_truncated: native.stdoutTruncated,
      stderr_truncated: native.stderrTruncated,
      gaps: JSON.parse(native.gaps),
    });
  }

  /**
   * What a failed command had delivered; `undefined` where it never started.
   * @param {unknown} error @param {ResultOptions} options
   */
  static ofFailure(error, options) {
    const native = partialOf(error);
    return native && ExecutionResult.fromNative(native, options);
  }

  /** The same output under another outcome. */
  withOutcome(outcome) {
    const { stdout, stderr, success, ...fields } = Object.getOwnPropertyDescriptors(this);
    const output = { stdout: () => this.stdout, stderr: () => this.stderr };
    const plain = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value]));
    return new ExecutionResult(output, { ...plain, outcome });
  }

  /** Returns this result if the command succeeded, else throws. */
  orThrow() {
    if (this.success) return this;
    const error = new classes.SandboxOperationError(`The command ${this.#ending()}${this.#lastWords()}`, {
      operation: "command",
      errorType: "CommandError",
    });
    Error.captureStackTrace(error, this.orThrow);
    throw attach(error, this);
  }

  #ending() {
    if (this.outcome === "exited") return `exited with code ${this.exit_code}`;
    return { killed: "was killed", timed_out: "exceeded its timeout", lost: "was lost", aborted: "was aborted" }[
      this.outcome
    ];
  }

  #lastWords() {
    const line = String(this.stderr).trimEnd().split("\n").at(-1)?.slice(0, 200);
    return line ? `: ${line}` : "";
  }

  [inspect.custom](_depth, options) {
    return `ExecutionResult ${inspect({ ...this }, options)}`;
  }
}

/** Gives an error the members of a result. The output is not enumerable: errors are logged whole. */
function attach(error, result) {
  for (const name of Object.keys(result)) {
    if (name === "success" || name in error) continue;
    if (name === "stdout" || name === "stderr") lazily(error, name, false, () => result[name]);
    else error[name] = result[name];
  }
  return error;
}

/**
 * Decides what becomes of a command that failed: with `reject: false` a result, where it had started; else an error that
 * carries what it had delivered.
 * @param {any} error @param {ExecutionResult | undefined} partial @param {ResultOptions} options
 */
function settleFailure(error, partial, options) {
  if (partial === undefined) throw error;
  if (!options.reject) return partial;
  throw attach(error, partial);
}

module.exports = { ExecutionResult, settleFailure };
