"use strict";
// Who may take a command's output. There is one way for all of it (loops one after another, or callbacks, or the two web
// streams), because what one reader took the other would miss without a word.

const { classes } = require("./errors.js");

const WAYS = {
  loops: "is looped over",
  callbacks: "goes to its callbacks",
  streams: "is read through `stdout` and `stderr`",
};

class Readers {
  #commandId;
  /** @type {keyof typeof WAYS | null} */
  #way = null;
  /** @type {object | null} */
  #loop = null;

  /** @param {string} commandId for messages */
  constructor(commandId) {
    this.#commandId = commandId;
  }

  /** Whether a loop runs. */
  get busy() {
    return this.#loop !== null;
  }

  /** @param {keyof typeof WAYS} way */
  claim(way) {
    this.#way ??= way;
    if (this.#way !== way) throw this.refusal();
  }

  /** @param {object} loop @returns {boolean} whether it is this loop's turn */
  enter(loop) {
    if (this.#loop === loop) return true;
    if (this.#loop !== null || (this.#way ?? "loops") !== "loops") return false;
    this.#way = "loops";
    this.#loop = loop;
    return true;
  }

  /** @param {object} loop @returns {boolean} whether it was this loop's turn */
  leave(loop) {
    if (this.#loop !== loop) return false;
    this.#loop = null;
    return true;
  }

  /** Why a loop's turn it is not, or why there is no other way. */
  refusal() {
    const id = this.#commandId;
    const message = this.busy
      ? `command ${id} is being iterated already; leave that loop before you take its output in another way`
      : `the output of command ${id} ${WAYS[this.#way ?? "loops"]}; it can't be taken in another way as well`;
    return new classes.SandboxClientError(message);
  }
}

module.exports = { Readers };
