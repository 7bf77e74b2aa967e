"use strict";
// Output on its way from native batches to loops and callbacks. One crossing of the language boundary brings many chunks
// as one flat array; chunk objects are made here, one at a time, as they are taken.

const { STREAMS, STRIDE, Tap, gapAt } = require("./tap.js");

const NOTHING = [];
const ignore = () => {};

/** The chunks of one command. It outlives the loops over them: what a loop leaves, the next one takes. */
class Chunks {
  #native;
  #tap;
  #batch = NOTHING;
  #next = 0;
  #asked = false;
  /** @type {Promise<boolean> | null} the wait for more */
  #filling = null;
  /** @type {Promise<any[] | null> | null} */
  #prefetched = null;
  /** The last text of each stream, and where it begins: its size in bytes is counted when somebody asks. */
  #text = ["", ""];
  #base;

  /** @param {any} native the native command @param {number[]} from first bytes of stdout and stderr */
  constructor(native, from) {
    this.#native = native;
    this.#tap = new Tap(native);
    this.#base = [...from];
  }

  /** The next chunk that is here already; `null` where there is none or where a gap comes first. */
  take() {
    const at = this.#next;
    if (at >= this.#batch.length) return null;
    const tag = this.#batch[at];
    if (tag < 0) return null;
    this.#next = at + STRIDE;
    const kind = tag & 1;
    const data = this.#batch[at + 1];
    const offset = this.#batch[at + 2];
    const text = typeof data === "string";
    this.#text[kind] = text ? data : "";
    // U+FFFD may be longer than what it stands for; the tag says by how much.
    this.#base[kind] = text ? offset - (tag >> 1) : offset + data.length;
    return { stream: STREAMS[kind], data, offset };
  }

  /** The gap that comes next, or `null`. */
  takeGap() {
    const at = this.#next;
    if (at >= this.#batch.length || this.#batch[at] >= 0) return null;
    const kind = -1 - this.#batch[at];
    const { gap, next } = gapAt(this.#batch, at);
    this.#next = next;
    this.#text[kind] = "";
    this.#base[kind] = gap.to;
    return gap;
  }

  /** Waits for more; `false` at the end. Who asks while another call waits gets what that one gets. */
  fill() {
    return (this.#filling ??= this.#fill());
  }

  async #fill() {
    const asked = this.#prefetched ?? undefined;
    this.#prefetched = null;
    this.#asked = true;
    try {
      this.#batch = (await this.#tap.receive(asked)) ?? NOTHING;
    } finally {
      this.#filling = null;
    }
    this.#next = 0;
    // Only what resolves at once: a promise that waits for output would keep the program alive after its loop ended.
    if (!this.#tap.over && this.#native.ready) this.#prefetch();
    return !this.#tap.over;
  }

  #prefetch() {
    this.#asked = true;
    this.#prefetched = this.#tap.ask();
    this.#prefetched.catch(ignore);
  }

  /**
   * Tells the native side that a loop is on its way, so that a waiting result leaves the loop its output. Resolves when
   * what is there already was fetched.
   */
  async claim() {
    if (this.#tap.over || this.#filling) return;
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
    this.#tap.close();
    this.#batch = NOTHING;
  }

  /** First byte of a stream that nobody has taken yet; `null` if nobody ever asked for output. */
  position(kind) {
    return this.#asked ? this.#base[kind] + Buffer.byteLength(this.#text[kind]) : null;
  }
}

module.exports = { Chunks };
