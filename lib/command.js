"use strict";
// A running command, as its caller holds it. Loops, callbacks and `result` take from one native stream: nothing is
// delivered twice and nothing is kept for a reader that never comes.

const { inspect } = require("node:util");
const { whenAborted } = require("./abort.js");
const { check, rules, toBuffer } = require("./options.js");
const { classes } = require("./errors.js");
const { callersLine, fromNative } = require("./failure.js");
const { ExecutionResult, settleFailure } = require("./result.js");
const { ChunkLoop, Chunks, Turns } = require("./stream.js");

const ignore = () => {};

class CommandHandle {
  #native;
  #plan;
  #chunks;
  #turns = new Turns();
  #closed = false;
  /** @type {Promise<any> | null} */
  #result = null;
  /** @type {{ error: unknown } | null} what a callback threw */
  #fault = null;
  /** @type {Promise<void> | null} the kill that the signal's abort caused */
  #aborting = null;
  #release;

  /** @param {any} native the native command @param {any} plan how to receive it */
  constructor(native, plan) {
    this.#native = native;
    this.#plan = plan;
    this.#chunks = new Chunks(native);
    this.commandId = native.commandId;
    this.pid = native.pid;
    this.#release = whenAborted(plan.signal, this, (handle) => (handle.#aborting = handle.#stop()));
  }

  async #stop() {
    const sent = await this.#native.kill().catch(() => false);
    if (!sent) this.#native.detach();
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
      take: () => (this.#plan.callbacks || this.#aborting ? null : this.#chunks.take()),
      pull: () => this.#pull(),
      left: () => this.#plan.killOnBreak && this.detach(),
      refuse: () => {
        const message = `command ${this.commandId} is being iterated already; leave that loop before you start another`;
        throw new classes.SandboxClientError(message);
      },
    });
  }

  /** The next chunk, handed to the callbacks; `null` at the end. */
  async #pull() {
    for (;;) {
      await this.#throwIfAborted();
      const chunk = this.#chunks.take();
      if (chunk !== null) return this.#plan.callbacks ? this.#callBack(chunk) : chunk;
      if (await this.#chunks.fill()) continue;
      await this.#throwIfAborted();
      return null;
    }
  }

  async #throwIfAborted() {
    if (!this.#aborting) return;
    await this.#aborting;
    throw this.#plan.signal.reason;
  }

  /** A callback that throws ends the command: nobody is left who wants its output. A promise holds the output back. */
  async #callBack(chunk) {
    const callback = chunk.stream === "stdout" ? this.#plan.onStdout : this.#plan.onStderr;
    try {
      await callback?.(chunk.data);
    } catch (error) {
      this.#fault = { error };
      await this.#stop();
      throw error;
    }
    return chunk;
  }

  get result() {
    if (this.#result === null) {
      const stamp = callersLine();
      this.#result = this.#settle().catch((error) => Promise.reject(stamp(error)));
      this.#result.catch(ignore);
    }
    return this.#result;
  }

  /** A loop that runs gets the output; `result` takes what is left. */
  async #settle() {
    await this.#turns.idle();
    if (this.#plan.callbacks) await this.#drain();
    const ending = await this.#ending();
    this.#release();
    if (this.#fault) throw this.#fault.error;
    if (this.#aborting) return this.#aborted(ending);
    return ending.result ?? settleFailure(ending.error, this.#plan);
  }

  /** Runs the callbacks to the end. Why they ended early is kept in #fault or #aborting, or told again by #ending. */
  async #drain() {
    for (const loop = this[Symbol.asyncIterator](); ;) {
      const { done } = await loop.next().catch(() => ({ done: true }));
      if (done) return;
    }
  }

  /** No loop runs now, so nothing is held back for one. */
  async #ending() {
    this.#native.pause();
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

  kill() {
    return this.#control(() => this.#native.kill());
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
    this.#chunks.end();
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
