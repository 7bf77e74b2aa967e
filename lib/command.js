"use strict";
// A running command, as its caller holds it. Loops, callbacks and `result` take from one native stream: nothing is
// delivered twice and nothing is kept for a reader that never comes.

const { inspect } = require("node:util");
const { whenAborted } = require("./abort.js");
const { Callbacks } = require("./callbacks.js");
const { check, checkSignal, rules, toBuffer } = require("./options.js");
const { classes } = require("./errors.js");
const { callersLine, fromNative } = require("./failure.js");
const { ExecutionResult, settleFailure } = require("./result.js");
const { ChunkLoop, Chunks, Turns } = require("./stream.js");

const ignore = () => {};

class CommandHandle {
  #native;
  #plan;
  #chunks;
  #callbacks;
  #turns = new Turns();
  #closed = false;
  #killed = false;
  /** @type {Promise<any> | null} */
  #result = null;
  /** @type {Promise<void> | null} the kill that the signal's abort caused */
  #aborting = null;
  #release;

  /** @param {any} native the native command @param {any} plan how to receive it */
  constructor(native, plan) {
    this.#native = native;
    this.#plan = plan;
    this.#chunks = new Chunks(native);
    this.#callbacks = plan.callbacks ? new Callbacks(plan) : null;
    this.commandId = native.commandId;
    this.pid = native.pid;
    this.#release = whenAborted(plan.signal, this, (handle) => (handle.#aborting = handle.#stop()));
  }

  async #stop() {
    this.#callbacks?.interrupt();
    const sent = await this.#kill().catch(() => false);
    if (!sent) this.#native.detach();
  }

  /** From now on the end counts: no output is held back for a loop that may never ask again. */
  #kill() {
    this.#killed = true;
    this.#chunks.pause();
    return this.#native.kill();
  }

  get lastStdoutOffset() {
    return this.#chunks.taken("stdout") ?? this.#native.lastStdoutOffset;
  }

  get lastStderrOffset() {
    return this.#chunks.taken("stderr") ?? this.#native.lastStderrOffset;
  }

  [Symbol.asyncIterator]() {
    return new ChunkLoop({
      turns: this.#turns,
      take: () => (this.#aborting ? null : this.#chunks.take()),
      pull: () => this.#pull(),
      left: () => (this.#plan.killOnBreak ? this.detach() : this.#chunks.pause()),
      refuse: () => {
        const message = `command ${this.commandId} is being iterated already; leave that loop before you start another`;
        throw new classes.SandboxClientError(message);
      },
    });
  }

  /** The next chunk; `null` at the end. */
  async #pull() {
    for (;;) {
      await this.#throwIfAborted();
      const chunk = this.#chunks.take();
      if (chunk !== null) return chunk;
      const more = await this.#chunks.fill();
      if (this.#killed) this.#chunks.pause();
      if (more) continue;
      await this.#throwIfAborted();
      return null;
    }
  }

  async #throwIfAborted() {
    if (!this.#aborting) return;
    await this.#aborting;
    throw this.#plan.signal.reason;
  }

  get result() {
    if (this.#result === null) {
      const stamp = callersLine();
      this.#result = this.#settle().catch((error) => Promise.reject(stamp(error)));
      this.#result.catch(ignore);
    }
    return this.#result;
  }

  /**
   * Never waits for a loop, which may itself be waiting for the result. A loop that runs, or that starts in the same turn
   * of the program, still gets all output.
   */
  async #settle() {
    const served = this.#callbacks === null || (await this.#serve(this.#callbacks));
    await undefined;
    if (this.#turns.busy && !this.#killed) await this.#chunks.claim();
    const ending = await this.#ending();
    this.#release();
    if (this.#callbacks?.fault) throw this.#callbacks.fault.error;
    // An abort that comes after the end changes nothing.
    const finished = served && ending.result?.outcome === "exited";
    if (this.#aborting && !finished) return this.#aborted(ending);
    return ending.result ?? settleFailure(ending.error, this.#plan);
  }

  /** Whether the callbacks got everything. If not, #aborting, their fault or #ending says why. */
  async #serve(callbacks) {
    try {
      for (let chunk; (chunk = await this.#pull()) !== null;) await callbacks.take(chunk);
      return true;
    } catch {
      if (callbacks.fault) await this.#stop();
      return false;
    }
  }

  async #ending() {
    try {
      return { result: ExecutionResult.fromNative(await this.#native.result(), this.#plan) };
    } catch (error) {
      return { error: fromNative(error) };
    }
  }

  async #aborted({ result, error }) {
    await this.#aborting;
    const partial = result ?? ExecutionResult.ofFailure(error, this.#plan);
    if (this.#plan.reject || partial === undefined) throw this.#plan.signal.reason;
    return partial.withOutcome("aborted");
  }

  /** @param {"SIGKILL"} [signal] */
  kill(signal = "SIGKILL") {
    checkSignal(signal);
    return this.#control(() => this.#kill());
  }

  /** @param {string | Uint8Array} data */
  sendInput(data) {
    check("sendInput", "data", data, rules.bytes);
    return this.#control(() => this.#native.sendInput(toBuffer(data)));
  }

  closeInput() {
    return this.#control(() => this.#native.closeInput());
  }

  /** Callers often don't await these: their failure is theirs to ask for, and never ends the program. */
  #control(send) {
    const sent = this.#closed ? Promise.resolve(false) : send().catch((error) => Promise.reject(fromNative(error)));
    sent.catch(ignore);
    return sent;
  }

  /** Ends the attachment; the command lives on, unless it was started with `killOnDisconnect`. */
  detach() {
    if (this.#closed) return;
    this.#closed = true;
    this.#chunks.close();
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

module.exports = { CommandHandle };
