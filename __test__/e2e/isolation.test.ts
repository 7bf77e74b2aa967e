// What code in a sandbox can't reach, tried from inside. `npm test` runs this file as root and as ordinary users with and
// without a range of ids of their own.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { homedir, hostname, networkInterfaces, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { lives, until, useLocalServer } from "./local.js";
import { SYSTEM_CALLS } from "./system-calls.js";

const local = useLocalServer();
const random = Math.floor(Math.random() * 1e9);
const marker = `marker-${random}`;
const INIT = /^sandwire-init$/;
const rooted = process.getuid?.() === 0;

let hostFile: string;
let homeFolder: string;
let decoy: ChildProcess;
let tcp: Server;
let abstractSocket: Server;

const listening = (server: Server, where: object) =>
  new Promise<Server>((resolve, reject) => server.once("error", reject).listen(where, () => resolve(server)));

beforeAll(async () => {
  hostFile = join(mkdtempSync(join(tmpdir(), "sandwire-host-")), "secret");
  writeFileSync(hostFile, marker);
  homeFolder = mkdtempSync(join(homedir(), ".sandwire-marker-"));
  writeFileSync(join(homeFolder, "secret"), marker);
  decoy = spawn("sleep", [`1${random}`]);
  tcp = await listening(createServer(), { port: 0, host: "0.0.0.0" });
  abstractSocket = await listening(createServer(), { path: `\0${marker}` });
});

afterAll(() => {
  decoy?.kill();
  tcp?.close();
  abstractSocket?.close();
  for (const folder of [dirname(hostFile), homeFolder]) rmSync(folder, { recursive: true });
});

const sh = (command: string, options: object = {}) => local.sandbox.run(command, { timeout: 30, ...options });
const output = async (command: string) => (await sh(command)).stdout.trim();

/** Runs Python in the sandbox and reads the JSON that it prints. */
async function python(script: string): Promise<any> {
  const result = await sh("python3 -", { input: script });
  expect(result.stderr).toBe("");
  return JSON.parse(result.stdout);
}

/** The host's id of a process by the first word of its command line. */
function hostProcess(word: string): string | undefined {
  return readdirSync("/proc").find((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith(`${word}\0`);
    } catch {
      return false;
    }
  });
}

describe("identity", () => {
  it("root inside is nobody outside", async () => {
    expect(await output("id -u; id -g")).toBe("0\n0");
    await using handle = await local.sandbox.run(`exec -a ${marker} sleep 60`, { wait: false });
    await until(() => hostProcess(marker) !== undefined);
    const status = readFileSync(`/proc/${hostProcess(marker)}/status`, "utf8");
    const ids = [...status.matchAll(/^[UG]id:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)/gm)].flatMap((line) =>
      line.slice(1).map(Number),
    );
    expect(ids).toHaveLength(8);
    if (rooted) expect(Math.min(...ids)).toBeGreaterThanOrEqual(65_536);
    else expect(ids).not.toContain(0);
    await handle.kill();
  });

  it("has the ids, the name and the namespaces that the isolation says", async () => {
    const count = (await output("cat /proc/self/uid_map")).split(/\s+/)[2];
    expect(Number(count)).toBe(local.server.isolation.ids === "range" ? 65_536 : 1);
    expect(await output("hostname")).not.toBe(hostname());
    for (const name of ["user", "mnt", "pid", "net", "ipc", "uts"]) {
      const inside = await output(`readlink /proc/self/ns/${name}`);
      const outside = readlinkSync(`/proc/self/ns/${name}`);
      expect(inside).toMatch(new RegExp(`^${name}:`));
      expect(inside).not.toBe(outside);
    }
  });
});

