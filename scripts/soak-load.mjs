// The load of the soak test: lives of sandboxes, each a random walk over what clients do, by our client and by plain HTTP.
// Every answer is checked; what a server has not (501) is counted apart.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

const ACTS_PER_LIFE = 8;

/** One sandbox from its making to its end. */
export async function live(load, lane, life) {
  const sandbox = await load.client.createSandbox({ name: `soak-${lane}-${life}-${Date.now()}` });
  const http = plain(load, sandbox);
  const names = Object.keys(acts);
  try {
    for (let count = 0; count < ACTS_PER_LIFE; count++) {
      const name = names[Math.floor(Math.random() * names.length)];
      const counted = (await acts[name]({ sandbox, http, life })) === 501 ? `${name} (501)` : name;
      load.done[counted] = (load.done[counted] ?? 0) + 1;
    }
  } finally {
    const { status } = await http.control("DELETE", "");
    assert.equal(status, 204);
  }
}

/** Plain HTTP to the sandbox; the control plane by its id, as names change. */
function plain({ apiEndpoint, apiKey }, sandbox) {
  const call = async (method, url, body, headers = {}) => {
    const answer = await fetch(url, { method, body, headers: { "X-Api-Key": apiKey, ...headers } });
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return { status: answer.status, text: new TextDecoder().decode(bytes), bytes, headers: answer.headers };
  };
  const json = { "content-type": "application/json" };
  return {
    control: (method, path, body) =>
      call(method, `${apiEndpoint}/boxes/${sandbox.id}${path}`, body && JSON.stringify(body), json),
    all: () => call("GET", `${apiEndpoint}/boxes?page_size=3`),
    data: (method, path, body, headers) =>
      call(method, `${sandbox.dataplane_url}${path}`, body, { ...(typeof body === "string" ? json : {}), ...headers }),
  };
}

const acts = {
  async run({ sandbox, life }) {
    const { stdout, exit_code } = await sandbox.run(`echo ${life}; exit 3`);
    assert.deepEqual([stdout, exit_code], [`${life}\n`, 3]);
  },

  async stream({ sandbox }) {
    const handle = await sandbox.run("seq 1 100000", { wait: false });
    let length = 0;
    for await (const { data } of handle) length += data.length;
    assert.equal(length, 588_895);
  },

  async input({ sandbox }) {
    const handle = await sandbox.run("cat", { wait: false });
    for (let line = 0; line < 10; line++) await handle.sendInput(`${line}\n`.repeat(1000));
    await handle.closeInput();
    assert.equal((await handle.result).stdout.length, 20_000);
  },

  async kill({ sandbox }) {
    const handle = await sandbox.run("sleep 1000 & sleep 1000", { wait: false });
    await handle.kill();
    assert.equal((await handle.result).exit_code, 137);
  },

  async abandon({ sandbox }) {
    const handle = await sandbox.run("seq 1 1000000; sleep 0.2", { wait: false, killOnDisconnect: true });
    for await (const _ of handle) break;
    handle.close();
  },

  async timeout({ sandbox }) {
    await assert.rejects(sandbox.run("sleep 10", { timeout: 1 }), { name: "CommandTimeoutError" });
  },

  async background({ sandbox }) {
    await sandbox.run("(sleep 300; true) > /dev/null 2>&1 &");
  },

  async terminal({ sandbox }) {
    const { stdout } = await sandbox.run("tty", { pty: true });
    assert.match(stdout, /^\/dev\/pts\//);
  },

  async files({ sandbox }) {
    const content = crypto.getRandomValues(new Uint8Array(50_000));
    await sandbox.write("dir/file", content);
    assert.deepEqual(new Uint8Array(await sandbox.read("dir/file")), content);
  },

  async manyFiles({ sandbox }) {
    const { exit_code } = await sandbox.run("mkdir -p many && cd many && seq 1 300 | xargs touch");
    assert.equal(exit_code, 0);
  },

  async execute({ http }) {
    const { status, text } = await http.data("POST", "/execute", JSON.stringify({ command: "printf x" }));
    assert.deepEqual([status, JSON.parse(text).stdout], [200, "x"]);
  },

  async transfer({ http }) {
    const form = new FormData();
    form.set("file", new Blob([new Uint8Array(200_000)]), "blob");
    assert.equal((await http.data("POST", "/upload?path=/home/user/blob", form)).status, 200);
    const part = await http.data("GET", "/download?path=/home/user/blob", undefined, { range: "bytes=10-19" });
    assert.deepEqual([part.status, part.bytes.length], [206, 10]);
  },

  search: ({ http }) => supported(http.data("POST", "/glob", JSON.stringify({ pattern: "*", path: "/home/user" }))),

  async restart({ sandbox, http }) {
    await sandbox.write("kept", "yes");
    const { status, text } = await http.control("POST", "/stop");
    assert.ok(status < 300, text);
    // Either way it is back: asked for, or woken by use.
    if (Math.random() < 0.5) assert.ok((await http.control("POST", "/start")).status < 300);
    assert.equal((await sandbox.run("cat /home/user/kept")).stdout, "yes");
  },

  async rename({ http }) {
    const name = `renamed-${Math.random().toString(36).slice(2)}`;
    const { status, text } = await http.control("PATCH", "", { name });
    assert.deepEqual([status, JSON.parse(text).name], [200, name]);
  },

  async list({ http }) {
    assert.equal((await http.control("GET", "/status")).status, 200);
    assert.equal((await http.all()).status, 200);
  },

  async nonsense({ http }) {
    assert.equal((await http.data("POST", "/execute", "{")).status, 400);
    assert.equal((await http.data("GET", "/download?path=/nowhere")).status, 404);
    assert.ok((await http.control("PATCH", "", { nonsense: 1 })).status >= 400);
  },

  idle: () => sleep(100),
};

/** What a server may not have yet. */
async function supported(calling) {
  const { status, text } = await calling;
  assert.ok(status === 200 || status === 501, `${status}: ${text}`);
  return status;
}
