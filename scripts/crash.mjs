// R2: the server dies, by `kill -9` or at a place that it is told, and the next one must have all that was acknowledged:
// every sandbox, every name, every file; nothing that was deleted; and nothing left over. What was asked for without an
// answer may have happened or not, but never half.

import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { startDaemon } from "./daemon.mjs";
import { countTraces, settle } from "./traces.mjs";

/** Places of `crates/server/src/engine/crash.rs`; only debug builds have them. */
export const places = [
  "make.dir",
  "make.done",
  "create.saved",
  "run.destroyed",
  "stop.saved",
  "update.saved",
  "delete.ended",
  "delete.saved",
  "delete.discarded",
];

/** What the server said, and what it was asked without an answer. */
class Ledger {
  /** Sandboxes that must be there: id to `{ names, files }`, with every name and content that is possible. */
  kept = new Map();
  /** Ids that must not be there. */
  deleted = new Set();
  /** Ids that may be there or not. */
  doubtful = new Map();
  /** Names under which a sandbox may have been made. */
  begun = new Set();

  /** Runs one request; `settled` applies its success, and until then `doubt` holds. */
  async ask(request, doubt, settled) {
    const undo = doubt();
    const answer = await request();
    undo?.();
    settled(answer);
  }
}

/** Requests as an impatient client makes them: no retries, and the server's death is an exception. */
class Caller {
  constructor({ apiEndpoint, apiKey }, ledger) {
    this.base = apiEndpoint;
    this.origin = new URL(apiEndpoint).origin;
    this.headers = { "x-api-key": apiKey };
    this.ledger = ledger;
  }

  async call(method, url, body) {
    const headers = {
      ...this.headers,
      ...(typeof body === "string" ? { "content-type": "application/octet-stream" } : {}),
    };
    const sent = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
    const response = await fetch(url, { method, headers, body: sent });
    const text = await response.text();
    if (!response.ok)
      throw new Refused(`${method} ${new URL(url).pathname}: ${response.status} ${text}`, response.status);
    return text;
  }

  control = async (method, path, body) => {
    const text = await this.call(method, `${this.base}${path}`, body);
    return text === "" ? undefined : JSON.parse(text);
  };

  data = (method, id, path, body) => this.call(method, `${this.origin}/sandboxes/${id}${path}`, body);

  async create(name) {
    const { kept, begun } = this.ledger;
    await this.ledger.ask(
      () => this.control("POST", "/boxes", { name, wait_for_ready: true }),
      () => (begun.add(name), () => begun.delete(name)),
      ({ id }) => kept.set(id, { names: new Set([name]), files: new Map() }),
    );
  }

  async write(id, path, content) {
    const { files } = this.ledger.kept.get(id);
    const before = files.get(path) ?? new Set([undefined]);
    await this.ledger.ask(
      () => this.data("POST", id, `/upload?path=${path}`, content),
      () => void files.set(path, new Set([...before, content])),
      () => files.set(path, new Set([content])),
    );
  }

  /** A command that writes a file; its answer means that the file is there. */
  async run(id, path, content) {
    const { files } = this.ledger.kept.get(id);
    const before = files.get(path) ?? new Set([undefined]);
    const command = `echo -n ${content} > ${path}.new && mv ${path}.new ${path}`;
    await this.ledger.ask(
      () => this.data("POST", id, "/execute", { command }),
      () => void files.set(path, new Set([...before, content])),
      () => files.set(path, new Set([content])),
    );
  }

  async rename(id, name) {
    const sandbox = this.ledger.kept.get(id);
    await this.ledger.ask(
      () => this.control("PATCH", `/boxes/${id}`, { name }),
      () => void (sandbox.names = new Set([...sandbox.names, name])),
      () => (sandbox.names = new Set([name])),
    );
  }

  async delete(id) {
    const { kept, deleted, doubtful } = this.ledger;
    doubtful.set(id, kept.get(id));
    kept.delete(id);
    await this.control("DELETE", `/boxes/${id}`);
    doubtful.delete(id);
    deleted.add(id);
  }

  stop = (id) => this.control("POST", `/boxes/${id}/stop`, {});

  start = (id) => this.control("POST", `/boxes/${id}/start`, {});

