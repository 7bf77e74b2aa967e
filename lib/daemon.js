"use strict";
// A server process that lives and dies with this program. It watches its stdin: when the parent ends, in whatever way,
// the kernel closes the pipe. Nothing of it keeps the parent's event loop alive.

const { spawn } = require("node:child_process");
const { accessSync, chmodSync, constants } = require("node:fs");
const { classes } = require("./errors.js");

const TAIL_CHARS = 16 * 1024;
const STOP_DEADLINE_MS = 10_000;

/** Secrets of the parent's environment are none of the server's business. */
const PASSED_ON = /^(PATH|HOME|USER|LOGNAME|TMPDIR|LANG|LC_\w+|XDG_RUNTIME_DIR|RUST_BACKTRACE|SANDWIRE\w*)$/;

const ignore = () => {};

/** Package managers have lost the executable bit of bundled binaries; it is put back. */
function makeExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
  } catch (cause) {
    if (/** @type {any} */ (cause).code !== "EACCES") return;
    repair(path);
  }
}

function repair(path) {
  const command = `chmod +x '${path}'`;
  try {
    chmodSync(path, 0o755);
  } catch (cause) {
    const message = `${path} is not executable; run: ${command}`;
    throw new classes.SandboxClientError(message, { cause, phase: "start", remedy: command });
  }
}

class Daemon {
  #child;
  #tail = "";
  #expected = false;
  /** @type {Promise<void>} */
  #exited;

  /** @param {string} path @param {string[]} args @param {Record<string, string>} secrets variables that only it gets */
  constructor(path, args, secrets) {
    const inherited = Object.entries(process.env).filter(([name]) => PASSED_ON.test(name));
    // A session of its own: an interrupt typed at the terminal is for the program, which may still need its sandboxes.
    this.#child = spawn(path, args, {
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
      env: { ...Object.fromEntries(inherited), ...secrets },
    });
    this.#child.stdin.on("error", ignore);
    this.#child.stderr.setEncoding("utf8").on("data", (text) => (this.#tail = (this.#tail + text).slice(-TAIL_CHARS)));
    this.#exited = new Promise((resolve) => {
      this.#child.once("exit", () => resolve());
      this.#child.once("error", () => resolve());
    });
  }

  get pid() {
    return this.#child.pid;
  }

  /** The end of what it logged. */
  get log() {
    return this.#tail.trim();
  }

  /**
   * The first line of its stdout, or why there is none.
   * @param {number} timeoutMs @param {AbortSignal | null} signal
   * @returns {Promise<{ line?: string, ended?: string, error?: Error, late?: boolean, aborted?: boolean }>}
   */
  async firstLine(timeoutMs, signal) {
    const { stdout } = this.#child;
    let release = ignore;
    try {
      return await new Promise((resolve) => {
        let text = "";
        const onAbort = () => resolve({ aborted: true });
        const timer = setTimeout(() => resolve({ late: true }), timeoutMs);
        stdout.setEncoding("utf8").on("data", (more) => {
          text = (text + more).slice(0, TAIL_CHARS);
          if (text.includes("\n")) resolve({ line: text.split("\n")[0] });
        });
        this.#child.once("error", (error) => resolve({ error }));
        this.#child.once("close", (code, name) => resolve({ ended: name ?? `exit code ${code}` }));
        signal?.addEventListener("abort", onAbort, { once: true });
        release = () => {
          clearTimeout(timer);
          signal?.removeEventListener("abort", onAbort);
        };
      });
    } finally {
      release();
      stdout.removeAllListeners("data");
      stdout.resume();
    }
  }

  /** From here on it runs by itself: only its unexpected end is told. */
  release() {
    this.#child.unref();
    for (const pipe of [this.#child.stdin, this.#child.stdout, this.#child.stderr]) {
      /** @type {import("node:net").Socket} */ (pipe).unref();
    }
    this.#child.once("exit", (code, signal) => {
      if (this.#expected) return;
      const message = `the local server (pid ${this.pid}) ended unexpectedly: ${signal ?? `exit code ${code}`}`;
      process.emitWarning(`${message}\n${this.log}`.trim(), "SandwireWarning");
    });
  }

  /** Asks it to end, and makes sure. */
  async stop() {
    this.#expected = true;
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.ref();
      this.#child.kill("SIGTERM");
      const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_DEADLINE_MS);
      await this.#exited;
      clearTimeout(timer);
    }
    for (const pipe of [this.#child.stdin, this.#child.stdout, this.#child.stderr]) pipe.destroy();
  }
}

module.exports = { Daemon, makeExecutable };
