// Bad input is refused before any request, with the field, the value and the remedy.

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import {
  LocalServer,
  reconnectWsStream,
  runWsStream,
  type Sandbox,
  type SandboxClient,
  SandboxClient as Client,
  ValidationError,
} from "../../index.mjs";
import { rejection, Scripted } from "./scripted.js";

let server: Scripted;
let client: SandboxClient;
let sandbox: Sandbox;

beforeAll(async () => {
  server = await Scripted.start();
  sandbox = await server.sandbox();
  client = server.client();
  server.requests.length = 0;
});

afterAll(async () => {
  expect(server.requests).toEqual([]);
  expect(server.upgrades).toEqual([]);
  await server[Symbol.asyncDispose]();
});

const refuses = async (call: Promise<unknown>, field: string, text: RegExp) => {
  const error = await rejection(call);
  expect(error).toBeInstanceOf(ValidationError);
  expect(error).toMatchObject({ field, code: "VALIDATION_FAILED", retryable: false });
  expect(error.message).toMatch(text);
};

describe("the configuration", () => {
  it.each([
    [{ api_key: "k" }, "api_key", /did you mean `apiKey`/],
    [{ bogus: 1 }, "bogus", /unknown option `bogus`; known are: apiEndpoint, apiKey/],
    [{ apiKey: 5 }, "apiKey", /is a number/],
    [{ timeoutMs: -1 }, "timeoutMs", /whole number of milliseconds, 1 or more, but is -1/],
    [{ timeoutMs: "10" }, "timeoutMs", /but is "10"/],
    [{ maxRetries: 1.5 }, "maxRetries", /0 or more, but is 1.5/],
    [{ maxConcurrency: 0 }, "maxConcurrency", /or Infinity, but is 0/],
    [{ headers: { "X-A": 1 } }, "headers", /an object of strings/],
    [{ headers: { "X-A": "a\r\nB: c" } }, "headers", /valid for HTTP/],
    [{ headers: { "a b": "c" } }, "headers", /valid for HTTP/],
    [{ apiEndpoint: "not a url" }, "apiEndpoint", /http or https URL/],
    [{ apiEndpoint: "ftp://host" }, "apiEndpoint", /http or https URL/],
    [{ apiEndpoint: "http://me:secret@host" }, "apiEndpoint", /without credentials/],
    ["http://host", "options", /must be an object/],
    [null, "options", /must be an object, but are null/],
  ])("%j", (config, field, text) => {
    const make = () => new Client(config as never);
    expect(make).toThrow(ValidationError);
    expect(make).toThrow(text);
    expect(make).toThrow(expect.objectContaining({ field }));
    expect(make).not.toThrow(/secret@/);
  });
});

