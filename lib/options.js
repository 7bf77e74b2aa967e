"use strict";
// Checks what callers pass, before any request: an option that is silently ignored is a bug that is found in production.
// Messages name the field, the value and the remedy; values that may be secret are described by their type only.

const { classes } = require("./errors.js");

/** @typedef {{ expects: string, test: (value: any) => boolean, secret?: boolean }} Rule */

/** The longest string that the engine can make. */
const STRING_MAX = 0x1fffffe8;

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value) => typeof value === "string" && value !== "" && !value.includes("\0") && value.isWellFormed();
const isWhole = (least) => (value) => Number.isSafeInteger(value) && value >= least;
const isEntries = (value, test) => isObject(value) && Object.entries(value).every(([key, item]) => test(key, item));
const isVariable = (key, value) =>
  isText(key) && !key.includes("=") && typeof value === "string" && !value.includes("\0") && value.isWellFormed();
const isHeader = (key, value) =>
  /^[!#$%&'*+.^_`|~\w-]+$/.test(key) && typeof value === "string" && /^[\t\x20-\x7e\x80-\xff]*$/.test(value);

function isJson(value) {
  try {
    return isObject(value) && JSON.stringify(value) !== undefined;
  } catch {
    return false;
  }
}

/** What can be sent to a command. */
const SIGNALS = "SIGHUP SIGINT SIGQUIT SIGKILL SIGUSR1 SIGUSR2 SIGTERM SIGCONT SIGSTOP SIGTSTP SIGWINCH".split(" ");

const oneOf = (...values) => ({
  expects: values.map((value) => JSON.stringify(value)).join(" or "),
  test: (value) => values.includes(value),
});

/** @type {Record<string, Rule>} */
const rules = {
  // A lone surrogate has no UTF-8: it would arrive as another character.
  text: { expects: "a non-empty string without NUL and lone surrogates", test: isText },
  // In a URL these two are other resources.
  name: {
    expects: 'a non-empty string without NUL and lone surrogates, and neither "." nor ".."',
    test: (value) => isText(value) && value !== "." && value !== "..",
  },
  string: { expects: "a string", test: (value) => typeof value === "string" },
  secret: {
    expects: 'a string (undefined: from the environment, "": none)',
    test: (value) => typeof value === "string",
    secret: true,
  },
  flag: { expects: "true or false", test: (value) => typeof value === "boolean" },
  callback: { expects: "a function", test: (value) => typeof value === "function" },
  count: { expects: "a whole number, 0 or more", test: isWhole(0) },
  positive: { expects: "a whole number, 1 or more", test: isWhole(1) },
  limit: {
    expects: "a whole number, 1 or more, or Infinity",
    test: (value) => value === Infinity || isWhole(1)(value),
  },
  milliseconds: {
    expects: "a whole number of milliseconds, 1 or more",
    test: (value) => isWhole(1)(value) && value <= 0x7fffffff,
  },
  wholeSeconds: { expects: "a whole number of seconds, 0 or more", test: isWhole(0) },
  seconds: { expects: "a number of seconds, 0 or more", test: (value) => Number.isFinite(value) && value >= 0 },
  secondsOrForever: { expects: "a whole number of seconds, 0 or more, or -1 for no limit", test: isWhole(-1) },
  minutes: {
    expects: "a multiple of 60 seconds, or 0 to switch it off",
    test: (value) => isWhole(0)(value) && value % 60 === 0,
  },
  outputLimit: {
    expects: `a whole number of bytes from 1 to ${STRING_MAX}`,
    test: (value) => isWhole(1)(value) && value <= STRING_MAX,
  },
  port: {
    expects: "a port number from 0 (any free one) to 65535",
    test: (value) => isWhole(0)(value) && value <= 65535,
  },
  bytes: {
    expects: "a Uint8Array or a string without lone surrogates",
    test: (value) => (typeof value === "string" ? value.isWellFormed() : value instanceof Uint8Array),
    secret: true,
  },
  json: { expects: "an object that can be sent as JSON", test: isJson, secret: true },
  environment: {
    expects: "an object of strings by variable name, without NUL and lone surrogates",
    test: (value) => isEntries(value, isVariable),
    secret: true,
  },
  headers: {
    expects: "an object of strings by header name, valid for HTTP",
    test: (value) => isEntries(value, isHeader),
    secret: true,
  },
  processSignal: oneOf(...SIGNALS),
  cells: { expects: "a whole number from 1 to 65535", test: (value) => isWhole(1)(value) && value <= 65535 },
  signal: {
    expects: "an AbortSignal",
    test: (value) =>
      isObject(value) && typeof value.aborted === "boolean" && typeof value.addEventListener === "function",
  },
};

/** Options that every call over HTTP takes. */
const callRules = { signal: rules.signal, headers: rules.headers, timeoutMs: rules.milliseconds };

function describe(value, secret = false) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return "an object";
  if (typeof value === "function") return "a function";
  if (secret) return `a ${typeof value}`;
  if (typeof value !== "string") return String(value);
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
}

function unknownOption(call, key, known) {
  const plain = (name) => name.replace(/[_-]/g, "").toLowerCase();
  const meant = Object.keys(known).find((name) => plain(name) === plain(key));
  const remedy = meant ? `did you mean \`${meant}\`?` : `known are: ${Object.keys(known).join(", ")}`;
  return new classes.ValidationError(`${call}: unknown option \`${key}\`; ${remedy}`, { field: key });
}

/**
 * Checks one argument.
 * @param {string} call name of the method, for messages
 * @param {string} field
 * @param {unknown} value
 * @param {Rule} rule
 */
function check(call, field, value, rule) {
  if (rule.test(value)) return;
  const message = `${call}: \`${field}\` must be ${rule.expects}, but is ${describe(value, rule.secret)}`;
  throw new classes.ValidationError(message, { field });
}

/**
 * Checks an options object. The result has every known name: `null` where absent, as the native side wants it.
 * @param {string} call name of the method, for messages
 * @param {Record<string, Rule>} known
 * @param {any} given
 */
function parse(call, known, given = {}) {
  if (!isObject(given)) {
    const message = `${call}: the options must be an object, but are ${describe(given, true)}`;
    throw new classes.ValidationError(message, { field: "options" });
  }
  const options = Object.create(null);
  for (const key of Object.keys(known)) options[key] = null;
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(known, key)) throw unknownOption(call, key, known);
    if (value === undefined) continue;
    check(call, key, value, known[key]);
    options[key] = value;
  }
  return options;
}

/** The size of a terminal. @param {any} given */
function checkSize(given) {
  const size = parse("resize", { cols: rules.cells, rows: rules.cells }, given);
  for (const field of ["cols", "rows"]) check("resize", field, size[field], rules.cells);
  return size;
}

/** The part of parsed options that each native call takes. */
const callOptions = ({ headers, timeoutMs }) => ({ headers: headers && Object.entries(headers), timeoutMs });

/** Bytes to send, without a copy: the caller leaves them alone until the call is done. */
function toBuffer(data) {
  if (typeof data === "string") return Buffer.from(data);
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

module.exports = { rules, callRules, oneOf, check, checkSize, parse, callOptions, toBuffer };
