// A native command that is played step by step, and handles on it.

import { createRequire } from "node:module";

import type { CommandHandle } from "../../index.mjs";

const require = createRequire(import.meta.url);
const { CommandHandle: Handle } = require("../../lib/command.js");

export const RESULT = {
  exitCode: 0,
  outcome: "exited",
  signal: null,
  durationMs: 5,
  stdout: "all",
  stderr: "",
  stdoutBytes: 3,
  stderrBytes: 0,
  stdoutTruncated: false,
  stderrTruncated: false,
  gaps: "[]",
};

type Step = any[] | null | Error;

/** Stands for the native command: batches are given by hand. */
export class Played {
  commandId = "c1";
  pid = 3;
  lastStdoutOffset = 40;
  lastStderrOffset = 50;
  ready = false;
  /** Whether output that nobody takes is no longer held back. */
  paused = true;
  fetched = 0;
  calls: string[] = [];
  outcome: object | Error = RESULT;
  /** When the command ends. */
  over: Promise<void> = Promise.resolve();
  /** What waits for who takes all, and for who takes one stream. */
  #queues: Record<string, Step[]> = { null: [], 0: [], 1: [] };
  #waiting: Array<() => void> = [];

  push(...batches: Step[]): this {
    return this.pushTo(null, ...batches);
  }

  pushTo(only: 0 | 1 | null, ...batches: Step[]): this {
    this.#queues[String(only)]?.push(...batches);
    for (const wake of this.#waiting.splice(0)) wake();
    return this;
  }

  async nextBatch(only: 0 | 1 | null): Promise<any[] | null> {
    const queue = this.#queues[String(only)] ?? [];
    this.fetched += 1;
    this.paused = false;
    while (queue.length === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.paused = false;
    const batch = queue.shift();
    if (batch instanceof Error) throw batch;
    return batch ?? null;
  }

  setRaw(raw: boolean): void {
    this.calls.push(`raw ${raw}`);
  }

  discard(kind: 0 | 1): void {
    this.calls.push(`discard ${kind}`);
  }

  async result(): Promise<object> {
    this.calls.push("result");
    await this.over;
    if (this.outcome instanceof Error) throw this.outcome;
    return this.outcome;
  }

  async kill(): Promise<boolean> {
    this.calls.push("kill");
    this.#over();
    return true;
  }

  async signal(name: string): Promise<boolean> {
    this.calls.push(name);
    return true;
  }

  async resize(cols: number, rows: number): Promise<boolean> {
    this.calls.push(`resize ${cols}x${rows}`);
    return true;
  }

  async sendInput(data: Buffer): Promise<boolean> {
    this.calls.push(`input ${data}`);
    return true;
  }

  async closeInput(): Promise<boolean> {
    this.calls.push("closeInput");
    return true;
  }

  pause(): void {
    this.paused = true;
  }

  detach(): void {
    this.calls.push("detach");
    this.#over();
  }

  #over(): void {
    for (const only of [null, 0, 1] as const) this.pushTo(only, null);
  }
}

const PLAN = {
  signal: null,
  onStdout: null,
  onStderr: null,
  onGap: null,
  callbacks: false,
  raw: false,
  reject: true,
  killOnBreak: false,
  from: [0, 0],
  receive: {},
};

type Attach = (plan: any) => Promise<CommandHandle>;
const nowhere: Attach = () => Promise.reject(new Error("nowhere to attach to"));

export function handleOf(native: Played, plan: object = {}, attach = nowhere): CommandHandle {
  return new Handle(native, { ...PLAN, ...plan }, attach);
}

/** Lets everything run that is ready. */
export const turn = () => new Promise((resolve) => setImmediate(resolve));

export async function texts(handle: AsyncIterable<{ data: unknown }>): Promise<unknown[]> {
  const all = [];
  for await (const chunk of handle) all.push(chunk.data);
  return all;
}

/** As the native side rejects; `result` is what a started command had delivered. */
export const failure = (code: string, message: string, details: object = {}, result?: object) =>
  Object.assign(new Error(message), { code, retryable: true, details: JSON.stringify(details), result });
