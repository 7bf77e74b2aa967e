"use strict";
// A command's output and those who take it: loops, callbacks or web streams. All of them take from one native queue, so
// nothing is delivered twice and nothing is kept for a reader that never comes.

const { Callbacks } = require("./callbacks.js");
const { Chunks } = require("./chunks.js");
const { ChunkLoop } = require("./loop.js");
const { Readers } = require("./readers.js");
const { ByteStreams } = require("./streams.js");

class Output {
  #native;
  #plan;
  #control;
  #chunks;
  #readers;
  #callbacks;
  /** @type {ByteStreams | null} */
  #streams = null;
  /** Whether the end alone counts. */
  #released = false;
  #closed = false;
  /** @type {Promise<void> | null} the end that the signal's abort caused */
  #aborting = null;
  /** @type {Promise<any> | null} the attempts to hand over to another handle */
  #handover = null;
  /** Whether neither of these two stops the output. */
  #flows = true;

  /**
   * @param {any} native the native command
   * @param {any} plan how to receive it
   * @param {{ stop(): Promise<void>, detach(): void, ended(): void }} control ends the command, or the attachment; is
   *   told when all output was fetched
   */
  constructor(native, plan, control) {
    this.#native = native;
    this.#plan = plan;
    this.#control = control;
    this.#chunks = new Chunks(native, plan.from);
    this.#readers = new Readers(native.commandId);
    this.#callbacks = new Callbacks(plan);
    if (plan.callbacks) this.#readers.claim("callbacks");
  }

  get callbacks() {
    return this.#callbacks;
  }

  /** Whether somebody takes the output who will come across its gaps. */
  get busy() {
    return this.#readers.busy;
  }

  get aborting() {
    return this.#aborting;
  }

  loop() {
    return new ChunkLoop({
      readers: this.#readers,
      take: () => (this.#flows ? this.#chunks.take() : null),
      pull: (left) => this.#pull(left),
      left: () => (this.#plan.killOnBreak ? this.#control.detach() : this.#chunks.pause()),
    });
  }

  /** @param {0 | 1} kind */
  stream(kind) {
    this.#readers.claim("streams");
    this.#streams ??= this.#open();
    return this.#streams.get(kind);
  }

  #open() {
    this.#native.setRaw(true);
    const streams = new ByteStreams(this.#native, this.#plan.from, {
      held: () => (this.#flows ? null : this.#flow()),
      fetch: (receive) => this.#fetch(receive),
      gap: (gap) => (this.#plan.onGap ? this.#tell(this.#callbacks.gap(gap)) : null),
      discard: (kind) => this.#native.discard(kind),
    });
    if (this.#closed) streams.close();
    return streams;
  }

  /** The next chunk for loops and callbacks; `null` at the end, and for a loop that was left while it waited. */
  async #pull(left = () => false) {
    for (;;) {
      while (!this.#flows) await this.#flow();
      if (left()) return this.#leave();
      const gap = this.#chunks.takeGap();
      const chunk = gap === null ? this.#chunks.take() : null;
      if (chunk !== null) return chunk;
      if (gap !== null) await this.#tell(this.#callbacks.gap(gap));
      else if (!(await this.#fetch(() => this.#chunks.fill()))) return null;
    }
  }

  /** What came for a loop that is gone is the next one's. */
  #leave() {
    if (!this.#readers.busy) this.#chunks.pause();
    return null;
  }

  /** Waits for output; what it gives is falsy at the end. An abort wins over whatever became of it. */
  async #fetch(receive) {
    let more = null;
    try {
      more = await receive();
      return more;
    } finally {
      if (this.#released) this.#chunks.pause();
      if (!this.#flows) await this.#flow();
      if (!more) this.#control.ended();
    }
  }

  /** Resolves when output may be delivered. */
  async #flow() {
    while (this.#handover) await this.#handover;
    if (!this.#aborting) return;
    await this.#aborting;
    throw this.#plan.signal.reason;
  }

  /** A callback that throws ends the command. */
  async #tell(told) {
    try {
      await told;
    } catch (error) {
      await this.#control.stop();
      throw error;
    }
  }

  /** Gives the callbacks all output. Whether they got it; if not, `aborting`, their fault or the end says why. */
  async serve() {
    try {
      for (let chunk; (chunk = await this.#pull()) !== null;) await this.#tell(this.#callbacks.take(chunk));
      return true;
    } catch {
      return false;
    }
  }

  /**
   * To be called before the native side is asked for the result, which takes what nobody claims. A loop that runs, or a
   * reader that starts in the same turn of the program, still gets all output.
   */
  async settle() {
    await undefined;
    if (this.#released) return;
    if (this.#readers.busy) await this.#chunks.claim();
    if (this.#streams) await new Promise(setImmediate);
  }

  /** The signal was aborted; `stopped` is the end of the command. @param {Promise<void>} stopped */
  abort(stopped) {
    this.#aborting = stopped;
    this.#flows = false;
  }

  /** Delivers nothing before `done` is settled, so that positions stay what they are. @param {Promise<any>} done */
  async hold(done) {
    const handover = Promise.allSettled([this.#handover, done]);
    this.#handover = handover;
    this.#flows = false;
    await handover;
    if (this.#handover !== handover) return;
    this.#handover = null;
    this.#flows = this.#aborting === null;
  }

  /** From now on the end counts: nothing is held back for a reader or a callback that may never be done. */
  release() {
    this.#released = true;
    this.#callbacks.interrupt();
    this.#chunks.pause();
  }

  /** Nobody takes more. */
  close() {
    this.#closed = true;
    this.#callbacks.interrupt();
    this.#chunks.close();
    this.#streams?.close();
  }

  /** First byte of a stream that was not delivered yet. @param {0 | 1} kind */
  position(kind) {
    if (this.#streams) return this.#streams.position(kind);
    const taken = this.#chunks.position(kind);
    return taken ?? (kind === 0 ? this.#native.lastStdoutOffset : this.#native.lastStderrOffset);
  }
}

module.exports = { Output };
