// Files in and out.

import { createHash, randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";

import * as sandwire from "../../index.mjs";
import { rejection, until, useLocalServer } from "./local.js";

const local = useLocalServer();
const sha = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

describe("write and read", () => {
  it("text, bytes, nothing, and a view of a larger buffer", async () => {
    const { sandbox } = local;
    const all = Uint8Array.from({ length: 256 }, (_, index) => index);
    for (const [path, content, expected] of [
      ["/tmp/text", "zwölf Boxkämpfer\n", Buffer.from("zwölf Boxkämpfer\n")],
      ["/tmp/bytes", all, Buffer.from(all)],
      ["/tmp/nothing", "", Buffer.alloc(0)],
      ["/tmp/view", all.subarray(10, 20), Buffer.from(all.subarray(10, 20))],
    ] as const) {
      await sandbox.write(path, content);
      const data = await sandbox.read(path);
      expect(data).toBeInstanceOf(Uint8Array);
      expect(Buffer.compare(data, expected)).toBe(0);
    }
  });

  it("5 MB come back byte for byte, and the sandbox sees the same", async () => {
    const content = randomBytes(5_000_000);
    await local.sandbox.write("/var/tmp/large.bin", content);
    expect(sha(await local.sandbox.read("/var/tmp/large.bin"))).toBe(sha(content));
    expect((await local.sandbox.run("sha256sum /var/tmp/large.bin")).stdout).toContain(sha(content));
  });

  it("with names of every kind", async () => {
    for (const name of ["a b", "ü€😀", "per%cent", "q?x=1&y", "#hash", "'quote\"", "-dash", "line\nbreak"]) {
      await local.sandbox.write(`/tmp/names/${name}`, name);
      expect(Buffer.from(await local.sandbox.read(`/tmp/names/${name}`)).toString()).toBe(name);
    }
    expect((await local.sandbox.run("ls /tmp/names | wc -l")).stdout.trim()).toBe("9");
  });

  it("relative paths start in /home/user", async () => {
    await local.sandbox.write("notes/today.txt", "hi");
    expect((await local.sandbox.run("cat /home/user/notes/today.txt")).stdout).toBe("hi");
    expect(Buffer.from(await local.sandbox.read("notes/today.txt")).toString()).toBe("hi");
  });

  it("makes parents, keeps the mode of an existing file, else 0644", async () => {
    const { sandbox } = local;
    await sandbox.write("/tmp/deep/er/new.sh", "echo hi");
    expect((await sandbox.run("stat -c %a /tmp/deep/er/new.sh")).stdout).toBe("644\n");
    await sandbox.run("chmod 755 /tmp/deep/er/new.sh");
    await sandbox.write("/tmp/deep/er/new.sh", "echo ho");
    expect((await sandbox.run("stat -c %a /tmp/deep/er/new.sh; /tmp/deep/er/new.sh")).stdout).toBe("755\nho\n");
    expect((await sandbox.run("ls -A /tmp/deep/er")).stdout).toBe("new.sh\n");
  });

  it("many at a time", async () => {
    const names = Array.from({ length: 40 }, (_, index) => `/tmp/many/${index}`);
    await Promise.all(names.map((name) => local.sandbox.write(name, name.repeat(100))));
    const read = await Promise.all(names.map((name) => local.sandbox.read(name)));
    expect(read.map((data) => Buffer.from(data).toString())).toEqual(names.map((name) => name.repeat(100)));
  });

  it("what commands wrote can be read, also binary", async () => {
    await local.sandbox.run("head -c 100000 /dev/urandom > /tmp/random; sha256sum < /tmp/random > /tmp/sum");
    const sum = Buffer.from(await local.sandbox.read("/tmp/sum")).toString();
    expect(sum).toContain(sha(await local.sandbox.read("/tmp/random")));
  });
});

describe("bad input", () => {
  it("a file that is not there is not found, with its type", async () => {
    const error = await rejection(local.sandbox.read("/no/such/file"));
    expect(error).toBeInstanceOf(sandwire.ResourceNotFoundError);
    expect(error.resourceType).toBe("file");
    expect(error.message).toContain("/no/such/file");
  });

  it("a directory can be neither read nor written as a file", async () => {
    expect(await rejection(local.sandbox.read("/tmp"))).toBeInstanceOf(sandwire.SandboxOperationError);
    const error = await rejection(local.sandbox.write("/tmp", "x"));
    expect(error).toBeInstanceOf(sandwire.SandboxOperationError);
    expect(error.operation).toBe("write");
  });

  it("a parent that is a file, a device that never ends", async () => {
    await local.sandbox.write("/tmp/plain", "x");
    expect(await rejection(local.sandbox.write("/tmp/plain/below", "x"))).toBeInstanceOf(
      sandwire.SandboxOperationError,
    );
    expect(await rejection(local.sandbox.read("/dev/zero", 3))).toBeInstanceOf(sandwire.SandboxClientError);
    expect((await local.sandbox.run("echo alive")).stdout).toBe("alive\n");
  });

  it("an aborted transfer gives the reason, and the sandbox goes on", async () => {
    const controller = new AbortController();
    const pending = rejection(
      local.sandbox.write("/tmp/aborted", randomBytes(20_000_000), { signal: controller.signal }),
    );
    controller.abort();
    expect(await pending).toBe(controller.signal.reason);
    // The server gives up the temporary file when it notices. The transfer may have been over before the abort: then
    // the whole file is there, but never a part of it.
    const output = async (command: string) => (await local.sandbox.run(command)).stdout;
    await until(async () => (await output("ls -A /tmp | grep -c sandwire-")) === "0\n");
    expect(["", "20000000\n"]).toContain(await output("stat -c %s /tmp/aborted 2>/dev/null"));
  });
});
