"use strict";
// A sandbox: what the server said of it, and what can be done inside.

const { inspect } = require("node:util");
const { cancellable, isAbortOf, whenAborted, withSignal } = require("./abort.js");
const { Callbacks } = require("./callbacks.js");
const { CommandHandle } = require("./command.js");
const { conclude, ending } = require("./ending.js");
const { classes } = require("./errors.js");
const { callOptions, callRules, check, parse, rules, toBuffer } = require("./options.js");
const { planReconnect, planRun } = require("./run.js");

/** What is taken over from the wire; a member of a newer server must not shadow a method. */
const FIELDS = [
  "id name status status_message dataplane_url created_at updated_at stopped_at snapshot_id isolation",
  "idle_ttl_seconds delete_after_stop_seconds vcpus mem_bytes fs_capacity_bytes",
].flatMap((names) => names.split(" "));

const FILE_TIMEOUT_SECONDS = 60;

const deadHandles = new FinalizationRegistry(({ handles, weak }) => handles.delete(weak));

class Sandbox {
  #native;
  #owned;
  /** @type {Set<WeakRef<CommandHandle>>} */
  #handles = new Set();

  /**
   * @param {any} native the native client
   * @param {any} data the sandbox as on the wire
   * @param {boolean} owned whether disposing deletes it
   */
  constructor(native, data, owned = false) {
    this.#native = native;
    this.#owned = owned;
    this.#assign(data);
  }

  #assign(data) {
    for (const field of FIELDS) {
      if (data[field] == null) delete this[field];
      else this[field] = data[field];
    }
  }

  get vCpus() {
    return this.vcpus;
  }

  /** The status alone never blocks a call: stopped sandboxes resume. */
  #target() {
    const { name, status, dataplane_url: dataplaneUrl } = this;
    if (dataplaneUrl) return { name, dataplaneUrl };
    if (status === "provisioning" || status === "failed") {
      const detail = this.status_message ? `: ${this.status_message}` : "";
      const remedy = status === "failed" ? "create another" : "await client.waitForSandbox(name)";
      throw new classes.SandboxNotReadyError(`Sandbox '${name}' is ${status}${detail} (${remedy})`, { status });
    }
    throw new classes.DataplaneNotConfiguredError(
      `Sandbox '${name}' has no dataplane_url; its server has no data plane`,
    );
  }

  async run(command, options) {
    const plan = planRun(command, options);
    const target = this.#target();
    if (plan.wait && !plan.callbacks) return this.#runToEnd(target, plan);
    const handle = await this.#attach(plan, (cancel) =>
      this.#native.run(target, plan.spec, plan.stream, plan.call, cancel),
    );
    return plan.wait ? handle.result : handle;
  }

  async reconnect(commandId, options) {
    return this.#reconnect(planReconnect(commandId, options));
  }

  async #reconnect(plan) {
    const target = this.#target();
    const { commandId, from, stream, call } = plan;
    return this.#attach(plan, (cancel) =>
      this.#native.reconnect(target, commandId, from[0], from[1], stream, call, cancel),
    );
  }

  /** One crossing: nobody looks before the end. */
  async #runToEnd(target, plan) {
    plan.signal?.throwIfAborted();
    const end = await ending(() =>
      cancellable(plan.signal, (cancel) => this.#native.runToEnd(target, plan.spec, plan.stream, plan.call, cancel)),
    );
    const callbacks = new Callbacks(plan);
    const release = whenAborted(plan.signal, callbacks, (told) => told.interrupt());
    try {
      return await conclude(end, plan, { callbacks, aborted: isAbortOf(plan.signal, end.error) });
    } finally {
      release();
    }
  }

  async #attach(plan, start) {
    const handles = this.#handles;
    const native = await withSignal(plan.signal, start);
    const handle = new CommandHandle(native, plan, (next) => this.#reconnect(next));
    const weak = new WeakRef(handle);
    handles.add(weak);
    deadHandles.register(handle, { handles, weak });
    // Closed while it was attached.
    if (handles !== this.#handles) handle.close();
    return handle;
  }

  async read(path, options) {
    const { target, call, signal } = this.#fileCall("read", path, options);
    return withSignal(signal, (cancel) => this.#native.readFile(target, path, call, cancel));
  }

  async write(path, content, options) {
    check("write", "content", content, rules.bytes);
    const { target, call, signal } = this.#fileCall("write", path, options);
    await withSignal(signal, (cancel) => this.#native.writeFile(target, path, toBuffer(content), call, cancel));
  }

  /** A bare number is the limit in seconds, as in the official client. */
  #fileCall(method, path, given) {
    check(method, "path", path, rules.text);
    const seconds = typeof given === "number" ? given : FILE_TIMEOUT_SECONDS;
    const timeout = {
      expects: "a number of seconds above 0",
      test: (value) => value > 0 && value <= 0x7fffffff / 1000,
    };
    check(method, "timeout", seconds, timeout);
    const options = parse(method, callRules, typeof given === "number" ? {} : given);
    options.timeoutMs ??= Math.ceil(seconds * 1000);
    return { target: this.#target(), call: callOptions(options), signal: options.signal };
  }

  async delete(options) {
    const { signal, ...call } = parse("delete", callRules, options);
    await withSignal(signal, (cancel) => this.#native.deleteSandbox(this.name, callOptions(call), cancel));
  }

  async refresh(options) {
    const { signal, ...call } = parse("refresh", callRules, options);
    const data = await withSignal(signal, (cancel) => this.#native.getSandbox(this.name, callOptions(call), cancel));
    this.#assign(JSON.parse(data));
    return this;
  }

  /** Ends the attachments of its handles; the sandbox lives on. */
  close() {
    for (const weak of this.#handles) weak.deref()?.close();
    this.#handles = new Set();
  }

  async [Symbol.asyncDispose]() {
    this.close();
    if (!this.#owned) return;
    try {
      await this.delete();
    } catch (error) {
      if (!(error instanceof classes.ResourceNotFoundError)) throw error;
    }
  }

  toString() {
    return `[Sandbox name="${this.name}"]`;
  }

  toJSON() {
    return { ...this };
  }

  [inspect.custom]() {
    return this.toString();
  }
}

module.exports = { Sandbox };
