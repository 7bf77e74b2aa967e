// Files: write, read, stat, parts of files, searches by name and content.

import { LangSmithResourceNotFoundError, LangSmithSandboxOperationError, type Sandbox } from "langsmith/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { rejection } from "../rejection.js";
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

  test("relative paths are below the home of the user", async () => {
    await sandbox.write("relative.txt", "here");
    expect(text(await sandbox.read("/home/user/relative.txt"))).toBe("here");
    expect(text(await sandbox.read("relative.txt"))).toBe("here");
  });

  test.each(["a b+c&d=e%20f?#.txt", "zażółć 日本.txt", "line\nbreak", "-n", "*"])("the name %j", async (name) => {
    await sandbox.write(`/tmp/names/${name}`, name);
    expect(text(await sandbox.read(`/tmp/names/${name}`))).toBe(name);
  });

  describe("parts of a file", () => {
    const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) % 256);
    const path = "/tmp/parts.bin";
    beforeAll(() => sandbox.write(path, bytes));

    test("stat has size and validators", async () => {
      const stat = await sandbox.stat(path);
      expect(stat).toMatchObject({ size_bytes: 100_000, content_type: "application/octet-stream" });
      expect(stat.etag).toMatch(/^"/);
      expect(stat.last_modified).toMatch(/GMT$/);
      expect((await sandbox.stat(path)).etag).toBe(stat.etag);
    });

    test.each([
      [{ start: 0, end: 0 }, 0, 1],
      [{ start: 10, end: 19 }, 10, 20],
      [{ start: 99_990 }, 99_990, 100_000],
      [{ start: 99_990, end: 200_000 }, 99_990, 100_000],
      [{ suffixBytes: 7 }, 99_993, 100_000],
      [{ suffixBytes: 200_000 }, 0, 100_000],
    ])("%j", async (wanted, first, last) => {
      const { content, ...chunk } = await sandbox.readRange(path, wanted);
      expect(Buffer.from(content).equals(bytes.subarray(first, last))).toBe(true);
      expect(chunk).toMatchObject({ start: first, total_bytes: 100_000, partial: true, unchanged: false });
    });

    test("a part beyond the end is refused", async () => {
      const error = await rejection(sandbox.readRange(path, { start: 100_000 }));
      expect(error).toBeInstanceOf(LangSmithSandboxOperationError);
      expect(error.operation).toBe("read");
    });

    test("a resumed read starts again when the file has changed", async () => {
      await sandbox.write("/tmp/changing", "before");
      const { etag } = await sandbox.stat("/tmp/changing");
      const same = await sandbox.readRange("/tmp/changing", { start: 2, ifRange: etag! });
      expect([text(same.content), same.partial]).toEqual(["fore", true]);
      await sandbox.write("/tmp/changing", "after");
      const changed = await sandbox.readRange("/tmp/changing", { start: 2, ifRange: etag! });
      expect([text(changed.content), changed.partial, changed.start]).toEqual(["after", false, 0]);
    });

    test("an unchanged file is not sent again", async () => {
      const { etag } = await sandbox.stat(path);
      const chunk = await sandbox.readRange(path, { start: 0, ifNoneMatch: etag! });
      expect([chunk.unchanged, chunk.content.length, chunk.etag]).toEqual([true, 0, etag]);
    });
  });

  describe("searches", () => {
    const names = ["top.py", "src/main.py", "src/deep/inner.py", "src/deep/note.txt"];
    beforeAll(() =>
      Promise.all(names.map((name) => sandbox.write(`/home/user/tree/${name}`, `first\nneedle ${name}\n`))),
    );
    const below = (matches: { path: string }[]) =>
      matches.map(({ path }) => path.slice("/home/user/tree/".length)).sort();

    test.each([
      ["*.py", ["top.py"]],
      ["**/*.py", ["src/deep/inner.py", "src/main.py", "top.py"]],
      ["src/*", ["src/deep", "src/main.py"]],
      ["s?c/[lm]ain.py", ["src/main.py"]],
      ["nothing*", []],
    ])("glob %j", async (pattern, expected) => {
      const { matches, truncated } = await sandbox.glob(pattern, "/home/user/tree");
      expect([below(matches), truncated]).toEqual([expected, false]);
    });

    test("ls has files and directories with size and time", async () => {
      const { matches } = await sandbox.ls("/home/user/tree");
      const found = Object.fromEntries(matches.map(({ path, ...info }) => [path, info]));
      expect(found["/home/user/tree/top.py"]).toMatchObject({ is_dir: false, size_bytes: 20 });
      expect(found["/home/user/tree/top.py"]?.modified_at).toMatch(/T/);
      expect(found["/home/user/tree/src"]).toMatchObject({ is_dir: true });
    });

    test.each([
      ["*.py", ["src/deep/inner.py", "src/main.py", "top.py"]],
      ["src/*.py", ["src/main.py"]],
    ])("grep in %j names file, line and text", async (glob, expected) => {
      const { matches, truncated } = await sandbox.grep("needle", "/home/user/tree", { glob });
      expect([below(matches), truncated]).toEqual([expected, false]);
      for (const { path, line, text } of matches) expect([line, text]).toEqual([2, `needle ${below([{ path }])[0]}`]);
    });

    test("what is cut short says so", async () => {
      expect(await sandbox.glob("**", "/home/user/tree", { limit: 2 })).toMatchObject({ truncated: true });
      const { matches, truncated } = await sandbox.grep("needle", "/home/user/tree", { limit: 2 });
      expect([matches.length, truncated]).toEqual([2, true]);
    });
  });

  test("what is missing is not found, by any call", async () => {
    for (const call of [
      () => sandbox.stat("/nowhere"),
      () => sandbox.readRange("/nowhere", { start: 0 }),
      () => sandbox.glob("*", "/nowhere"),
      () => sandbox.ls("/nowhere"),
      () => sandbox.grep("text", "/nowhere"),
    ]) {
      const error = await rejection(call());
      expect(error).toBeInstanceOf(LangSmithResourceNotFoundError);
      expect(error.resourceType).toBe("file");
    }
  });
});
