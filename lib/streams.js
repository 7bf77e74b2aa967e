"use strict";
// A command's output as two web streams of bytes. Nothing is fetched before somebody reads, and each stream fetches for
// itself, so the one that nobody reads holds up neither the other one nor the command.

const { classes } = require("./errors.js");
const { STREAMS, STRIDE, Tap, gapAt } = require("./tap.js");

const NOTHING = [];

/** The source behind one stream. Its bytes are copies: a stream takes the memory of what it is given. */
class ByteSource {
  type = /** @type {const} */ ("bytes");
  #port;
  #kind;
  #tap;
  #batch = NOTHING;
  #next = 0;
  /** @type {Uint8Array | null} what did not fit into a reader's own buffer */
  #rest = null;
  /** First byte that was not taken out of batches yet. It moves with what is taken: nothing may come in between. */
  #fetched;
  #over = false;

  /** @param {any} native the native command @param {any} kind 0 or 1 @param {number} from its first byte @param {Port} port */
  constructor(native, kind, from, port) {
    this.#port = port;
    this.#kind = kind;
    this.#tap = new Tap(native, kind);
    this.#fetched = from;
  }

  /** First byte that was not delivered yet. */
  get position() {
    return this.#fetched - (this.#rest?.length ?? 0);
  }

  /** What it throws ends the stream. @param {ReadableByteStreamController} controller */
  async pull(controller) {
    const bytes = await this.#read().catch((error) => this.#fail(error));
    if (this.#over) return;
    if (bytes === null) return finish(controller);
    const request = controller.byobRequest;
    const asked = Boolean(request?.view);
    this.#rest = asked ? answer(request, bytes) : null;
    if (!asked) controller.enqueue(bytes);
  }

  /** Nobody reads on: nothing is held back for this stream any more. */
  cancel() {
    this.#over = true;
    this.#batch = NOTHING;
    this.#port.discard(this.#kind);
  }

  #fail(error) {
    if (!this.#over) this.cancel();
    throw error;
  }

  close() {
    this.#tap.close();
    this.#batch = NOTHING;
  }

  /** All that is here already, else what comes next; `null` at the end. */
  async #read() {
    while (!this.#over) {
      const held = this.#port.held();
      const gap = held ? null : this.#gap();
      if (held) await held;
      else if (this.#rest) return this.#rest;
      else if (gap) await this.#skip(gap);
      else if (this.#next < this.#batch.length) return this.#gather();
      else if (!(await this.#fill())) return null;
    }
    return null;
  }

  async #fill() {
    const batch = await this.#port.fetch(() => this.#tap.receive());
    this.#batch = batch ?? NOTHING;
    this.#next = 0;
    return batch !== null;
  }

  /** Takes the gap that comes next: one that the native side tells, or a jump. `null` if there is none. */
  #gap() {
    const at = this.#next;
    if (at >= this.#batch.length) return null;
    if (this.#batch[at] < 0) {
      const { gap, next } = gapAt(this.#batch, at);
      this.#next = next;
      return gap;
    }
    const to = this.#batch[at + 2];
    return to > this.#fetched ? { stream: STREAMS[this.#kind], from: this.#fetched, to } : null;
  }

  async #skip(gap) {
    const told = this.#port.gap(gap);
    if (told === null) throw lost(gap);
    await told;
    this.#fetched = gap.to;
  }

  /** The chunks up to the next gap as one, in memory of its own. */
  #gather() {
    const pieces = [];
    let size = 0;
    do {
      const piece = this.#batch[this.#next + 1];
      pieces.push(piece);
      size += piece.length;
      this.#next += STRIDE;
    } while (this.#batch[this.#next] >= 0 && this.#batch[this.#next + 2] === this.#fetched + size);
    this.#fetched += size;
    const bytes = new Uint8Array(Buffer.allocUnsafeSlow(size).buffer);
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }
}

/** Fills a reader's own buffer; returns what is left. */
function answer(request, bytes) {
  const { buffer, byteOffset, byteLength } = request.view;
  const fitting = bytes.subarray(0, byteLength);
  new Uint8Array(buffer, byteOffset, byteLength).set(fitting);
  request.respond(fitting.length);
  return fitting.length < bytes.length ? bytes.subarray(fitting.length) : null;
}

function finish(controller) {
  controller.close();
  // A reader that waits with a buffer of its own gets it back.
  controller.byobRequest?.respond(0);
}

/** A stream of bytes has no place for a gap: without `onGap` nobody would hear of it. */
function lost({ stream, from, to }) {
  const message = `bytes ${from} to ${to} of ${stream} are lost; pass \`onGap\` to be told and to read on`;
  return new classes.SandboxOperationError(message, { operation: "command", errorType: "OutputLost" });
}

/**
 * @typedef {object} Port
 * @property {() => Promise<void> | null} held what to wait for before output may be delivered
 * @property {(receive: () => Promise<any[] | null>) => Promise<any[] | null>} fetch
 * @property {(gap: object) => Promise<void> | null} gap `null` where nobody wants to be told
 * @property {(kind: 0 | 1) => void} discard
 */

/** Both streams of a command, made when they are first asked for. */
class ByteStreams {
  #sources;
  /** @type {Array<ReadableStream | null>} */
  #streams = [null, null];

  /** @param {any} native the native command @param {number[]} from first bytes @param {Port} port */
  constructor(native, from, port) {
    this.#sources = from.map((position, kind) => new ByteSource(native, kind, position, port));
  }

  /** @param {0 | 1} kind */
  get(kind) {
    return (this.#streams[kind] ??= new ReadableStream(this.#sources[kind]));
  }

  position(kind) {
    return this.#sources[kind].position;
  }

  close() {
    for (const source of this.#sources) source.close();
  }
}

module.exports = { ByteStreams };
