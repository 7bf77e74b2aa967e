"use strict";
// Every failure is one of these classes. The native side sends a code and details, never a class: `fromNative` finds the
// class, because a class can't be reached from Rust in every thread and realm that a program may have.
// `instanceof` goes by a brand in the global symbol registry, so it also works between two installed copies of the package.

const { isNativeError } = require("node:util/types");

/** @type {Map<Function, symbol>} */
const brands = new Map();
/** @type {WeakMap<object, object>} the native result of a command that failed after it had started */
const partials = new WeakMap();

const ATTRIBUTES = [
  "resourceType", "lastStatus", "errorType", "field", "details", "quotaType", "operation", "timeout", "retryAfter",
  "requestId", "status", "phase", "reason", "remedy",
];

/** Root of all errors of this package. */
class SandboxClientError extends Error {
  static code = "CLIENT_ERROR";
  static retryable = false;

  /**
   * @param {string} [message]
   * @param {Record<string, unknown>} [attributes] the attributes of the class, `cause`, `code`, `retryable`
   */
  constructor(message, attributes = {}) {
    super(message, attributes.cause === undefined ? undefined : { cause: attributes.cause });
    const Class = /** @type {typeof SandboxClientError} */ (new.target);
    this.code = attributes.code ?? Class.code;
    this.retryable = attributes.retryable ?? Class.retryable;
    for (const name of ATTRIBUTES) {
      if (attributes[name] !== undefined && attributes[name] !== null) this[name] = attributes[name];
    }
  }

  /** @param {unknown} value */
  static [Symbol.hasInstance](value) {
    const brand = brands.get(this);
    if (brand === undefined) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === "object" && value !== null && /** @type {any} */ (value)[brand] === true;
  }

  toString() {
    if (this.lastStatus !== undefined) return `${this.name}: ${this.message} (last_status: ${this.lastStatus})`;
    const typed = this.errorType !== undefined && !(this instanceof ValidationError);
    return `${this.name}: ${this.message}${typed ? ` [${this.errorType}]` : ""}`;
  }

  toJSON() {
    const { name, message } = this;
    return { name, message, ...this };
  }
}

class SandboxAPIError extends SandboxClientError {
  static code = "API_ERROR";
}
class SandboxAuthenticationError extends SandboxClientError {
  static code = "AUTHENTICATION_FAILED";
}
class SandboxConnectionError extends SandboxClientError {
  static code = "CONNECTION_FAILED";
  static retryable = true;
}
class SandboxRetryableConnectionError extends SandboxConnectionError {
  static code = "CONNECTION_RETRYABLE";

  /** The official client's name for `retryAfter`. */
  get retryAfterSeconds() {
    return this.retryAfter;
  }
}
class SandboxConnectTimeoutError extends SandboxRetryableConnectionError {
  static code = "CONNECT_TIMEOUT";
}
class SandboxServerReloadError extends SandboxConnectionError {
  static code = "SERVER_RELOAD";
}
class ResourceNotFoundError extends SandboxClientError {
  static code = "RESOURCE_NOT_FOUND";
}
class ResourceTimeoutError extends SandboxClientError {
  static code = "RESOURCE_TIMEOUT";
  static retryable = true;
}
class ResourceInUseError extends SandboxClientError {
  static code = "RESOURCE_IN_USE";
}
class ResourceAlreadyExistsError extends SandboxClientError {
  static code = "RESOURCE_ALREADY_EXISTS";
}
class ResourceNameConflictError extends SandboxClientError {
  static code = "RESOURCE_NAME_CONFLICT";
}
class ValidationError extends SandboxClientError {
  static code = "VALIDATION_FAILED";
}
class QuotaExceededError extends SandboxClientError {
  static code = "QUOTA_EXCEEDED";
}
class ResourceCreationError extends SandboxClientError {
  static code = "RESOURCE_CREATION_FAILED";
}
class DataplaneNotConfiguredError extends SandboxClientError {
  static code = "DATAPLANE_NOT_CONFIGURED";
}
class SandboxNotReadyError extends SandboxClientError {
  static code = "SANDBOX_NOT_READY";
  static retryable = true;
}
class SandboxOperationError extends SandboxClientError {
  static code = "OPERATION_FAILED";
}
class CommandTimeoutError extends SandboxOperationError {
  static code = "COMMAND_TIMEOUT";

  /** @param {string} [message] @param {Record<string, unknown>} [attributes] */
  constructor(message, attributes = {}) {
    super(message, { operation: "command", errorType: "CommandTimeout", ...attributes });
  }
}
class UnsupportedError extends SandboxClientError {
  static code = "UNSUPPORTED";
}
class IsolationError extends SandboxClientError {
  static code = "ISOLATION_UNAVAILABLE";
}

const classes = {
  SandboxClientError, SandboxAPIError, SandboxAuthenticationError, SandboxConnectionError,
  SandboxRetryableConnectionError, SandboxConnectTimeoutError, SandboxServerReloadError, ResourceNotFoundError,
  ResourceTimeoutError, ResourceInUseError, ResourceAlreadyExistsError, ResourceNameConflictError, ValidationError,
  QuotaExceededError, ResourceCreationError, DataplaneNotConfiguredError, SandboxNotReadyError, SandboxOperationError,
  CommandTimeoutError, UnsupportedError, IsolationError,
};

for (const [name, Class] of Object.entries(classes)) {
  const brand = Symbol.for(`sandwire.error.${name}`);
  brands.set(Class, brand);
  Object.defineProperty(Class.prototype, brand, { value: true });
  Object.defineProperty(Class.prototype, "name", { value: name, configurable: true, writable: true });
}

/** The names of the official client, for those who switch: the same classes. */
const aliases = { LangSmithSandboxError: SandboxClientError, LangSmithSandboxCreationError: ResourceCreationError };
for (const [name, Class] of Object.entries(classes)) {
  if (!["SandboxClientError", "UnsupportedError", "IsolationError"].includes(name)) aliases[`LangSmith${name}`] = Class;
}

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
  if (!isNativeError(error) || error instanceof SandboxClientError) return error;
  const { code, retryable, cause, result } = /** @type {any} */ (error);
  const Class = byCode.get(code);
  if (Class === undefined && code !== "ABORTED") return new SandboxClientError(error.message, { cause: error });
  /** @type {Record<string, unknown>} */
  const attributes = { code, retryable, cause };
  for (const [name, value] of Object.entries(detailsOf(error))) attributes[camelCase(name)] ??= value;
  const made = new (Class ?? SandboxClientError)(error.message, attributes);
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
    if (error instanceof SandboxClientError) {
      error.stack = [`${error.name}: ${error.message}`, ...here.stack.split("\n").slice(1)].join("\n");
    }
    return error;
  };
}

/** What a failed command had delivered, in the names of the result; `undefined` where it never started. */
const partialOf = (error) => partials.get(error);

module.exports = { classes, aliases, fromNative, callersLine, partialOf };
