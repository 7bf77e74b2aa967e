// Files over plain HTTP: parts and conditions, searches, archives, and trees that mean harm.

import { randomBytes } from "node:crypto";
import { request } from "node:http";
import { beforeAll, describe, expect, it } from "vitest";

import type { Sandbox } from "../../index.mjs";
import { until, useLocalServer } from "./local.js";

const local = useLocalServer();

type Headers = Record<string, string>;

async function http(method: string, path: string, body?: RequestInit["body"], headers: Headers = {}, of?: Sandbox) {
  const url = `${(of ?? local.sandbox).dataplane_url}${path}`;
  const response = await fetch(url, { method, body, headers: { "x-api-key": local.server.apiKey, ...headers } });
  const bytes = Buffer.from(await response.arrayBuffer());
  return { status: response.status, headers: response.headers, bytes, text: bytes.toString() };
}

async function json(path: string, body: object, of?: Sandbox) {
  const { status, text } = await http("POST", path, JSON.stringify(body), {}, of);
  return { status, ...JSON.parse(text || "{}") };
}

const at = (path: string) => encodeURIComponent(path);
const get = (path: string, headers: Headers = {}) => http("GET", `/download?path=${at(path)}`, undefined, headers);
const put = (path: string, body: RequestInit["body"], more = "") =>
  http("POST", `/upload?path=${at(path)}${more}`, body);
const sh = async (command: string, of = local.sandbox) => (await of.run(command)).stdout;
const python = async (script: string) => (await local.sandbox.run("python3 -", { input: script })).stdout;

describe("a download", () => {
  it("of a part of a file of 1 TB, most of it a hole", async () => {
    await sh("truncate -s 1T /var/tmp/huge; printf tail >> /var/tmp/huge");
    const head = await http("HEAD", "/download?path=/var/tmp/huge");
    expect(head.headers.get("content-length")).toBe(String(2 ** 40 + 4));
    const tail = await get("/var/tmp/huge", { range: "bytes=-6" });
    expect([tail.status, tail.text]).toEqual([206, "\0\0tail"]);
    expect(tail.headers.get("content-range")).toBe(`bytes ${2 ** 40 - 2}-${2 ** 40 + 3}/${2 ** 40 + 4}`);
    const beyond = await get("/var/tmp/huge", { range: `bytes=${2 ** 41}-` });
    expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, `bytes */${2 ** 40 + 4}`]);
    await sh("rm /var/tmp/huge");
  });

  it("is not repeated while the file stays as it is, however fast it changes", async () => {
    for (let round = 0; round < 20; round++) {
      await put("/var/tmp/tagged", `content ${round % 10}`);
      const tag = (await http("HEAD", "/download?path=/var/tmp/tagged")).headers.get("etag") ?? "";
      expect((await get("/var/tmp/tagged", { "if-none-match": tag })).status).toBe(304);
      await sh(`printf 'CONTENT ${round % 10}' > /var/tmp/tagged`);
      const part = await get("/var/tmp/tagged", { "if-range": tag, range: "bytes=0-0" });
      expect([part.status, part.text]).toEqual([200, `CONTENT ${round % 10}`]);
    }
  });

  it("of what is no file fails at once", async () => {
    await python(`
import os, socket
os.makedirs("/var/tmp/odd"); os.chdir("/var/tmp/odd")
os.mkfifo("fifo"); os.symlink("loop", "loop"); os.symlink("/proc/self/fd/0", "magic"); os.symlink("/proc/1/root", "root")
socket.socket(socket.AF_UNIX).bind("socket")`);
    for (const name of ["fifo", "socket", "loop", "magic", "root", ".", "/dev/zero", "/dev/tty"]) {
      for (const call of [() => get(join(name)), () => put(join(name), "x")]) {
        const { status, text } = await call();
        expect([name, status]).toEqual([name, 400]);
        expect(text).toMatch(/ReadError|WriteError/);
      }
    }
    function join(name: string) {
      return name.startsWith("/") ? name : `/var/tmp/odd/${name}`;
    }
  });
});

