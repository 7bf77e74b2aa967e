"use strict";
// An AbortSignal becomes a native cancel token: the Rust future stops, instead of being abandoned, and no listener stays
// on the signal.

const { fromNative } = require("./failure.js");
const { binding } = require("./load.js");

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
  const onAbort = () => cancel.cancel();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await call(cancel);
  } catch (error) {
    throw fromNative(error);
  } finally {
    signal?.removeEventListener("abort", onAbort);
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
 * Calls `onAbort(owner)` when the signal aborts, or at once. The signal keeps no dropped owner alive.
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
  const release = () => signal.removeEventListener("abort", listener);
  if (signal.aborted) onAbort(owner);
  else signal.addEventListener("abort", listener, { once: true });
  dropped.register(owner, release, owner);
  return () => {
    release();
    dropped.unregister(owner);
  };
}

module.exports = { cancellable, withSignal, isAbortOf, whenAborted };
