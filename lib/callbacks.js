"use strict";
// The callbacks of `run`: one piece of output at a time, and the next one only when the promise for this one is settled.

const ignore = () => {};

class Callbacks {
  #plan;
  #interrupted = false;
  #release = ignore;
  /** @type {{ error: unknown } | null} what a callback threw: nobody is left who wants the output */
  fault = null;

  /** @param {{ onStdout: Function | null, onStderr: Function | null }} plan */
  constructor(plan) {
    this.#plan = plan;
  }

  /** @param {{ stream: string, data: unknown }} chunk */
  async take({ stream, data }) {
    const callback = stream === "stdout" ? this.#plan.onStdout : this.#plan.onStderr;
    try {
      const pending = callback?.(data);
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