describe("an upload", () => {
  it("has the mode that is asked for, and its parents the owner of the sandbox", async ({ skip }) => {
    await put("/var/tmp/tool", "#!/bin/sh\necho hi", "&mode=755");
    expect(await sh("/var/tmp/tool; stat -c %a /var/tmp/tool")).toBe("hi\n755\n");
    if (local.server.isolation.ids !== "range") skip("this machine has a single id");
    const made = await fetch(`${local.server.apiEndpoint}/boxes`, {
      method: "POST",
      body: JSON.stringify({ name: "owned", wait_for_ready: true, run_config: { user: "1000:100" } }),
      headers: { "x-api-key": local.server.apiKey },
    });
    expect(made.status).toBe(201);
    const sandbox = await local.client.getSandbox("owned");
    await http("POST", "/upload?path=/opt/mine/deep/file", "x", {}, sandbox);
    const owners = "stat -c %u:%g /opt/mine /opt/mine/deep /opt/mine/deep/file";
    expect(await sh(owners, sandbox)).toBe("1000:100\n".repeat(3));
    await sandbox.delete();
  });

  it("is whole, whoever else writes the same file", async () => {
    const contents = Array.from({ length: 12 }, () => randomBytes(1_000_000));
    await Promise.all(contents.map((content) => put("/var/tmp/race/file", content)));
    const { bytes } = await get("/var/tmp/race/file");
    expect(contents.some((content) => content.equals(bytes))).toBe(true);
    expect(await sh("ls -A /var/tmp/race")).toBe("file\n");
  });

  it("that breaks off leaves nothing", async () => {
    await sh("mkdir -p /var/tmp/broken");
    const url = `${local.sandbox.dataplane_url}/upload?path=/var/tmp/broken/new/file`;
    const headers = { "x-api-key": local.server.apiKey, "content-length": "5000000" };
    const sent = request(url, { method: "POST", headers });
    sent.on("error", () => {});
    await new Promise((done) => sent.write(randomBytes(1_000_000), done));
    await until(async () => (await sh("ls -A /var/tmp/broken")) !== "");
    // Nothing that a stop or a crash could leave either.
    expect(await sh("ls -A /var/tmp/broken/new")).toBe("");
    sent.destroy();
    expect(await sh("ls -A /var/tmp/broken/new")).toBe("");
  });
});

describe("a search", () => {
  beforeAll(async () => {
    await python(`
import os
os.makedirs("/srv/t/src/deep"); os.makedirs("/srv/t/src-x"); os.chdir("/srv/t")
for name in ["src/a.py", "src/deep/b.py", "src/deep/c.txt", "src-x/d.py", ".hidden"]:
    open(name, "w").write("one\\nthe needle of " + name + "\\r\\n")
open("binary", "wb").write(b"needle\\0"); open(b"\\xff\\xfe", "w").write("needle"); open("new\\nline", "w").write("needle")
os.mkfifo("fifo"); os.symlink("..", "up"); os.symlink("/", "root"); os.symlink("loop", "loop")
os.truncate(os.open("sparse", os.O_CREAT | os.O_RDWR), 1 << 40)`);
  });

  it("by patterns of paths, in the order of paths", async () => {
    const paths = async (pattern: string, path = "/srv/t") => {
      const { matches, truncated } = await json("/glob", { pattern, path });
      expect(truncated).toBe(false);
      return matches.map((match: { path: string }) => match.path.replace("/srv/t/", ""));
    };
    expect(await paths("**/*.py")).toEqual(["src-x/d.py", "src/a.py", "src/deep/b.py"]);
    expect(await paths("src/*")).toEqual(["src/a.py", "src/deep"]);
    expect(await paths("[!s]*")).toEqual([
      ".hidden",
      "binary",
      "fifo",
      "loop",
      "new\nline",
      "root",
      "up",
      "\ufffd\ufffd",
    ]);
    expect(await paths("a.p?", "/srv/t/src/")).toEqual(["a.py"].map((name) => `src/${name}`));
    const { matches } = await json("/glob", { pattern: "src/*", path: "/srv/t" });
    expect(matches[0]).toMatchObject({ is_dir: false, size_bytes: 28 });
    expect(matches[1].is_dir).toBe(true);
    expect(Math.abs(Date.parse(matches[0].modified_at) - Date.now())).toBeLessThan(3_600_000);
  });

  it("by lines of text files, which follows no link", async () => {
    const { matches, truncated } = await json("/grep", { pattern: "needle", path: "/srv/t" });
    const lines = matches.map((match: { path: string; line: number }) => `${match.path.slice(7)}:${match.line}`);
    expect(lines).toEqual([
      ".hidden:2",
      "new\nline:1",
      "src-x/d.py:2",
      "src/a.py:2",
      "src/deep/b.py:2",
      "src/deep/c.txt:2",
      "\ufffd\ufffd:1",
    ]);
    expect(truncated).toBe(false);
    expect(matches[3].text).toBe("the needle of src/a.py");
    const some = await json("/grep", { pattern: "needle", path: "/srv/t", glob: "*.py", limit: 2 });
    expect([some.matches.length, some.truncated]).toEqual([2, true]);
    const nested = await json("/grep", { pattern: "needle", path: "/srv/t", glob: "src/*.py" });
    expect(nested.matches).toHaveLength(1);
    expect((await json("/grep", { pattern: "needle", path: "/srv/t/src/a.py" })).matches).toHaveLength(1);
  });

  it("that makes no sense is refused with the field's name", async () => {
    for (const [path, body, field] of [
      ["/glob", { pattern: "[", path: "/" }, "pattern"],
      ["/glob", { pattern: "../x", path: "/" }, "pattern"],
      ["/glob", { pattern: "*", path: "/", limit: 0 }, "limit"],
      ["/grep", { pattern: "", path: "/" }, "pattern"],
      ["/grep", { pattern: "a\nb", path: "/" }, "pattern"],
      ["/grep", { pattern: "a", path: "/", glob: "[" }, "glob"],
      ["/grep", { pattern: 7, path: "/" }, "pattern"],
    ] as const) {
      const { status, detail } = await json(path, body);
      expect([status, detail[0].loc.at(-1)]).toEqual([422, field]);
    }
    expect((await json("/glob", { pattern: "*", path: "/no/such" })).status).toBe(404);
    expect((await json("/glob", { pattern: "*", path: "/etc/passwd" })).status).toBe(400);
  });

  it("of everything ends, and others are served meanwhile", async () => {
    const all = Promise.all([
      json("/glob", { pattern: "**", path: "/" }),
      json("/grep", { pattern: "zz_9", path: "/", glob: "*.conf" }),
    ]);
    expect(await sh("echo served")).toBe("served\n");
    for (const { status } of await all) expect(status).toBe(200);
  });

  it("whose worker is killed says so or has ended", async () => {
    const script = `
import os, signal
while True:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open("/proc/%s/comm" % pid).read() == "sandwire-worker\\n": os.kill(int(pid), signal.SIGKILL)
        except OSError: pass`;
    await local.sandbox.write("/var/tmp/killer.py", script);
    const killer = await local.sandbox.run("python3 /var/tmp/killer.py", { wait: false });
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => json("/grep", { pattern: "zz_9", path: "/usr" })),
    );
    for (const { status } of answers) expect([200, 500]).toContain(status);
    expect(answers.some(({ status }) => status === 500)).toBe(true);
    await killer.kill();
    expect((await json("/glob", { pattern: "*", path: "/srv/t" })).status).toBe(200);
  });
});

