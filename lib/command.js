"use strict";
// A running command, as its caller holds it.

const { inspect } = require("node:util");
const { whenAborted } = require("./abort.js");
const { conclude, ending } = require("./ending.js");
const { callersLine, fromNative } = require("./failure.js");
const { check, checkSize, rules, toBuffer } = require("./options.js");
const { Output } = require("./output.js");
const { planReconnect } = require("./run.js");

const [STDOUT, STDERR] = /** @type {const} */ ([0, 1]);
const ignore = () => {};

class CommandHandle {
  #native;
  #plan;
  #attach;
  #output;
  #closed = false;
  /** @type {Promise<any> | null} */
  #result = null;
  #release;

  /**
   * @param {any} native the native command
   * @param {any} plan how to receive it
   * @param {(plan: any) => Promise<CommandHandle>} attach attaches to a command of the same sandbox
   */
  constructor(native, plan, attach) {
    this.#native = native;
    this.#plan = plan;
    this.#attach = attach;
    this.#output = new Output(native, plan, {
      stop: () => this.#stop(),
      detach: () => this.detach(),
      ended: () => this.#ended(),
    });
    this.commandId = native.commandId;
    this.pid = native.pid;
    this.#release = whenAborted(plan.signal, this, CommandHandle.#abort);
    if (plan.callbacks) void this.result;
  }

  /** Static: an arrow of the constructor would have the handle, which then lived as long as the signal. */
  static #abort(handle) {
    handle.#output.abort(handle.#stop());
  }

  /** An abort changes nothing any more; a result that is waited for may still tell gaps. */
  #ended() {
    if (this.#result === null) this.#release();
  }

  async #stop() {
    const sent = await this.#kill().catch(() => false);
    if (!sent) this.#native.detach();
  }

  #kill() {
    this.#output.release();
    return this.#native.kill();
  }

  get lastStdoutOffset() {
    return this.#output.position(STDOUT);
  }

  get lastStderrOffset() {
    return this.#output.position(STDERR);
  }

  [Symbol.asyncIterator]() {
    return this.#output.loop();
  }

  get stdout() {
    return this.#output.stream(STDOUT);
  }

  get stderr() {
    return this.#output.stream(STDERR);
  }

  get result() {
    if (this.#result === null) {
      this.#result = this.#settle(callersLine());
      this.#result.catch(ignore);
    }
    return this.#result;
  }

  /** Never waits for a reader, which may itself be waiting for the result. */
  async #settle(stamp) {
    const output = this.#output;
    const { callbacks } = output;
    const served = !this.#plan.callbacks || (await output.serve());
    await output.settle();
    const end = await ending(() => this.#native.result(), stamp);
    // An abort that comes after the end changes nothing.
    const finished = served && end.result?.outcome === "exited";
    const aborted = output.aborting !== null && !finished;
    if (aborted) await output.aborting;
    try {
      return await conclude(end, this.#plan, { callbacks, aborted, busy: output.busy });
    } finally {
      this.#release();
    }
  }

  /** @param {string} [signal] */
  kill(signal = "SIGKILL") {
    check("kill", "signal", signal, rules.processSignal);
    return this.#control(() => (signal === "SIGKILL" ? this.#kill() : this.#native.signal(signal)));
  }

  /** @param {string | Uint8Array} data */
  sendInput(data) {
    check("sendInput", "data", data, rules.bytes);
    return this.#control(() => this.#native.sendInput(toBuffer(data)));
  }

  closeInput() {
    return this.#control(() => this.#native.closeInput());
  }

  /** @param {{ cols: number, rows: number }} size */
  resize(size) {
    const { cols, rows } = checkSize(size);
    return this.#control(() => this.#native.resize(cols, rows));
  }

  /** Callers often don't await these: their failure is theirs to ask for, and never ends the program. */
  #control(send) {
    const sent = this.#closed ? Promise.resolve(false) : send().catch((error) => Promise.reject(fromNative(error)));
    sent.catch(ignore);
    return sent;
  }

  /** Until it is settled this handle delivers nothing, or callbacks that both have would get it twice. */
  reconnect(options) {
    const taken = this.#takeOver(options);
    void this.#output.hold(taken);
    return taken;
  }

  /** Once the new handle is attached, this one is detached: nobody would read on here, and the command would wait. */
  async #takeOver(options) {
    const { lastStdoutOffset, lastStderrOffset } = this;
    const inherited = { ...this.#plan.receive, stdoutOffset: lastStdoutOffset, stderrOffset: lastStderrOffset };
    const plan = planReconnect(this.commandId, options, inherited);
    const handle = await this.#attach({ ...plan, killOnBreak: this.#plan.killOnBreak });
    this.detach();
    return handle;
  }

  /** Ends the attachment; the command lives on, unless it was started with `killOnDisconnect`. */
  detach() {
    if (this.#closed) return;
    this.#closed = true;
    this.#output.close();
    this.#native.detach();
    this.#release();
  }

  close() {
    this.detach();
  }

  async [Symbol.asyncDispose]() {
    this.detach();
  }

  toString() {
    return `[CommandHandle commandId="${this.commandId}"]`;
  }

  toJSON() {
    return { commandId: this.commandId, pid: this.pid };
  }

  [inspect.custom]() {
    return this.toString();
  }
}

/** How lost connections are made again, by the native side: attempts in a row, and seconds between them. */
const POLICY = { MAX_AUTO_RECONNECTS: 5, BACKOFF_BASE: 0.5, BACKOFF_MAX: 8 };

for (const [name, value] of Object.entries(POLICY)) {
  Object.defineProperty(CommandHandle, name, { value, enumerable: true });
}

module.exports = { CommandHandle };