  /** Throws if the server has not what it must have; afterwards the ledger holds no doubt. */
  async compare() {
    const { kept, deleted, doubtful, begun } = this.ledger;
    const { items } = await this.control("GET", "/boxes?limit=500");
    const found = new Map(items.map((item) => [item.id, item]));
    for (const id of deleted) if (found.has(id)) throw new Error(`${id} was deleted and is back`);
    for (const id of kept.keys()) if (!found.has(id)) throw new Error(`${id} is lost`);
    for (const [id, sandbox] of doubtful) if (found.has(id)) kept.set(id, sandbox);
    for (const { id, name, status } of items) {
      if (!kept.has(id) && !begun.has(name)) throw new Error(`${name} (${id}) comes from nowhere`);
      if (!["stopped", "ready", "provisioning"].includes(status)) throw new Error(`${name} is ${status}`);
      const known = kept.get(id) ?? { names: new Set([name]), files: new Map() };
      if (!known.names.has(name)) throw new Error(`${id} is called ${name} instead of ${[...known.names]}`);
      kept.set(id, { names: new Set([name]), files: await this.#compareFiles(id, known.files) });
    }
    doubtful.clear();
    begun.clear();
    return { sandboxes: kept.size, files: [...kept.values()].reduce((sum, { files }) => sum + files.size, 0) };
  }

  async #compareFiles(id, files) {
    const settled = new Map();
    for (const [path, possible] of files) {
      const content = await this.data("GET", id, `/download?path=${path}`).catch((error) => {
        if (error.status === 404) return undefined;
        throw error;
      });
      if (!possible.has(content)) throw new Error(`${path} of ${id} has ${JSON.stringify(content?.slice(0, 80))}`);
      if (content !== undefined) settled.set(path, new Set([content]));
    }
    return settled;
  }
}

/** Whether a request had no answer, as its server died. */
const isBroken = (error) =>
  (error instanceof TypeError && error.message === "fetch failed") || error.message === "terminated";

class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** What all of it is compared with at the end: a server that has deleted everything leaves as much as was there before. */
async function emptied(stateDir, caller, server, before) {
  for (const id of [...caller.ledger.kept.keys()]) await caller.delete(id);
  await caller.compare();
  await server.end("SIGTERM");
  const { files: _, ...wanted } = before;
  const after = await settle(stateDir, wanted);
  // Less is no leak: something else on this machine ended.
  const different = Object.keys(wanted).filter((key) => after[key] > wanted[key]);
  if (different.length > 0) {
    throw new Error(
      `left behind: ${different.map((key) => `${key} ${after[key]} instead of ${wanted[key]}`).join(", ")}`,
    );
  }
}

/**
 * Lets a server die at each place while it does what leads there. `program` is a debug build of `sandwired`.
 */
export async function crashAtPlaces(stateDir, { program, progress = () => {} }) {
  const before = await countTraces(stateDir);
  const ledger = new Ledger();
  for (const place of places) {
    progress(place);
    const peaceful = await startDaemon(stateDir, { program });
    const prepare = new Caller(peaceful.config, ledger);
    await prepare.create(`stays-${place}`);
    await prepare.create(`goes-${place}`);
    for (const id of ledger.kept.keys()) await prepare.write(id, "a", `${place} ${id}`);
    await peaceful.end("SIGKILL");

    const dying = await startDaemon(stateDir, { program, env: { SANDWIRED_CRASH_AT: place } });
    const caller = new Caller(dying.config, ledger);
    await everything(caller, place).catch((error) => {
      if (!isBroken(error)) throw error;
    });
    if ((await dying.end(null)) !== "SIGKILL") throw new Error(`nothing led to ${place}`);

    const next = await startDaemon(stateDir, { program });
    await new Caller(next.config, ledger).compare();
    await next.end("SIGTERM");
  }
  const last = await startDaemon(stateDir, { program });
  const caller = new Caller(last.config, ledger);
  const { sandboxes } = await caller.compare();
  await emptied(stateDir, caller, last, before);
  return { places: places.length, sandboxes };
}

async function everything(caller, place) {
  const [stays, goes] = [...caller.ledger.kept.keys()].slice(-2);
  await caller.create(`new-${place}`);
  await caller.run(stays, "b", place);
  await caller.rename(stays, `renamed-${place}`);
  await caller.stop(stays);
  await caller.delete(goes);
  // What comes after the answer of a deletion.
  await sleep(200);
  await caller.control("GET", "/boxes");
}

/** Kills a busy server `rounds` times after a random while, `atOnce` callers at a time. */
export async function crashUnderLoad(stateDir, { rounds, atOnce, most = 40, progress = () => {} }) {
  const before = await countTraces(stateDir);
  const ledger = new Ledger();
  const totals = { rounds, requests: 0, sandboxes: 0, files: 0 };
  for (let round = 1; round <= rounds; round++) {
    const server = await startDaemon(stateDir);
    const caller = new Caller(server.config, ledger);
    let dead = false;
    const lanes = Array.from({ length: atOnce }, (_, lane) =>
      busy(caller, { lane, round, most, isDead: () => dead, totals }),
    );
    await sleep(randomInt(200, 2000));
    dead = true;
    await server.end("SIGKILL");
    await Promise.all(lanes);

    const next = await startDaemon(stateDir);
    const { sandboxes, files } = await new Caller(next.config, ledger).compare();
    Object.assign(totals, { sandboxes: totals.sandboxes + sandboxes, files: totals.files + files });
    progress(`${round} of ${rounds}: ${sandboxes} sandboxes and ${files} files as they must be`);
    await next.end(round % 2 === 0 ? "SIGKILL" : "SIGTERM");
  }
  const last = await startDaemon(stateDir);
  await emptied(stateDir, new Caller(last.config, ledger), last, before);
  return totals;
}

/** One caller among several: each keeps to its own sandboxes, so that it knows what they must have. */
async function busy(caller, { lane, round, most, isDead, totals }) {
  const { kept } = caller.ledger;
  const mine = () => [...kept].filter(([, { names }]) => [...names].every((name) => name.startsWith(`l${lane}-`)));
  for (let step = 0; ; step++) {
    const own = mine();
    const [id] = own[randomInt(Math.max(1, own.length))] ?? [];
    const name = `l${lane}-r${round}-s${step}`;
    try {
      await act(caller, id, name, own.length * 4 > most);
      totals.requests++;
    } catch (error) {
      if (isDead() && isBroken(error)) return;
      throw error;
    }
  }
}

async function act(caller, id, name, full) {
  const kind = id === undefined ? 0 : randomInt(full ? 1 : 0, 10);
  if (kind === 0) await caller.create(name);
  else if (kind <= 3) await caller.write(id, `f${randomInt(3)}`, `${name} `.repeat(randomInt(1, 5000)));
  else if (kind <= 5) await caller.run(id, `f${randomInt(3)}`, name);
  else if (kind === 6) await caller.rename(id, name);
  else if (kind <= 8) await unlessInTheWrongState(kind === 7 ? caller.stop(id) : caller.start(id));
  else await caller.delete(id);
}

async function unlessInTheWrongState(asked) {
  await asked.catch((error) => {
    if (error.status !== 400) throw error;
  });
}