describe("a tree", () => {
  it("of 20,000 directories in each other is searched as far as paths reach, and removed", async () => {
    await python(`
import os
os.mkdir("/var/tmp/pit"); os.chdir("/var/tmp/pit")
for i in range(20000):
    os.mkdir("d"); os.chdir("d")`);
    const { status, truncated } = await json("/glob", { pattern: "**", path: "/var/tmp/pit" });
    expect([status, truncated]).toEqual([200, true]);
    expect((await json("/grep", { pattern: "x", path: "/var/tmp/pit" })).truncated).toBe(true);
    expect((await http("DELETE", "/files?path=/var/tmp/pit")).status).toBe(400);
    expect((await http("DELETE", "/files?path=/var/tmp/pit&recursive=true")).status).toBe(204);
    expect(await sh("ls -d /var/tmp/pit 2>&1 | wc -l; ls /var/tmp/pit 2>/dev/null")).toBe("1\n");
  });

  it("whose names change all the time shows one of its states", async () => {
    await sh("mkdir -p /srv/swap/real /srv/swap/other; echo real > /srv/swap/real/f; echo other > /srv/swap/other/f");
    const script = `
import os
os.chdir("/srv/swap")
while True:
    os.rename("real", "hidden"); os.symlink("/srv/swap/other", "real")
    os.unlink("real"); os.symlink("/proc/1/fd", "real"); os.unlink("real"); os.rename("hidden", "real")`;
    await local.sandbox.write("/srv/swap.py", script);
    const swapping = await local.sandbox.run("python3 /srv/swap.py", { wait: false });
    const seen = new Set<string>();
    for (let round = 0; round < 150; round++) {
      const { status, text } = await get("/srv/swap/real/f");
      seen.add(status === 200 ? text : String(status));
      const written = await put("/srv/swap/real/g", "x");
      expect([200, 400, 403, 404]).toContain(written.status);
    }
    for (const answer of seen) expect(["real\n", "other\n", "404", "403", "400"]).toContain(answer);
    for (let round = 0; round < 20; round++) {
      const { status, matches } = await json("/grep", { pattern: "real", path: "/srv/swap" });
      expect(status).toBe(200);
      expect(matches.length).toBeLessThanOrEqual(2);
      expect((await http("GET", "/archive?path=/srv/swap")).status).toBe(200);
    }
    await swapping.kill();
  });
});