describe("createSandbox", () => {
  it.each([
    [[{ vcpus: 2 }], "vcpus", /did you mean `vCpus`/],
    [[{ idle_ttl_seconds: 60 }], "idle_ttl_seconds", /did you mean `idleTtlSeconds`/],
    [[{ idleTtlSeconds: 90 }], "idleTtlSeconds", /multiple of 60 seconds, or 0 to switch it off, but is 90/],
    [[{ deleteAfterStopSeconds: -60 }], "deleteAfterStopSeconds", /multiple of 60/],
    [[{ vCpus: 0 }], "vCpus", /1 or more, but is 0/],
    [[{ memBytes: 1.5 }], "memBytes", /whole number/],
    [[{ fsCapacityBytes: "1G" }], "fsCapacityBytes", /but is "1G"/],
    [[{ name: "" }], "name", /non-empty string/],
    [[{ timeout: 0.5 }], "timeout", /whole number of seconds/],
    [[{ waitForReady: "yes" }], "waitForReady", /true or false/],
    [[{ proxyConfig: [] }], "proxyConfig", /object that can be sent as JSON/],
    [[{ proxyConfig: { rules: [1n] } }], "proxyConfig", /object that can be sent as JSON/],
    [[{ signal: {} }], "signal", /an AbortSignal/],
    [["id", { snapshotName: "a" }], "snapshotId", /exclude each other/],
    [["", {}], "snapshotId", /non-empty string/],
    [[5, {}], "snapshotId", /non-empty string/],
  ])("%o", async (args, field, text) => {
    await refuses((client.createSandbox as Function).apply(client, args), field, text);
    await refuses((client.sandbox as Function).apply(client, args), field, text);
  });

  it("and the other calls of the client", async () => {
    await refuses(client.getSandbox(""), "name", /getSandbox: `name` must be a non-empty string/);
    for (const name of [".", ".."]) {
      await refuses(client.getSandbox(name), "name", /neither "\." nor "\.\."/);
      await refuses(client.deleteSandbox(name), "name", /neither/);
      await refuses(client.getSandboxStatus(name), "name", /neither/);
      await refuses(client.waitForSandbox(name), "name", /neither/);
      await refuses(client.createSandbox({ name }), "name", /neither/);
    }
    await refuses(client.getSandbox("a\udfff"), "name", /lone surrogates/);
    await refuses(client.deleteSandbox(undefined as never), "name", /but is undefined/);
    await refuses(client.getSandboxStatus("a", { timeout: 1 } as never), "timeout", /unknown option/);
    await refuses(client.listSandboxes({ limit: 1 } as never), "limit", /unknown option/);
    await refuses(client.waitForSandbox("a", { pollInterval: 0 }), "pollInterval", /above 0/);
    await refuses(client.waitForSandbox("a", { timeout: -1 }), "timeout", /0 or more/);
  });
});

