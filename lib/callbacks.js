"use strict";
// The callbacks of a command: one piece of output or one gap at a time, and the next one only when the promise for this
// one is settled. What one of them throws is kept: it is what `result` rejects with.

const ignore = () => {};

class Callbacks {
  #plan;
  /** @type {Array<{ stream: string, from: number, to: number }>} the gaps that were told; adjoining ones are one */
  #told = [];
  #interrupted = false;
  #release = ignore;
  /** @type {{ error: unknown } | null} what a callback threw: nobody is left who wants the output */
  fault = null;

  /** @param {{ onStdout: Function | null, onStderr: Function | null, onGap: Function | null }} plan */
  constructor(plan) {
    this.#plan = plan;
  }

  /** @param {{ stream: string, data: unknown }} chunk */
  async take({ stream, data }) {
    const callback = stream === "stdout" ? this.#plan.onStdout : this.#plan.onStderr;
    if (callback) await this.#call(callback, data);
  }

  /** Tells a gap, once. @param {{ stream: string, from: number, to: number }} gap */
  async gap(gap) {
    if (this.#plan.onGap && this.#isNews(gap)) await this.#call(this.#plan.onGap, gap);
  }

  /** Readers and the result cut adjoining gaps in different ways. */
  #isNews({ stream, from, to }) {
    const told = this.#told.findLast((gap) => gap.stream === stream && gap.from <= from && from <= gap.to);
    if (told && to <= told.to) return false;
    if (told) told.to = to;
    else this.#told.push({ stream, from, to });
    return true;
  }

  /** Tells the gaps that no reader came across; `fault` has what is thrown. */
  async missed(gaps) {
    try {
      for (const gap of gaps) await this.gap(gap);
    } catch {
      // See `fault`.
    }
  }

  async #call(callback, value) {
    try {
      const pending = callback(value);
      if (typeof pending?.then === "function") await this.#orInterrupted(pending);
    } catch (error) {
      this.fault ??= { error };
      throw error;
    }
  }

  /** A promise of each wait's own: a race against one that lives as long as the command would grow with every piece. */
  #orInterrupted(pending) {
    return new Promise((resolve, reject) => {
      this.#release = () => resolve(undefined);
      if (this.#interrupted) this.#release();
      Promise.resolve(pending).then(resolve, reject);
    });
  }

  /** The command was ended: nobody waits for a callback any more. */
  interrupt() {
    this.#interrupted = true;
    this.#release();
  }
}

module.exports = { Callbacks };
