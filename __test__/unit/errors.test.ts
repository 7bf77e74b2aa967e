// The classes: complete, recognisable across copies, and made from what the native side sends.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { inspect } from "node:util";
import { describe, expect, it } from "vitest";

import * as sandwire from "../../index.mjs";
import * as official from "langsmith/sandbox";

const require = createRequire(import.meta.url);
const { classes } = require("../../lib/errors.js");
const { fromNative } = require("../../lib/failure.js");

/** `[code, class]` of every failure, as the Rust side has them. */
function rustTable(): Array<[string, string, boolean]> {
  const source = readFileSync(new URL("../../crates/protocol/src/error.rs", import.meta.url), "utf8");
  const body = source.slice(source.indexOf("ErrorCode {"), source.indexOf("impl ErrorCode"));
  const codes = new Map([...body.matchAll(/(\w+) = "([A-Z_]+)"/g)].map(([, variant, code]) => [variant, code]));
  const arms = [...source.matchAll(/((?:Self::\w+(?: \| )?)+) => "(\w+Error)"/g)];
  const retryable = source.slice(source.indexOf("pub fn retryable"), source.indexOf("/// What could be read"));
  return arms.flatMap(([, variants, name]) =>
    [...variants.matchAll(/Self::(\w+)/g)].map(([, variant]): [string, string, boolean] => [
      codes.get(variant) ?? "?",
      name,
      new RegExp(`Self::${variant}\\b`).test(retryable),
    ]),
  );
}

function native(code: string, message: string, details: object = {}): Error {
  return Object.assign(new Error(message), { code, retryable: false, details: JSON.stringify(details) });
}

describe("classes", () => {
  it("cover every code of the protocol, with its class and retryability", () => {
    const table = rustTable();
    expect(table.length).toBeGreaterThanOrEqual(22);
    for (const [code, name, retryable] of table) {
      const error = fromNative(native(code, "m"));
      expect([error.code, error.name]).toEqual([code, name]);
      if (code !== "ABORTED") expect([code, classes[name].retryable]).toEqual([code, retryable]);
    }
  });

  it("are all exported, and so are the official client's names", () => {
    for (const name of Object.keys(classes)) expect(sandwire).toHaveProperty(name);
    const names = Object.keys(official).filter((name) => name.endsWith("Error"));
    expect(names.length).toBeGreaterThan(15);
    for (const name of names) expect(sandwire).toHaveProperty(name);
    expect(sandwire.LangSmithResourceNotFoundError).toBe(sandwire.ResourceNotFoundError);
  });

  it("form the documented hierarchy", () => {
    const error = new sandwire.SandboxConnectTimeoutError("m");
    expect(error).toBeInstanceOf(sandwire.SandboxRetryableConnectionError);
    expect(error).toBeInstanceOf(sandwire.SandboxConnectionError);
    expect(error).toBeInstanceOf(sandwire.SandboxClientError);
    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(sandwire.SandboxServerReloadError);
    expect(new sandwire.CommandTimeoutError("m")).toBeInstanceOf(sandwire.SandboxOperationError);
  });

  it("are recognised by another copy of the package", () => {
    const path = require.resolve("../../lib/errors.js");
    const mine = require.cache[path];
    delete require.cache[path];
    const copy = require(path).classes;
    require.cache[path] = mine;
    expect(copy.ValidationError).not.toBe(classes.ValidationError);
    const error = new copy.ValidationError("m");
    expect(error).toBeInstanceOf(sandwire.ValidationError);
    expect(error).toBeInstanceOf(sandwire.SandboxClientError);
    expect(error).not.toBeInstanceOf(sandwire.QuotaExceededError);
  });

  it("can be extended: an instance of the root is not one of the extension", () => {
    class Mine extends sandwire.SandboxClientError {}
    expect(new Mine("m")).toBeInstanceOf(Mine);
    expect(new sandwire.SandboxClientError("m")).not.toBeInstanceOf(Mine);
    expect(null).not.toBeInstanceOf(sandwire.SandboxClientError);
    expect("text").not.toBeInstanceOf(sandwire.SandboxClientError);
  });
});

describe("string form", () => {
  it("appends what the class adds, and leaves the message alone", () => {
    const operation = new sandwire.SandboxOperationError("no", { operation: "read", errorType: "ReadError" });
    expect([String(operation), operation.message]).toEqual(["SandboxOperationError: no [ReadError]", "no"]);
    expect(String(new sandwire.CommandTimeoutError("late", { timeout: 3 }))).toBe(
      "CommandTimeoutError: late [CommandTimeout]",
    );
    expect(String(new sandwire.ResourceTimeoutError("late", { lastStatus: "provisioning" }))).toBe(
      "ResourceTimeoutError: late (last_status: provisioning)",
    );
    expect(String(new sandwire.ResourceCreationError("no", { errorType: "ImagePull" }))).toBe(
      "ResourceCreationError: no [ImagePull]",
    );
    expect(String(new sandwire.ValidationError("no", { errorType: "x" }))).toBe("ValidationError: no");
    expect(String(new sandwire.SandboxClientError("no"))).toBe("SandboxClientError: no");
  });

  it("serialises with name, message, code and attributes", () => {
    const error = new sandwire.ResourceNotFoundError("gone", { resourceType: "sandbox", requestId: "r1" });
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      name: "ResourceNotFoundError",
      message: "gone",
      code: "RESOURCE_NOT_FOUND",
      retryable: false,
      resourceType: "sandbox",
      requestId: "r1",
    });
    expect(inspect(error)).toContain("resourceType: 'sandbox'");
  });
});

describe("fromNative", () => {
  it("takes attributes over in camelCase, and the cause", () => {
    const cause = new Error("socket");
    const details = { resource_type: "sandbox", last_status: "failed", quota_type: null, unheard_of: 1 };
    const error = fromNative(Object.assign(native("RESOURCE_TIMEOUT", "late", details), { cause }));
    expect(error).toBeInstanceOf(sandwire.ResourceTimeoutError);
    expect([error.resourceType, error.lastStatus, error.cause]).toEqual(["sandbox", "failed", cause]);
    expect(error).not.toHaveProperty("quotaType");
    expect(error).not.toHaveProperty("unheardOf");
  });

  it("wraps what has no code, and leaves other values alone", () => {
    const panic = new Error("it panicked");
    expect(fromNative(panic)).toMatchObject({ code: "CLIENT_ERROR", message: "it panicked", cause: panic });
    expect(fromNative("text")).toBe("text");
    const error = new sandwire.QuotaExceededError("m");
    expect(fromNative(error)).toBe(error);
  });
});