describe("processes", () => {
  it("of the host are invisible; ps shows the sandbox's own", async () => {
    expect(await output(`grep -lsa '[1]${random}' /proc/[0-9]*/cmdline; true`)).toBe("");
    const pids = await python(
      "import os, json\nprint(json.dumps([int(p) for p in os.listdir('/proc') if p.isdigit()]))",
    );
    expect(Math.max(...pids)).toBeLessThan(100_000);
    expect(pids).toContain(1);
    expect(await output("cat /proc/1/comm")).toMatch(INIT);
    const listed = await sh("ps -eo pid=,comm=");
    expect(listed).toMatchObject({ success: true, stderr: "" });
    const lines = listed.stdout.trimEnd().split("\n");
    const [pid, name = ""] = lines[0]?.trim().split(" ") ?? [];
    expect(pid).toBe("1");
    expect(name).toMatch(INIT);
    expect(lines.some((line) => line.endsWith(" ps"))).toBe(true);
    expect(lines.length).toBeLessThan(12);
  });

  it("of a command hold no socket: there is no way to init or to the server", async () => {
    const listing = "for fd in /proc/self/fd/*; do readlink $fd; done; ls -l /proc/self/fd /proc/$$/fd";
    for (const options of [{}, { input: "x" }]) {
      const { stdout } = await sh(listing, options);
      expect(stdout).toMatch(/ 0 -> /);
      expect(stdout).toMatch(/ 2 -> pipe:/);
      expect(stdout).not.toMatch(/socket:|anon_inode/);
    }
    await using handle = await local.sandbox.run(listing, { wait: false });
    expect((await handle.result).stdout).not.toMatch(/socket:|anon_inode/);
  });

  it("of the host can't be signalled; killing everything kills the sandbox's own only", async () => {
    await using other = await local.client.sandbox();
    await other.run("kill -9 -1", { reject: false });
    expect((await other.run("echo alive")).stdout).toBe("alive\n");
    await other.run(`kill -9 ${decoy.pid} ${local.server.pid} ${process.pid}`, { reject: false });
    for (const pid of [decoy.pid, local.server.pid]) expect(lives(pid ?? 0)).toBe(true);
  });

  it("init survives, and keeps its memory, its root and its files to itself", async () => {
    await sh("kill -9 1; kill -TERM 1; kill -SEGV 1; kill -STOP 1");
    expect(await output("echo alive")).toBe("alive");
    for (const path of ["/proc/1/mem", "/proc/1/root/etc/hostname", "/proc/1/environ", "/proc/1/fd/0", "/proc/1/exe"]) {
      expect([path, (await sh(`head -c 1 ${path}`)).success]).toEqual([path, false]);
    }
    expect(
      await output("readlink /proc/1/fd/* /proc/1/cwd /proc/1/root /proc/1/map_files/*; ls /proc/1/cwd/; true"),
    ).toBe("");
  });

  it("are gone from the host when they are killed", async () => {
    const handle = await local.sandbox.run(`exec -a ${marker}-gone sleep 60`, { wait: false });
    await until(() => hostProcess(`${marker}-gone`) !== undefined);
    await handle.kill();
    await until(() => hostProcess(`${marker}-gone`) === undefined);
  });
});

