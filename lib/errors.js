"use strict";
// Every failure is one of these classes. `instanceof` goes by a brand in the global symbol registry, so it also works
// between two installed copies of the package.

/** @type {Map<Function, symbol>} */
const brands = new Map();

const ATTRIBUTES =
  "resourceType lastStatus errorType field details quotaType operation timeout retryAfter requestId status phase reason remedy";

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
    for (const name of ATTRIBUTES.split(" ")) {
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
  SandboxClientError,
  SandboxAPIError,
  SandboxAuthenticationError,
  SandboxConnectionError,
  SandboxRetryableConnectionError,
  SandboxConnectTimeoutError,
  SandboxServerReloadError,
  ResourceNotFoundError,
  ResourceTimeoutError,
  ResourceInUseError,
  ResourceAlreadyExistsError,
  ResourceNameConflictError,
  ValidationError,
  QuotaExceededError,
  ResourceCreationError,
  DataplaneNotConfiguredError,
  SandboxNotReadyError,
  SandboxOperationError,
  CommandTimeoutError,
  UnsupportedError,
  IsolationError,
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

module.exports = { classes, aliases };
