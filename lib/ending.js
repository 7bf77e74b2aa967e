"use strict";
// What becomes of a command that is over: a result, or an error that carries what was delivered.

const { fromNative } = require("./failure.js");
const { ExecutionResult, settleFailure } = require("./result.js");

/** @typedef {{ result?: any, error?: unknown }} Ending a native result, or what the command failed with */

/**
 * @param {() => Promise<any>} wait
 * @param {(error: unknown) => unknown} [stamp] puts the caller's line into an error of ours; others keep their own line
 * @returns {Promise<Ending>}
 */
async function ending(wait, stamp = (error) => error) {
  try {
    return { result: await wait() };
  } catch (error) {
    return { error: stamp(fromNative(error)) };
  }
}

/**
 * @param {Ending} ending
 * @param {any} plan how the command is received
 * @param {object} reception
 * @param {import("./callbacks.js").Callbacks} reception.callbacks
 * @param {boolean} reception.aborted whether the signal ended it
 * @param {boolean} [reception.busy] whether a reader is left that comes across the gaps
 */
async function conclude({ result, error }, plan, { callbacks, aborted, busy = false }) {
  const whole = result && ExecutionResult.fromNative(result, plan);
  const partial = whole ?? ExecutionResult.ofFailure(error, plan);
  if (partial && plan.onGap && !busy) await callbacks.missed(partial.gaps);
  if (callbacks.fault) throw callbacks.fault.error;
  if (!aborted) return whole ?? settleFailure(error, partial, plan);
  if (plan.reject || partial === undefined) throw plan.signal.reason;
  return partial.withOutcome("aborted");
}

module.exports = { ending, conclude };