describe("files", () => {
  it("of people are not there", async () => {
    expect(await output("ls -A /root /root/ 2>/dev/null | grep -v ':$'")).toBe("");
    expect(await output("ls -A /home")).toMatch(/^(user)?$/);
    expect(await output("ls -A /home/user 2>/dev/null")).toBe("");
    for (const folder of ["/srv", "/mnt", "/media"]) expect(await output(`ls -A ${folder} 2>/dev/null`)).toBe("");
    expect((await sh(`ls ${homedir()}/.ssh ${homedir()}/.npmrc ${homedir()}/.cargo`)).stdout).toBe("");
  });

  it("in the home of the server's own user are out of reach", async () => {
    const path = join(homeFolder, "secret");
    expect(readFileSync(path, "utf8")).toBe(marker);
    await sh("ln -sfn / /tmp/home-escape");
    for (const way of [path, `/proc/self/root${path}`, `/tmp/home-escape${path}`, `/proc/1/root${path}`]) {
      expect([way, (await sh(`cat ${way}`)).stdout]).toEqual([way, ""]);
      expect(await local.sandbox.read(way).catch(() => null)).toBe(null);
    }
    expect(await output(`ls -A ${homedir()} | grep ${basename(homeFolder)}; true`)).toBe("");
    expect(await output(`grep -rls ${marker} ${homedir()} /root /home; true`)).toBe("");
  });

  it("of the host's temporary folders and of this checkout are not there", async () => {
    expect((await sh(`cat ${hostFile}`)).success).toBe(false);
    expect((await sh(`ls ${import.meta.dirname}`)).success).toBe(false);
    expect(await output(`grep -rls ${marker} /tmp /var /run /dev/shm /opt/nowhere; true`)).toBe("");
    expect(
      await output("ls -A /run /var/lib /var/log 2>/dev/null | grep -iE 'docker|containerd|systemd|dbus|cloud'; true"),
    ).toBe("");
  });

  it("with the host's secrets can't be read, by no path and no link", async () => {
    await sh("ln -sfn / /tmp/escape; ln -sfn /proc/1/root /tmp/escape2; ln -sfn ../../../../../../etc /tmp/escape3");
    const paths = [
      "/etc/shadow",
      "/etc/gshadow",
      "/etc/shadow-",
      "/etc/sudoers",
      "/etc/ssh/ssh_host_ed25519_key",
      "/tmp/escape/etc/shadow",
      "/tmp/escape2/etc/shadow",
      "/tmp/escape3/shadow",
      "/proc/self/root/etc/shadow",
      "/proc/self/cwd/../../../../etc/shadow",
      "../../../../../../../etc/shadow",
    ];
    for (const path of paths) {
      const inside = await sh(`cat ${path}`);
      const downloaded = await local.sandbox.read(path).then(
        (data) => Buffer.from(data).toString(),
        () => "",
      );
      for (const text of [inside.stdout, downloaded]) expect([path, secretsIn(text)]).toEqual([path, []]);
    }
    expect(
      Buffer.from(await local.sandbox.read("/proc/self/root/etc/passwd").catch(() => "")).toString(),
    ).not.toContain(marker);
  });

  it("of the host can't be changed: what is written stays inside", async () => {
    for (const folder of ["/usr", "/usr/bin", "/etc", "/opt", "/bin", "/lib", "/"]) {
      await sh(`echo ${marker} > ${folder}/${marker}; rm -f ${folder}/nothing`);
      expect(existsSync(join(folder, marker))).toBe(false);
      await local.sandbox.write(`${folder}/${marker}-up`, marker).catch(() => {});
      expect(existsSync(join(folder, `${marker}-up`))).toBe(false);
    }
    const passwd = readFileSync("/etc/passwd", "utf8");
    await sh(
      `echo '${marker}:x:0:0::/:/bin/sh' >> /etc/passwd; rm -f /usr/bin/env; chmod 777 /usr/bin; chown 1:1 /bin/sh`,
    );
    expect(readFileSync("/etc/passwd", "utf8")).toBe(passwd);
    expect(existsSync("/usr/bin/env")).toBe(true);
    await using fresh = await local.client.sandbox();
    expect((await fresh.run(`ls /usr/bin/env && ! ls /usr/${marker} /etc/${marker}`)).success).toBe(true);
  });

  it("of the machine are shut: modules, kernel memory, sysctls, sysrq, cgroups, firmware", async () => {
    const before = readFileSync("/proc/sys/kernel/core_pattern", "utf8");
    for (const path of [
      "/proc/sys/kernel/core_pattern",
      "/proc/sysrq-trigger",
      "/proc/sys/vm/drop_caches",
      "/proc/sys/kernel/modprobe",
      "/sys/kernel/uevent_helper",
      "/sys/fs/cgroup/cgroup.procs",
      "/sys/fs/cgroup/memory/cgroup.procs",
      "/proc/sys/fs/binfmt_misc/register",
    ]) {
      expect([path, (await sh(`echo 1 > ${path}`)).success]).toEqual([path, false]);
    }
    expect(readFileSync("/proc/sys/kernel/core_pattern", "utf8")).toBe(before);
    for (const path of [
      "/proc/kcore",
      "/dev/mem",
      "/dev/kmsg",
      "/proc/kpagecount",
      "/sys/kernel/debug/tracing/trace",
    ]) {
      expect([path, (await sh(`head -c 1 ${path}`)).stdout]).toEqual([path, ""]);
    }
    expect(await output("find /lib/modules /usr/lib/modules -name '*.ko*' 2>/dev/null | head -1")).toBe("");
    expect(await output("find /sys/firmware /boot -mindepth 1 2>/dev/null | head -1")).toBe("");
  });
});

/** Lines of the host's secret files that stand in a text; as an ordinary user whatever looks like a password hash. */
function secretsIn(text: string): string[] {
  const hashes = text.split("\n").filter((line) => /^[^:]+:\$\w+\$|PRIVATE KEY/.test(line));
  if (!rooted) return hashes;
  const host = readFileSync("/etc/shadow", "utf8")
    .split("\n")
    .filter((line) => /^[^:]+:[^:]{3,}:/.test(line));
  return [...hashes, ...host.filter((line) => text.includes(line))];
}

describe("mounts", () => {
  it("of the host are invisible, and none comes out", async () => {
    const mounts = await output("cat /proc/self/mountinfo");
    for (const word of [dirname(hostFile), "/home/", "docker", "overlay2"]) expect(mounts).not.toContain(` ${word}`);
    expect(mounts.split("\n").filter((line) => / \/ /.test(line)).length).toBeGreaterThan(0);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(local.sandbox.id ?? "?");
  });

  it("hold what is needed, writable only where it should be", async () => {
    expect(await output("echo a > /tmp/w && cat /tmp/w")).toBe("a");
    expect(await output("echo a > /root/w && cat /root/w && rm /root/w")).toBe("a");
    expect((await sh("echo a > /dev/shm/w && rm /dev/shm/w")).success).toBe(true);
    expect((await sh("echo a > /proc/self/oom_adj_nothing")).success).toBe(false);
  });
});

