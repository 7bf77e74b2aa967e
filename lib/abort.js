"use strict";
// An AbortSignal becomes a native cancel token: the Rust future stops, instead of being abandoned, and no listener stays
// on the signal.

const { fromNative } = require("./failure.js");
const { binding } = require("./load.js");

/** @type {WeakMap<AbortSignal, { all: Set<() => void>, onAbort: () => void }>} who listens to each signal */
const audiences = new WeakMap();

/**
 * One listener serves all calls that share a signal, an agent's for example: from the 11th on Node warns of a leak.
 * @param {AbortSignal} signal
 * @param {() => void} heard
 * @returns {() => void} ends the listening
 */
function listen(signal, heard) {
  const { all, onAbort } = audiences.get(signal) ?? gather(signal);
  all.add(heard);
  return () => {
    if (!all.delete(heard) || all.size > 0) return;
    signal.removeEventListener("abort", onAbort);
    audiences.delete(signal);
  };
}

function gather(signal) {
  const all = new Set();
  const audience = { all, onAbort: () => all.forEach((heard) => heard()) };
  signal.addEventListener("abort", audience.onAbort, { once: true });
  audiences.set(signal, audience);
  return audience;
}

/**
 * Awaits `call(cancel)`. An aborted call rejects with an error of code `ABORTED`.
 * @template T
 * @param {AbortSignal | null} signal
 * @param {(cancel: any) => Promise<T>} call
 * @returns {Promise<T>}
 */
async function cancellable(signal, call) {
  signal?.throwIfAborted();
  const cancel = signal ? new (binding().Cancel)() : null;
  const release = signal && listen(signal, () => cancel.cancel());
  try {
    return await call(cancel);
  } catch (error) {
    throw fromNative(error);
  } finally {
    release?.();
  }
}

/**
 * The same, but an aborted call rejects with the signal's reason.
 * @template T
 * @param {AbortSignal | null} signal
 * @param {(cancel: any) => Promise<T>} call
 * @returns {Promise<T>}
 */
async function withSignal(signal, call) {
  try {
    return await cancellable(signal, call);
  } catch (error) {
    throw isAbortOf(signal, error) ? signal.reason : error;
  }
}

/** Whether `error` is what became of a call because `signal` was aborted. */
const isAbortOf = (signal, error) => signal?.aborted === true && error?.code === "ABORTED";

/** An object that is dropped while it listens must leave no listener behind. */
const dropped = new FinalizationRegistry((/** @type {() => void} */ release) => release());

/**
 * Calls `onAbort(owner)` when the signal aborts, or at once. The signal keeps no dropped owner alive: no closure in here
 * has the owner, and `onAbort` must not have it either, so it is none that a method of the owner makes.
 * @template {object} T
 * @param {AbortSignal | null} signal
 * @param {T} owner
 * @param {(owner: T) => void} onAbort
 * @returns {() => void} ends the listening
 */
function whenAborted(signal, owner, onAbort) {
  if (!signal) return () => {};
  const weak = new WeakRef(owner);
  const listener = () => {
    const alive = weak.deref();
    if (alive) onAbort(alive);
  };
  if (signal.aborted) {
    onAbort(owner);
    return () => {};
  }
  const release = listen(signal, listener);
  dropped.register(owner, release, release);
  return () => {
    release();
    dropped.unregister(release);
  };
}

module.exports = { cancellable, withSignal, isAbortOf, whenAborted };