describe("run", () => {
  it.each([
    [{ idle_timeout: 5 }, "idle_timeout", /did you mean `idleTimeout`/],
    [{ timeoutSeconds: 5 }, "timeoutSeconds", /unknown option/],
    [{ timeout: -1 }, "timeout", /0 or more, but is -1/],
    [{ timeout: 1.5 }, "timeout", /whole number of seconds/],
    [{ timeout: Number.NaN }, "timeout", /but is NaN/],
    [{ env: { A: 1 } }, "env", /an object of strings/],
    [{ env: { "A=B": "c" } }, "env", /by variable name/],
    [{ env: { A: "a\0b" } }, "env", /without NUL/],
    [{ env: { A: "\udc00" } }, "env", /lone surrogates/],
    [{ onGap: true }, "onGap", /a function/],
    [{ env: ["A=1"] }, "env", /but is an array/],
    [{ cwd: "" }, "cwd", /non-empty string/],
    [{ shell: 5 }, "shell", /non-empty string/],
    [{ wait: 1 }, "wait", /true or false, but is 1/],
    [{ onStdout: "log" }, "onStdout", /a function/],
    [{ idleTimeout: -2 }, "idleTimeout", /-1 for no limit, but is -2/],
    [{ ttlSeconds: "600" }, "ttlSeconds", /but is "600"/],
    [{ killOnDisconnect: null }, "killOnDisconnect", /but is null/],
    [{ pty: {} }, "pty", /but is an object/],
    [{ commandId: "" }, "commandId", /non-empty string/],
    [{ runConfig: { user: 5 } }, "user", /non-empty string/],
    [{ runConfig: { work_dir: "here" } }, "work_dir", /an absolute path/],
    [{ runConfig: { workDir: "/a" } }, "workDir", /did you mean `work_dir`/],
    [{ runConfig: {}, env: { A: "b" } }, "env", /can't be combined with `runConfig`/],
    [{ runConfig: {}, cwd: "/a" }, "cwd", /can't be combined with `runConfig`/],
    [{ closeInput: "no" }, "closeInput", /true or false/],
    [{ input: 5 }, "input", /a Uint8Array or a string without lone surrogates, but is a number/],
    [{ output: "buffer" }, "output", /"text" or "bytes", but is "buffer"/],
    [{ maxOutputBytes: 0 }, "maxOutputBytes", /from 1 to/],
    [{ maxOutputBytes: 1e12 }, "maxOutputBytes", /from 1 to/],
    [{ reject: 0 }, "reject", /true or false/],
    [{ headers: { a: 1 } }, "headers", /an object of strings/],
    [{ timeoutMs: 0 }, "timeoutMs", /1 or more/],
  ])("%j", async (options, field, text) => {
    await refuses(sandbox.run("true", options as never), field, text);
  });

  it("the command", async () => {
    await refuses(sandbox.run(5 as never), "command", /must be a string without NUL and lone surrogates, but is 5/);
    await refuses(sandbox.run(["ls", "-l"] as never), "command", /but is an array/);
    await refuses(sandbox.run("echo \0"), "command", /without NUL/);
    await refuses(sandbox.run("echo \ud800"), "command", /lone surrogates, but is "echo \\ud800"/);
  });

  it("never repeats values that may be secret", async () => {
    const secrets = { env: { "BAD=NAME": "hunter2" } };
    const error = await rejection(sandbox.run("true", secrets));
    expect(error.message).not.toContain("hunter2");
    expect(() => new Client({ headers: { "bad name": "hunter2" } })).not.toThrow(/hunter2/);
  });
});

describe("files and reconnect", () => {
  it("arguments and options", async () => {
    await refuses(sandbox.read(""), "path", /read: `path` must be a non-empty string/);
    await refuses(sandbox.read("/a\0b"), "path", /without NUL/);
    await refuses(sandbox.read("/a", 0), "timeout", /above 0, but is 0/);
    await refuses(sandbox.read("/a", { timeout: 5 } as never), "timeout", /unknown option/);
    await refuses(
      sandbox.write("/a", 5 as never),
      "content",
      /a Uint8Array or a string without lone surrogates, but is a number/,
    );
    await refuses(sandbox.write("/a", null as never), "content", /but is null/);
    await refuses(sandbox.write("/a", "b", -1), "timeout", /above 0/);
    await refuses(sandbox.reconnect(""), "commandId", /non-empty string/);
    await refuses(sandbox.reconnect("a", { input: "x" } as never), "input", /unknown option/);
    await refuses(sandbox.reconnect("a", { onGap: "log" as never }), "onGap", /a function/);
    await refuses(sandbox.reconnect("a", { stdoutOffset: -1 }), "stdoutOffset", /0 or more/);
    await refuses(sandbox.delete({ force: true } as never), "force", /unknown option/);
    await refuses(sandbox.refresh(5 as never), "options", /must be an object/);
  });
});

describe("LocalServer.start", () => {
  it.each([
    [{ port: 70000 }, "port", /0 \(any free one\) to 65535, but is 70000/],
    [{ stateDir: "" }, "stateDir", /non-empty string/],
    [{ apiKey: "" }, "apiKey", /non-empty string/],
    [{ apiKey: "a b\n" }, "apiKey", /valid in an HTTP header/],
    [{ startTimeoutMs: 0 }, "startTimeoutMs", /1 or more/],
    [{ listen: "0.0.0.0:1" }, "listen", /unknown option `listen`; known are: port/],
  ])("%j", (options, field, text) => refuses(LocalServer.start(options as never), field, text));
});

describe("low-level streams", () => {
  it("refuse a wrong server, key, command and option", async () => {
    const url = server.dataplane;
    for (const wrong of [undefined, "", "localhost:80", "ftp://h/", "http://", 5]) {
      await refuses(runWsStream(wrong as never, "k", "ls"), "dataplaneUrl", /a URL of http, https, ws or wss/);
      await refuses(reconnectWsStream(wrong as never, "k", "c"), "dataplaneUrl", /a URL of http/);
    }
    await refuses(runWsStream(url, 5 as never, "ls"), "apiKey", /a string/);
    await refuses(runWsStream(url, "k", ["ls"] as never), "command", /a string/);
    await refuses(runWsStream(url, "k", "ls", { wait: false } as never), "wait", /unknown option/);
    await refuses(runWsStream(url, "k", "ls", { timeout: -1 }), "timeout", /whole number of seconds/);
    await refuses(reconnectWsStream(url, "k", ""), "commandId", /non-empty/);
    await refuses(reconnectWsStream(url, "k", "c", { stdoutOffset: -1 }), "stdoutOffset", /whole number/);
  });
});
