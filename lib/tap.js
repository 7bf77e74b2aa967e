"use strict";
// Where output leaves the native side. A tap serves one kind of reader: loops and callbacks take both streams, a web
// stream takes its own and leaves the other.

const { classes } = require("./errors.js");
const { fromNative } = require("./failure.js");

const STREAMS = ["stdout", "stderr"];

/** Members of one item in a batch: `[tag, data, offset]`, or `[tag, to, from]` of a gap, whose tag is negative. */
const STRIDE = 3;

/** The gap that begins at `at`, one with those that continue it; and where the batch goes on. */
function gapAt(batch, at) {
  const gap = { stream: STREAMS[-1 - batch[at]], from: batch[at + 2], to: batch[at + 1] };
  let next = at + STRIDE;
  while (batch[next] === batch[at] && batch[next + 2] === gap.to) {
    gap.to = batch[next + 1];
    next += STRIDE;
  }
  return { gap, next };
}

class Tap {
  #native;
  #only;
  #closed = false;
  #over = false;
  /** @type {{ error: unknown } | null} what the command failed with: who asks again is told again */
  #failure = null;

  /** @param {any} native the native command @param {0 | 1 | null} only one stream, or both */
  constructor(native, only = null) {
    this.#native = native;
    this.#only = only;
  }

  get over() {
    return this.#over;
  }

  /** Asks for a batch; to be given to `receive`. */
  ask() {
    return this.#native.nextBatch(this.#only);
  }

  /** @param {Promise<any[] | null>} [asked] @returns {Promise<any[] | null>} `null` at the end */
  async receive(asked) {
    if (this.#closed) throw closed();
    if (this.#failure) throw this.#failure.error;
    if (this.#over) return null;
    try {
      const batch = await (asked ?? this.ask());
      if (this.#closed) throw closed();
      this.#over = batch === null;
      return batch;
    } catch (error) {
      this.#over = true;
      this.#failure = { error: fromNative(error) };
      throw this.#failure.error;
    }
  }

  /** Whoever asks later fails, unless everything was delivered. */
  close() {
    this.#closed = !this.#over;
  }
}

/** The same as the native side tells a call that waits while the handle is closed. */
const closed = () => new classes.SandboxClientError("the handle was closed before the command ended");

module.exports = { Tap, STREAMS, STRIDE, gapAt };
