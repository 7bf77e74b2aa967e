"use strict";
// One loop over a command's output: an async iterator by hand, because a generator costs twice as much per chunk.

const ignore = () => {};

/** Concurrent calls of `next()` are answered in order. */
class ChunkLoop {
  #port;
  #over = false;
  #waiting = 0;
  /** @type {Promise<void>} */
  #tail = Promise.resolve();

  /**
   * @param {{
   *   readers: import("./readers.js").Readers,
   *   take(): object | null,
   *   pull(left: () => boolean): Promise<object | null>,
   *   left(): void,
   * }} port
   */
  constructor(port) {
    this.#port = port;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  next() {
    if (!this.#over && this.#waiting === 0 && this.#port.readers.enter(this)) {
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
    const { readers, pull } = this.#port;
    if (!readers.enter(this)) throw readers.refusal();
    return pull(() => this.#over);
  }

  #end() {
    this.#over = true;
    return this.#port.readers.leave(this);
  }

  /** `break`: what was fetched stays for the next loop. */
  async return() {
    if (this.#end()) this.#port.left();
    return { value: undefined, done: true };
  }
}

module.exports = { ChunkLoop };
