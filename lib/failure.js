"use strict";
// What the native side rejects with becomes a public error. Rust sends a code and details, never a class: a class can't be
// reached from there in every thread and realm that a program may have.

const { isNativeError } = require("node:util/types");
const { classes } = require("./errors.js");

/** @type {WeakMap<object, object>} the native result of a command that failed after it had started */
const partials = new WeakMap();

const byCode = new Map(Object.values(classes).map((Class) => [Class.code, Class]));

const camelCase = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

function detailsOf(error) {
  if (typeof error.details !== "string") return {};
  return JSON.parse(error.details);
}

/**
 * The public error for what the native side rejected with. Made in the caller's async context, its stack shows the
 * caller's line; the native error has none.
 * @param {unknown} error
 */
function fromNative(error) {
  if (!isNativeError(error) || error instanceof classes.SandboxClientError) return error;
  const { code, retryable, cause, result } = /** @type {any} */ (error);
  const Class = byCode.get(code);
  if (Class === undefined && code !== "ABORTED") return new classes.SandboxClientError(error.message, { cause: error });
  /** @type {Record<string, unknown>} */
  const attributes = { code, retryable, cause };
  for (const [name, value] of Object.entries(detailsOf(error))) attributes[camelCase(name)] ??= value;
  const made = new (Class ?? classes.SandboxClientError)(error.message, attributes);
  if (result) partials.set(made, result);
  Error.captureStackTrace(made, fromNative);
  return made;
}

/**
 * Remembers the line that asked, for errors of promises that are handled twice: V8 does not follow those to the caller.
 * @returns {(error: unknown) => unknown} puts that line into an error
 */
function callersLine() {
  const here = { stack: "" };
  Error.captureStackTrace(here, callersLine);
  return (error) => {
    if (error instanceof classes.SandboxClientError) {
      error.stack = [`${error.name}: ${error.message}`, ...here.stack.split("\n").slice(1)].join("\n");
    }
    return error;
  };
}

/** What a failed command had delivered, in the names of the result; `undefined` where it never started. */
const partialOf = (error) => partials.get(error);

module.exports = { fromNative, callersLine, partialOf };
