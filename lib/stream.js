"use strict";
// Output on its way from native batches to `for await`. One crossing of the language boundary brings many chunks as one
// flat array `[kind, data, offset, kind, ...]`; chunk objects are made here, one at a time, as the loop takes them.

const { classes } = require("./errors.js");
const { fromNative } = require("./failure.js");

const STRIDE = 3;
const STREAMS = ["stdout", "stderr"];
const NOTHING = [];
const ignore = () => {};

/** The chunks of one command. It outlives the loops over them: what a loop leaves, the next one takes. */
class Chunks {
  #native;
  #batch = NOTHING;
  #next = 0;
  #over = false;
  #closed = false;
  #filling = false;
  /** @type {Promise<any[] | null> | null} */
  #prefetched = null;
  #last = { stdout: null, stderr: null };

  /** @param {any} native the native command */
  constructor(native) {
    this.#native = native;
  }

  /** The next chunk that is here already, or `null`. */
  take() {
    const at = this.#next;
    if (at >= this.#batch.length) return null;
    this.#next = at + STRIDE;
    const stream = STREAMS[this.#batch[at]];
    const chunk = { stream, data: this.#batch[at + 1], offset: this.#batch[at + 2] };
    this.#last[stream] = chunk;
    return chunk;
  }

  /** Waits for more; `false` at the end. Never called while another call waits. */
  async fill() {
    if (this.#closed) throw closed();
    if (this.#over) return false;
    const pending = this.#prefetched ?? this.#native.nextBatch();
    this.#prefetched = null;
    this.#filling = true;
    try {
      const batch = await pending;
      if (this.#closed) throw closed();
      this.#over = batch === null;
      this.#batch = batch ?? NOTHING;
    } catch (error) {
      this.#over = true;
      throw fromNative(error);
    } finally {
      this.#filling = false;
    }
    this.#next = 0;
    // Only what resolves at once: a promise that waits for output would keep the program alive after its loop ended.
    if (!this.#over && this.#native.ready) this.#prefetch();
    return !this.#over;
  }

  #prefetch() {
    this.#prefetched = this.#native.nextBatch();
    this.#prefetched.catch(ignore);
  }

  /**
   * Tells the native side that a loop is on its way, so that a waiting result leaves the loop its output. Resolves when
   * what is there already was fetched.
   */
  async claim() {
    if (this.#over || this.#filling) return;
    const ready = this.#native.ready;
    if (!this.#prefetched) this.#prefetch();
    if (ready) await this.#prefetched?.catch(ignore);
  }

  /** Nobody takes output for now: the native side need not hold it back. A fetch that is under way takes hold once more. */
  pause() {
    this.#native.pause();
    const ahead = this.#prefetched;
    ahead?.then(() => ahead === this.#prefetched && this.#native.pause()).catch(ignore);
  }

  /** Nobody takes more: later loops fail, unless everything was delivered. */
  close() {
    this.#closed = !this.#over;
    this.#batch = NOTHING;
  }

  /** First byte of a stream that no loop has taken yet; `null` if none has taken any. */
  taken(stream) {
    const chunk = this.#last[stream];
    return chunk && chunk.offset + Buffer.byteLength(chunk.data);
  }
}

/** The same as the native side tells a call that waits while the handle is closed. */
const closed = () => new classes.SandboxClientError("the handle was closed before the command ended");

/** Lets one loop at a time take chunks. */
class Turns {
  /** @type {object | null} */
  #running = null;

  get busy() {
    return this.#running !== null;
  }

  /** @param {object} loop @returns {boolean} whether it is this loop's turn */
  enter(loop) {
    this.#running ??= loop;
    return this.#running === loop;
  }

  /** @param {object} loop */
  leave(loop) {
    if (this.#running === loop) this.#running = null;
  }
}

/**
 * One loop over a command's output: an async iterator by hand, because a generator costs twice as much per chunk.
 * Concurrent calls of `next()` are answered in order.
 */
class ChunkLoop {
  #port;
  #over = false;
  #waiting = 0;
  /** @type {Promise<void>} */
  #tail = Promise.resolve();

  /**
   * @param {{ turns: Turns, refuse(): never, take(): object | null, pull(): Promise<object | null>, left(): void }} port
   */
  constructor(port) {
    this.#port = port;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  next() {
    if (!this.#over && this.#waiting === 0 && this.#port.turns.enter(this)) {
      const chunk = this.#port.take();
      if (chunk !== null) return Promise.resolve({ value: chunk, done: false });
    }
    const previous = this.#tail;
    let passOn = ignore;
    // Not a reaction to the promise that the caller gets: V8 follows a promise to the caller's line only if it has one.
    this.#tail = new Promise((resolve) => (passOn = () => resolve(undefined)));
    return this.#slow(previous, passOn);
  }

  async #slow(previous, passOn) {
    this.#waiting += 1;
    await previous;
    try {
      const chunk = this.#over ? null : await this.#pull();
      if (chunk !== null) return { value: chunk, done: false };
      this.#end();
      return { value: undefined, done: true };
    } catch (error) {
      this.#end();
      throw error;
    } finally {
      this.#waiting -= 1;
      passOn();
    }
  }

  #pull() {
    return this.#port.turns.enter(this) ? this.#port.pull() : this.#port.refuse();
  }

  #end() {
    this.#over = true;
    this.#port.turns.leave(this);
  }

  /** `break`: what was fetched stays for the next loop. */
  async return() {
    const early = !this.#over;
    this.#end();
    if (early) this.#port.left();
    return { value: undefined, done: true };
  }
}

module.exports = { Chunks, ChunkLoop, Turns };
