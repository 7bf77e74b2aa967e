// Files: write and read, as text and as bytes.

import type { Sandbox } from "langsmith/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { startOfficial } from "./official.js";

describe("files", () => {
  let official: Awaited<ReturnType<typeof startOfficial>>;
  let sandbox: Sandbox;
  beforeAll(async () => {
    official = await startOfficial();
    sandbox = await official.client.createSandbox();
  });
  afterAll(() => official.close());

  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

  test("text that was written is read back, also by commands", async () => {
    await sandbox.write("/tmp/note.txt", "zażółć\n");
    expect(text(await sandbox.read("/tmp/note.txt"))).toBe("zażółć\n");
    expect((await sandbox.run("cat /tmp/note.txt")).stdout).toBe("zażółć\n");
  });

  test("every byte value survives", async () => {
    const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) % 256);
    await sandbox.write("/tmp/bytes.bin", bytes);
    expect(Buffer.from(await sandbox.read("/tmp/bytes.bin")).equals(bytes)).toBe(true);
  });

  test("missing directories are made, files are replaced", async () => {
    await sandbox.write("/home/user/a/b/c.txt", "first, and longer");
    await sandbox.write("/home/user/a/b/c.txt", "second");
    expect(text(await sandbox.read("/home/user/a/b/c.txt"))).toBe("second");
  });

  test("an empty file is empty", async () => {
    await sandbox.write("/tmp/empty", "");
    expect((await sandbox.read("/tmp/empty")).length).toBe(0);
  });

  test("what a command wrote can be read", async () => {
    await sandbox.run("printf data > /tmp/made-by-command");
    expect(text(await sandbox.read("/tmp/made-by-command"))).toBe("data");
  });
});