describe("network", () => {
  it("is loopback and nothing else", async () => {
    const names = (await output("tail -n +3 /proc/net/dev | cut -d: -f1")).split("\n").map((name) => name.trim());
    expect(names).toEqual(["lo"]);
    expect(await output("tail -n +2 /proc/net/route")).toBe("");
  });

  it("does not reach the host's ports and sockets, nor the world; its own loopback works", async () => {
    const addresses = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
    const targets = [...new Set(["127.0.0.1", ...addresses])].map((address) => [address, (tcp.address() as any).port]);
    const serverPort = Number(new URL(local.server.apiEndpoint).port);
    const answers = await python(`
import json, socket
def reach(family, target):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(3)
            s.connect(target)
            return "reached"
    except OSError as e:
        return "refused"
answers = {}
for host, port in ${JSON.stringify([...targets, ["127.0.0.1", serverPort], ["1.1.1.1", 53]])}:
    answers[f"{host} {port}"] = reach(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))
answers["abstract"] = reach(socket.AF_UNIX, "\\0${marker}")
own = socket.create_server(("127.0.0.1", 0))
answers["own"] = reach(socket.AF_INET, own.getsockname())
print(json.dumps(answers))`);
    const { own, ...others } = answers;
    expect(own).toBe("reached");
    expect(Object.values(others).every((answer) => answer === "refused")).toBe(true);
    expect(Object.keys(others).length).toBeGreaterThanOrEqual(4);
  });

  it("of another sandbox is another one", async () => {
    await using other = await local.client.sandbox();
    const service = await other.run("python3 -u -m http.server 8123 --bind 127.0.0.1", { wait: false });
    const probe = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8123), 3)'";
    await until(async () => (await other.run(probe)).success);
    expect((await sh(probe)).success).toBe(false);
    await service.kill();
  });
});

describe("privileges", () => {
  it("are few: no dangerous capability is held or can be got", async () => {
    const dangerous = {
      DAC_READ_SEARCH: 2,
      NET_ADMIN: 12,
      SYS_MODULE: 16,
      SYS_RAWIO: 17,
      SYS_PTRACE: 19,
      SYS_PACCT: 20,
      SYS_ADMIN: 21,
      SYS_BOOT: 22,
      SYS_NICE: 23,
      SYS_RESOURCE: 24,
      SYS_TIME: 25,
      MKNOD: 27,
      AUDIT_CONTROL: 30,
      MAC_ADMIN: 33,
      SYSLOG: 34,
      PERFMON: 38,
      BPF: 39,
      CHECKPOINT_RESTORE: 40,
    };
    const status = await output("cat /proc/self/status");
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
      const held = BigInt(`0x${new RegExp(`^${set}:\\s+(\\w+)`, "m").exec(status)?.[1]}`);
      const found = Object.entries(dangerous).filter(([, bit]) => (held >> BigInt(bit)) & 1n);
      expect([set, found.map(([name]) => name)]).toEqual([set, []]);
    }
    expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(status).toMatch(/^Seccomp:\s+2$/m);
  });

  it("are not gained by setuid", async () => {
    await sh("cp /bin/bash /var/tmp/rootbash; chmod 4755 /var/tmp/rootbash; chmod 755 /var/tmp");
    const attempt = await sh("/var/tmp/rootbash -p -c 'id -u; grep CapEff /proc/self/status'", {
      ...(local.server.isolation.ids === "range" ? { runConfig: { user: "1000:1000" } } : {}),
    });
    if (local.server.isolation.ids === "range") expect(attempt.stdout).toMatch(/^1000\nCapEff:\s+0+\s*$/);
    expect((await sh("su -c true nobody; sudo -n true")).success).toBe(false);
  });

  it("do not include the system calls that break out", async () => {
    const refused = await python(SYSTEM_CALLS);
    expect(Object.keys(refused).length).toBeGreaterThan(15);
    const allowed = Object.entries(refused).filter(([, errno]) => errno === 0);
    expect(allowed).toEqual([]);
    expect(await output("echo alive")).toBe("alive");
  });

  it("do not include making devices or mounts by hand", async () => {
    expect(await output("ls -A /dev | sort | tr '\\n' ' '")).toMatch(
      /^((console|core|fd|full|mqueue|null|ptmx|pts|random|shm|stderr|stdin|stdout|tty|urandom|zero) ?)+$/,
    );
    expect(await output("find /dev -type b")).toBe("");
    expect((await sh("mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk")).success).toBe(false);
    expect((await sh("mount -t tmpfs none /mnt || mount --bind /usr /mnt || umount -l /proc")).success).toBe(false);
    expect((await sh("unshare -Ur true || unshare -m true || nsenter -t 1 -a true")).success).toBe(false);
    expect(
      (await sh("for i in 1 2 3; do head -c 10 /dev/urandom >/dev/null || exit 1; done; echo x >/dev/null")).success,
    ).toBe(true);
  });
});