describe("an archive", () => {
  it("comes back as it went", async () => {
    await python(`
import os
os.makedirs("/srv/a/empty"); os.makedirs("/srv/a/d"); os.chdir("/srv/a")
open("d/f", "w").write("content"); os.chmod("d/f", 0o751); open(b"\\xff", "w").close(); os.symlink("/nowhere", "link")
open("d/" + "x" * 200, "w").write("long"); os.mkfifo("fifo")`);
    const { status, bytes } = await http("GET", "/archive?path=/srv/a");
    expect(status).toBe(200);
    expect((await http("PUT", "/archive?path=/srv/b/c", bytes)).status).toBe(204);
    const list = (dir: string) => sh(`cd ${dir}; find . ! -type p ! -path . -printf '%p %m %l\\n' | sort; cat d/f`);
    expect(await list("/srv/b/c")).toBe(await list("/srv/a"));
    expect((await http("GET", "/archive?path=/no/such")).status).toBe(404);
    const one = await http("GET", "/archive?path=/srv/a/d/f");
    expect(one.bytes.subarray(512, 519).toString()).toBe("content");
  });

  it("leads nowhere else", async () => {
    await python(`
import io, os, tarfile
os.makedirs("/srv/evil", exist_ok=True)
R, L, H, C = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
for number, members in enumerate([
    [("../out", R, "")], [("/srv/out", R, "")], [("a/../../out", R, "")], [("l", L, ".."), ("l/out", R, "")],
    [("l", L, "/srv"), ("l/out", R, "")], [("h", H, "../secret")], [("h", H, "/srv/secret")],
    [("l", L, "/srv"), ("h", H, "l/secret")], [("dev", C, "")],
]):
    with tarfile.open("/srv/evil/%d" % number, "w") as tar:
        for name, kind, link in members:
            member = tarfile.TarInfo(name); member.type = kind; member.linkname = link
            member.size = 3 if kind == R else 0
            tar.addfile(member, io.BytesIO(b"out"))
open("/srv/secret", "w").write("secret")`);
    for (let number = 0; number < 9; number++) {
      const { bytes } = await get(`/srv/evil/${number}`);
      const { status, text } = await http("PUT", "/archive?path=/srv/into", bytes);
      expect([number, status]).toEqual([number, 400]);
      expect(text).toMatch(/extract (\.\.|\/srv|a\/|l\/|h|dev)/);
    }
    expect(await sh("cat /srv/secret; stat -c %h /srv/secret; ls /srv/out 2>&1 | grep -c 'No such'")).toBe(
      "secret1\n1\n",
    );
    expect((await http("PUT", "/archive?path=/srv/into", "garbage".repeat(200))).status).toBe(400);
  });
});

describe("directories and names", () => {
  it("are made, listed by pages, moved and removed", async () => {
    expect((await http("POST", "/mkdir?path=/srv/m/n")).status).toBe(404);
    expect((await http("POST", "/mkdir?path=/srv/m/n&parents=true&mode=700")).status).toBe(204);
    expect((await http("POST", "/mkdir?path=/srv/m/n")).status).toBe(400);
    await sh("cd /srv/m; for i in 1 2 3 4 5; do echo $i > f$i; done; ln -s f1 link");
    const first = await json("/list", { path: "/srv/m", limit: 4 });
    const second = await json("/list", { path: "/srv/m", limit: 4, offset: first.next });
    const names = [...first.entries, ...second.entries].map((entry: { path: string }) => entry.path);
    expect([names, second.next]).toEqual([["f1", "f2", "f3", "f4", "f5", "link", "n"], undefined]);
    expect(second.entries[1]).toMatchObject({ type: "link", target: "f1" });
    expect(second.entries[2]).toMatchObject({ type: "directory", mode: "0700", uid: 0 });

    expect((await json("/move", { from: "/srv/m/f1", to: "/srv/m/f2" })).status).toBe(400);
    expect((await json("/move", { from: "/srv/m/f1", to: "/tmp/f1" })).status).toBe(204);
    expect((await json("/move", { from: "/tmp/f1", to: "/srv/m/f2", overwrite: true })).status).toBe(204);
    expect(await sh("cat /srv/m/f2; ls /tmp/f1 2>/dev/null; ls -A /srv/m /tmp | grep -c sandwire")).toBe("1\n0\n");
    const { entries } = await json("/stat", { paths: ["/srv/m/f2", "/srv/m/none", "/srv/m/link"] });
    expect(entries).toMatchObject([
      { type: "file", size_bytes: 2 },
      { path: "/srv/m/none", error: "FileNotFound" },
      { type: "link", target: "f1" },
    ]);
    expect((await http("DELETE", "/files?path=/srv/m&recursive=true")).status).toBe(204);
    expect((await http("DELETE", "/files?path=/srv/m")).status).toBe(404);
  });
});
