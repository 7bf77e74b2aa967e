/// <reference lib="esnext.disposable" />

/**
 * Units: `timeout`, `pollInterval`, `idleTimeout` and everything that ends in `Seconds` are seconds; what ends in `Ms` is
 * milliseconds; sizes are bytes. Methods and options are camelCase, data from the wire keeps its snake_case names.
 *
 * Every call refuses unknown and mistyped options with {@link ValidationError} before it sends anything, takes a `signal`
 * whose abort rejects it with the signal's reason, and rejects with a {@link SandboxClientError} of one of the classes below.
 * Needs TypeScript 5.2 or newer.
 *
 * @packageDocumentation
 */

/** Options of every call over HTTP. */
export interface CallOptions {
  /**
   * Aborts the call; it then rejects with the signal's reason, as it is: to have what an aborted command had delivered, run
   * it with `reject: false`.
   */
  signal?: AbortSignal;
  /** Headers of this call. They win over the client's, and an explicit `X-Api-Key` wins over the key. */
  headers?: Record<string, string>;
  /** Limit of one HTTP exchange, milliseconds. Default: the client's. */
  timeoutMs?: number;
}

/** Configuration of a {@link SandboxClient}. */
export interface SandboxClientConfig {
  /**
   * URL of the sandbox API, http or https. Default: `LANGSMITH_ENDPOINT`, else `LANGCHAIN_ENDPOINT`, else the hosted
   * service; `/v2/sandboxes` is appended to a base from the environment. Trailing slashes are dropped.
   */
  apiEndpoint?: string;
  /** API key. Default: `LANGSMITH_API_KEY`, else `LANGCHAIN_API_KEY`. An empty string means none. */
  apiKey?: string;
  /** Limit of one HTTP exchange, milliseconds. Default 10,000; creates get their wait and 30 s more. */
  timeoutMs?: number;
  /** Retries of what failed for a while (connection failures, 429, 502, 503, 504). Default 3; 0 disables. */
  maxRetries?: number;
  /** Requests at once. Default `Infinity`. */
  maxConcurrency?: number;
  /** Headers of every request and WebSocket upgrade. An explicit `X-Api-Key` wins over `apiKey`. */
  headers?: Record<string, string>;
}

/** Network rules of a sandbox; hosts, globs, IPs, CIDR ranges and `~regex`. Only one of the lists may be filled. */
export interface SandboxAccessControl {
  allow_list?: string[];
  deny_list?: string[];
}

/** Proxy configuration, sent as it is. */
export interface SandboxProxyConfig {
  rules?: unknown[];
  no_proxy?: string[];
  access_control?: SandboxAccessControl;
}

/** Options of {@link SandboxClient.createSandbox}. */
export interface CreateSandboxOptions extends CallOptions {
  /** Snapshot to boot from, by name. Excludes a positional `snapshotId`. */
  snapshotName?: string;
  /** Unique name. Default: made by the server. */
  name?: string;
  /** Seconds that the server waits for readiness. Default 30. Means nothing with `waitForReady: false`. */
  timeout?: number;
  /** Whether to wait until it is ready (default), or to return at once with status `provisioning`. */
  waitForReady?: boolean;
  /** Seconds without activity until it is stopped; a multiple of 60, 0 = never. Default: the server's. */
  idleTtlSeconds?: number;
  /** Seconds from stop to deletion; a multiple of 60, 0 = never. Default: the server's. */
  deleteAfterStopSeconds?: number;
  /** Number of processors. */
  vCpus?: number;
  /** Memory limit, bytes. */
  memBytes?: number;
  /** Disk limit, bytes. */
  fsCapacityBytes?: number;
  /** Network rules. */
  proxyConfig?: SandboxProxyConfig;
}

/** Options of {@link SandboxClient.waitForSandbox}. */
export interface WaitForSandboxOptions extends CallOptions {
  /** Seconds to wait at most. Default 120. */
  timeout?: number;
  /** Seconds between two looks. Default 1. */
  pollInterval?: number;
}

/** How far a resource is. */
export interface ResourceStatus {
  /** `provisioning`, `ready`, `failed`, `stopped`. */
  status: string;
  /** Detail of a failure. */
  status_message?: string;
}

/** What a sandbox is isolated by; said by this project's server. */
export interface Isolation {
  /** Whether the server has root's rights. */
  mode: "root" | "rootless";
  /** Namespaces of its own. */
  namespaces: string[];
  /** Whether ids 0..65535 exist inside, or a single one. */
  ids: "range" | "single";
  /** Whether files of the default base belong to root inside. */
  idmapped_base: boolean;
  seccomp: boolean;
  no_new_privs: boolean;
  cgroup: "v1" | "v2" | "none";
  /** Which resource limits can be kept. */
  limits: { memory: boolean; pids: boolean; cpu: boolean };
  /** What is less than it could be, each with its remedy. */
  warnings: string[];
}

/** Data of a sandbox, as on the wire. */
export interface SandboxData {
  id?: string;
  name: string;
  dataplane_url?: string;
  status?: string;
  status_message?: string;
  created_at?: string;
  updated_at?: string;
  idle_ttl_seconds?: number;
  delete_after_stop_seconds?: number;
  stopped_at?: string;
  snapshot_id?: string;
  vcpus?: number;
  mem_bytes?: number;
  fs_capacity_bytes?: number;
  isolation?: Isolation;
}

/** Output as text, or as bytes with `output: "bytes"`. */
export type OutputData = string | Uint8Array;

/** How output is delivered; see {@link ReceiveOptions.output}. */
export type OutputMode = "text" | "bytes";

/** Bytes in memory of their own. */
export type Bytes = ReturnType<Uint8Array["slice"]>;

/** A web stream, as `new Response(...)` and as `Readable.fromWeb(...)` want it. */
export type ByteStream = ReadableStream<Bytes> & import("node:stream/web").ReadableStream<Bytes>;

/** What output is under a mode. */
export type DataOf<Output extends OutputMode> = Output extends "text" ? string : Uint8Array;

/** The mode that gives such data. */
export type ModeOf<Data extends OutputData> = Data extends string ? "text" : "bytes";

/** The result under `reject`: without errors there may be no exit code. */
export type ResultOf<Data extends OutputData, Reject extends boolean> = [Reject] extends [true]
  ? ExecutionResult<Data>
  : SettledResult<Data>;

/** The `reject` that gives such a result. */
export type RejectOf<Result> = [Result] extends [ExecutionResult<OutputData>] ? true : false;

/** What `run` resolves with: the result, or with `wait: false` a handle. */
export type RunOutcome<Output extends OutputMode, Wait extends boolean, Reject extends boolean> = Wait extends false
  ? CommandHandle<DataOf<Output>, ResultOf<DataOf<Output>, Reject>>
  : ResultOf<DataOf<Output>, Reject>;

/** A piece of a command's output. */
export interface OutputChunk<Data extends OutputData = string> {
  stream: "stdout" | "stderr";
  data: Data;
  /**
   * Position of its first byte in its stream. It jumps where output was lost. Where to go on after it is
   * {@link CommandHandle.lastStdoutOffset}: text may be longer than the bytes that it stands for (U+FFFD).
   */
  offset: number;
}

/** Output that was lost: the bytes from `from` up to `to` of a stream. */
export interface OutputGap {
  stream: "stdout" | "stderr";
  from: number;
  to: number;
}

/** How a command ended. `lost`: the connection went and did not come back, so nothing is known of the end. */
export type CommandOutcome = "exited" | "killed" | "timed_out" | "lost" | "aborted";

/** What is known of a command that may not have ended by itself; see `reject`. */
export interface SettledResult<Data extends OutputData = string> {
  /** Output. Beyond `maxOutputBytes` its first and last half are kept. Becomes a JS value when it is read. */
  readonly stdout: Data;
  readonly stderr: Data;
  /** Exit code, 128 + n after signal n; `null` where there was none to learn. */
  readonly exit_code: number | null;
  /** Whether it exited by itself with code 0. */
  readonly success: boolean;
  readonly outcome: CommandOutcome;
  /** Number of the signal that ended it, where the server says it. */
  readonly signal?: number;
  /** From the first sending of the request to the end, on this machine's clock, milliseconds. */
  readonly duration_ms: number;
  /** Size of the whole output, kept or not. */
  readonly stdout_bytes: number;
  readonly stderr_bytes: number;
  /** Whether the middle of the output was dropped. */
  readonly stdout_truncated: boolean;
  readonly stderr_truncated: boolean;
  /** Output that was lost on the way, and what the server's count of all output says is missing at its end. */
  readonly gaps: OutputGap[];
  /** Returns this result if it is a success. @throws {@link SandboxOperationError} with this result's members */
  orThrow(): this;
}

/** Result of a command that ended. */
export interface ExecutionResult<Data extends OutputData = string> extends SettledResult<Data> {
  readonly exit_code: number;
}

/** Results are `instanceof ExecutionResult`; they are made by `run` only. */
export const ExecutionResult: { readonly prototype: ExecutionResult; [Symbol.hasInstance](value: unknown): boolean };

/** How a command's output is received. */
export interface ReceiveOptions<Data extends OutputData = string> extends CallOptions {
  /**
   * `"text"` (default): strings, with U+FFFD for what is not UTF-8. `"bytes"`: `Uint8Array`, exactly what the command wrote
   * if the server is `sandwired`. Other servers send text only, so there it is the bytes of that text, U+FFFD included: let
   * the command encode binary output (`base64`), or write it to a file and `read` it.
   */
  output?: ModeOf<Data>;
  /**
   * Output kept per stream for the result, bytes. Default 256 MiB. Loops and callbacks get everything, but what a loop left
   * behind while `result` was waited for is kept up to here only; a later loop finds an {@link OutputGap} then.
   */
  maxOutputBytes?: number;
  /**
   * `false`: `run` and `result` of a command that was started and then timed out, was lost or aborted give a
   * {@link SettledResult} instead of an error. Loops and web streams fail all the same, and what a callback throws is thrown.
   * Default `true`. A non-zero exit is never an error.
   */
  reject?: boolean;
  /**
   * Called with each piece of stdout, in order, whether `wait` is `true` or `false`. A returned promise holds the next piece
   * back; the 30 seconds of {@link CommandHandle} hold for it too. If it throws, the command is killed and `run` or `result`
   * rejects with what was thrown. After `kill()`, `close()` and an abort nobody waits for a returned promise any more, and
   * its failure is nobody's. A handle whose output goes to callbacks can't be looped over as well.
   */
  onStdout?: (data: Data) => unknown;
  /** Called with each piece of stderr; otherwise like `onStdout`. */
  onStderr?: (data: Data) => unknown;
  /**
   * Called once for each {@link OutputGap}: where it comes in a loop, in callbacks or in a web stream; else before `result`
   * settles. A returned promise holds the output back, like those of `onStdout`. If it throws, the command is killed, and the loop or web stream, and
   * `run` or `result`, fail with what was thrown.
   */
  onGap?: (gap: OutputGap) => unknown;
}

/** Who runs a command, where and with what. */
export interface RunConfig {
  /** `name`, `uid`, `name:group` or `uid:gid`. The local server takes `root`, `uid` and `uid:gid` only, for now. */
  user?: string;
  /** Absolute working directory. */
  work_dir?: string;
  /** Environment on top of the sandbox's. */
  env_vars?: Record<string, string>;
}

/** Options of {@link Sandbox.run}. */
export interface RunOptions<Data extends OutputData = string> extends ReceiveOptions<Data> {
  /** Limit on the server, whole seconds. Default 60; 0 = none. */
  timeout?: number;
  /** Environment on top of the sandbox's. */
  env?: Record<string, string>;
  /** Working directory. Default `/home/user` on the local server, where relative file paths start too. */
  cwd?: string;
  /** Shell that runs the command with `-c`. Default `/bin/bash`. */
  shell?: string;
  /**
   * `true` (default): resolves with the result. `false`: resolves with a handle as soon as the command runs, for loops, web
   * streams, input and kill.
   */
  wait?: boolean;
  /** Seconds that a running command survives without a client; -1 = forever. Default 300. */
  idleTimeout?: number;
  /** Kill the command when its last client leaves; a `break` out of the loop leaves. Default `false`. */
  killOnDisconnect?: boolean;
  /** Seconds that an ended command can be reconnected to; -1 = forever. Default 600. */
  ttlSeconds?: number;
  /** Run under a pseudo-terminal of 80 columns and 24 rows; stderr is then part of stdout. Default `false`. */
  pty?: boolean;
  /** Id of your choice. A second `run` with the same id attaches to the first one's command. */
  commandId?: string;
  /** Alternative to `env` and `cwd`, which it excludes. */
  runConfig?: RunConfig;
  /** Close stdin at once, after `input`. Default: `true` with `wait: true`, else `false`. Without effect under `pty`. */
  closeInput?: boolean;
  /**
   * Written to stdin at once. Bytes that are not UTF-8 need a server that takes them (`sandwired`); others refuse the call
   * with {@link UnsupportedError}.
   */
  input?: string | Uint8Array;
}

/** Options of {@link Sandbox.reconnect}. */
export interface ReconnectOptions<Data extends OutputData = string> extends ReceiveOptions<Data> {
  /** First byte of stdout to deliver. Default 0. */
  stdoutOffset?: number;
  /** First byte of stderr to deliver. Default 0. */
  stderrOffset?: number;
}

/** A connection to sandboxes: the hosted service, a server of your own, or a {@link LocalServer}. */
export class SandboxClient implements AsyncDisposable {
  constructor(config?: SandboxClientConfig);
  /** The URL in use. */
  readonly apiEndpoint: string;
  /**
   * Makes a sandbox. It stays until it is deleted.
   * @throws {@link ResourceCreationError} {@link ResourceTimeoutError} {@link QuotaExceededError}
   */
  createSandbox(options?: CreateSandboxOptions): Promise<Sandbox>;
  createSandbox(snapshotId: string | undefined, options?: CreateSandboxOptions): Promise<Sandbox>;
  /** Makes a sandbox that is deleted when it is disposed: `await using sandbox = await client.sandbox()`. */
  sandbox(options?: CreateSandboxOptions): Promise<Sandbox>;
  sandbox(snapshotId: string | undefined, options?: CreateSandboxOptions): Promise<Sandbox>;
  /** @throws {@link ResourceNotFoundError} */
  getSandbox(name: string, options?: CallOptions): Promise<Sandbox>;
  listSandboxes(options?: CallOptions): Promise<Sandbox[]>;
  /** @throws {@link ResourceNotFoundError} */
  deleteSandbox(name: string, options?: CallOptions): Promise<void>;
  /** @throws {@link ResourceNotFoundError} */
  getSandboxStatus(name: string, options?: CallOptions): Promise<ResourceStatus>;
  /**
   * Waits until a sandbox is ready.
   * @throws {@link ResourceCreationError} if it failed, {@link ResourceTimeoutError} if it took too long
   */
  waitForSandbox(name: string, options?: WaitForSandboxOptions): Promise<Sandbox>;
  /** Ends what is under way. Sandboxes stay. Idempotent. */
  close(): void;
  [Symbol.asyncDispose](): Promise<void>;
  toString(): string;
  toJSON(): { apiEndpoint: string };
}

/** A sandbox. Made by {@link SandboxClient}. */
export class Sandbox implements SandboxData, AsyncDisposable {
  private constructor();
  /** Stable across renames. */
  readonly id?: string;
  readonly name: string;
  readonly dataplane_url?: string;
  readonly status?: string;
  readonly status_message?: string;
  readonly created_at?: string;
  readonly updated_at?: string;
  readonly idle_ttl_seconds?: number;
  readonly delete_after_stop_seconds?: number;
  readonly stopped_at?: string;
  readonly snapshot_id?: string;
  readonly vcpus?: number;
  /** The same as `vcpus`. */
  readonly vCpus?: number;
  readonly mem_bytes?: number;
  readonly fs_capacity_bytes?: number;
  /** What it is isolated by, where the server says it. */
  readonly isolation?: Isolation;

  /**
   * Runs a shell command. A non-zero exit code is a result; a missing program is exit code 127.
   * @throws {@link CommandTimeoutError} {@link SandboxConnectionError} {@link SandboxOperationError}
   *   {@link SandboxNotReadyError} {@link DataplaneNotConfiguredError}; what a started command had delivered is on these,
   *   under the names of {@link SettledResult}. The reason of an abort and what a callback threw are thrown as they are
   */
  run<Output extends OutputMode = "text", Wait extends boolean = true, Reject extends boolean = true>(
    command: string,
    options?: RunOptions<DataOf<Output>> & { output?: Output; wait?: Wait; reject?: Reject },
  ): Promise<RunOutcome<Output, Wait, Reject>>;

  /**
   * Attaches to a command that runs, or that ended less than its `ttlSeconds` ago; started by whichever process. Brings its
   * output from the beginning, or from the offsets given; what the server no longer has is an {@link OutputGap}.
   * @throws {@link SandboxOperationError} with `errorType` `CommandNotFound` or `SessionExpired`
   */
  reconnect<Output extends OutputMode = "text", Reject extends boolean = true>(
    commandId: string,
    options?: ReconnectOptions<DataOf<Output>> & { output?: Output; reject?: Reject },
  ): Promise<RunOutcome<Output, false, Reject>>;

  /**
   * Reads a file. Relative paths start in the sandbox's home.
   * @param options a number is the limit in seconds (default 60)
   * @throws {@link ResourceNotFoundError} with `resourceType` `file`
   */
  read(path: string, options?: number | CallOptions): Promise<Uint8Array>;
  /**
   * Writes a file: missing parents are made, an existing file is replaced atomically and keeps its mode. Bytes are not
   * copied; leave them alone until the promise is settled.
   * @param options a number is the limit in seconds (default 60)
   * @throws {@link SandboxOperationError} with `operation` `write`
   */
  write(path: string, content: string | Uint8Array, options?: number | CallOptions): Promise<void>;
  /** Deletes the sandbox with its files and everything that runs in it. */
  delete(options?: CallOptions): Promise<void>;
  /** Reads its data anew. */
  refresh(options?: CallOptions): Promise<this>;
  /** Ends the attachments of its handles; the sandbox lives on. Idempotent. */
  close(): void;
  /** Closes it. Deletes it only if {@link SandboxClient.sandbox} made it. */
  [Symbol.asyncDispose](): Promise<void>;
  toString(): string;
  toJSON(): SandboxData;
}

/** One loop over a command's output. */
export interface OutputLoop<Data extends OutputData = string> extends AsyncIterableIterator<OutputChunk<Data>> {
  next(): Promise<IteratorResult<OutputChunk<Data>, undefined>>;
  /** Leaves the loop. A `next()` that waits takes nothing then: what comes is the next loop's. */
  return(): Promise<IteratorResult<OutputChunk<Data>, undefined>>;
  [Symbol.asyncIterator](): OutputLoop<Data>;
}

/** What {@link CommandHandle.kill} can send. */
export type CommandSignal =
  | "SIGHUP"
  | "SIGINT"
  | "SIGQUIT"
  | "SIGKILL"
  | "SIGUSR1"
  | "SIGUSR2"
  | "SIGTERM"
  | "SIGCONT"
  | "SIGSTOP"
  | "SIGTSTP"
  | "SIGWINCH";

/** Size of a terminal, each 1 to 65,535. */
export interface TerminalSize {
  cols: number;
  rows: number;
}

/**
 * A command, running or ended. Its output is taken in one of three ways: by loops, of which one runs at a time; by the
 * callbacks of `run`; or through `stdout` and `stderr`. Leaving a loop pauses, and a later loop goes on where it was. Lost
 * connections are made again without a sign.
 *
 * While nobody reads, the command is held back by its full pipe. `sandwired` holds it back for 30 seconds: if the reader
 * takes nothing for that long while more is printed than the buffers on the way have room for (about 5 MiB), the command
 * goes on, and the oldest output that was not read is an {@link OutputGap}.
 */
export class CommandHandle<Data extends OutputData = string, Result = ExecutionResult<Data>>
  implements AsyncIterable<OutputChunk<Data>>, AsyncDisposable
{
  private constructor();
  /** Attempts to make a lost connection again, in a row and without progress: 5. */
  static readonly MAX_AUTO_RECONNECTS: number;
  /** Wait before the first of them, seconds: 0.5. It doubles each time. A server that restarts is tried at once. */
  static readonly BACKOFF_BASE: number;
  /** Longest wait, seconds: 8. */
  static readonly BACKOFF_MAX: number;
  readonly commandId: string;
  /** Process id inside the sandbox, where the server says it. */
  readonly pid: number | null;
  /**
   * The result, once the command has ended. It waits for no loop and takes no output from one that runs, so a loop may
   * await it, after `kill()` always. Without `kill()` the command must be able to end: what is beyond `maxOutputBytes` is
   * held back for the loop. Rejects like `run`; nobody needs to handle it.
   */
  readonly result: Promise<Result>;
  /**
   * Standard output as a web stream of bytes, whatever `output` says; always the same one. Asking for it takes the output
   * away from loops. Nothing is fetched before it is read. It ends with the command's error, and without `onGap` with
   * {@link SandboxOperationError} (`errorType` `OutputLost`) where output is missing. If only one of the two streams is
   * read, the other one is kept up to `maxOutputBytes`; beyond that its middle is lost. Who reads must not rest for longer
   * than the 30 seconds of {@link CommandHandle}. `cancel()` drops a stream at once; it does not end the command.
   * @throws {@link SandboxClientError} if a loop or callbacks take the output
   */
  readonly stdout: ByteStream;
  /** Standard error; otherwise like `stdout`. Under `pty` it is empty. */
  readonly stderr: ByteStream;
  /** First byte of stdout that was not delivered yet: where a reconnection goes on. Counts bytes, whatever `output` says. */
  readonly lastStdoutOffset: number;
  /** First byte of stderr that was not delivered yet. */
  readonly lastStderrOffset: number;
  /**
   * A loop throws what the command fails with, and so does each later one. After `close()` it throws, unless everything was
   * delivered before.
   */
  [Symbol.asyncIterator](): OutputLoop<Data>;
  /**
   * Sends a signal. `SIGKILL` (default) kills the command and all it started, and works on every server; the others go to
   * the command's process group. Resolves `false` if the command is over or the handle closed. After a `SIGKILL` nobody
   * waits for the promises of callbacks any more.
   * @throws {@link ValidationError}, at once and not as a rejection, for what is no {@link CommandSignal};
   *   {@link UnsupportedError} where the server can only kill; nothing is sent then
   */
  kill(signal?: CommandSignal): Promise<boolean>;
  /**
   * Writes to stdin. Resolves `true` once all of it was handed to the network, which is not before the server has room, and
   * `false` if the command or its stdin is over. To `sandwired`, what a lost connection swallowed is sent again, each byte
   * once; any other server may lose it with the connection.
   * @throws {@link ValidationError}, at once and not as a rejection, for what is neither bytes nor a string without lone
   *   surrogates; {@link UnsupportedError} for bytes that are not UTF-8 where the server takes text only
   */
  sendInput(data: string | Uint8Array): Promise<boolean>;
  /**
   * Ends stdin, after all input; under `pty` it sends the end-of-transmission character. Resolves like `sendInput`, and may
   * be lost like input.
   */
  closeInput(): Promise<boolean>;
  /**
   * Gives the command's terminal another size. Resolves `false` if the command is over.
   * @throws {@link ValidationError} for a size that is none (at once and not as a rejection) and for a command without `pty`;
   *   {@link UnsupportedError} where the server can't
   */
  resize(size: TerminalSize): Promise<boolean>;
  /**
   * A new handle that goes on where this one is, with the same options of receiving unless others are given. Once it is
   * attached this one is detached; until then this one delivers nothing. Works while the command runs, after `close()`,
   * after a lost connection, and within `ttlSeconds` after the end. The new handle's result has only what that handle
   * received. It may begin with a gap if `result` was waited for while a slow loop ran: that let output come which the loop
   * had yet to take.
   * @throws {@link SandboxOperationError} with `errorType` `CommandNotFound` or `SessionExpired`
   */
  reconnect<Output extends OutputMode = ModeOf<Data>, Reject extends boolean = RejectOf<Result>>(
    options?: ReconnectOptions<DataOf<Output>> & { output?: Output; reject?: Reject },
  ): Promise<RunOutcome<Output, false, Reject>>;
  /** Ends the attachment; the command lives on, unless it was started with `killOnDisconnect`. Idempotent. */
  detach(): void;
  /** The same as `detach`. */
  close(): void;
  [Symbol.asyncDispose](): Promise<void>;
  toString(): string;
  toJSON(): { commandId: string; pid: number | null };
}

/**
 * A message of {@link runWsStream}: `started` (`command_id`, `pid`), `stdout` and `stderr` (`data`, `offset`), `exit`
 * (`exit_code`). What the server says with `error` is thrown. `offset` plus the bytes of `data` as UTF-8 is where to go on:
 * positions count the text, with every server.
 */
export interface WsMessage {
  type: "started" | "stdout" | "stderr" | "exit" | "error";
  [key: string]: unknown;
}

/** Options of {@link runWsStream}; those that it shares with {@link RunOptions} mean the same. */
export interface WsRunOptions {
  /** Limit on the server, whole seconds. Default 60; 0 = none. */
  timeout?: number;
  env?: Record<string, string>;
  cwd?: string;
  /** Default `/bin/bash`. */
  shell?: string;
  /** Called with each piece of stdout before its message is given. A returned promise is awaited; what it throws the loop throws. */
  onStdout?: (data: string) => unknown;
  /** Called with each piece of stderr; otherwise like `onStdout`. */
  onStderr?: (data: string) => unknown;
  commandId?: string;
  /** Seconds that a running command survives without a client; -1 = forever. Default 300. */
  idleTimeout?: number;
  /** Default `false`. */
  killOnDisconnect?: boolean;
  /** Seconds that an ended command can be reconnected to; -1 = forever. Default 600. */
  ttlSeconds?: number;
  /** Default `false`. */
  pty?: boolean;
  runConfig?: RunConfig;
  /** Starts the command without stdin. Default `false`. */
  closeStdin?: boolean;
  /** Headers of the upgrade request. An explicit `X-Api-Key` wins over `apiKey`. */
  headers?: Record<string, string>;
  /** Its abort kills the command; the loop then throws the signal's reason. */
  signal?: AbortSignal;
}

/** Options of {@link reconnectWsStream}. */
export interface WsReconnectOptions extends Pick<WsRunOptions, "headers" | "signal"> {
  /** First byte of stdout to deliver. Default 0. */
  stdoutOffset?: number;
  /** First byte of stderr to deliver. Default 0. */
  stderrOffset?: number;
}

/** Controls a stream of {@link runWsStream}. After its end all this does nothing. */
export interface WSStreamControl {
  /** Whether `sendKill` was called. */
  readonly killed: boolean;
  /** Kills the command and all it started. */
  sendKill(): void;
  sendInput(data: string | Uint8Array): void;
  /** Ends stdin. */
  sendCloseStdin(): void;
}

/**
 * Runs a command on one connection and gives its messages, without a sandbox object: nothing is retried and a lost
 * connection is not made again, it is the loop's error. Leaving the loop closes the connection, not the command.
 * @param dataplaneUrl `dataplane_url` of the sandbox
 * @param apiKey key; `undefined` = none
 * @throws {@link SandboxConnectionError} {@link ValidationError}; the loop: {@link CommandTimeoutError}
 *   {@link SandboxConnectionError} {@link SandboxOperationError}
 */
export function runWsStream(
  dataplaneUrl: string,
  apiKey: string | undefined,
  command: string,
  options?: WsRunOptions,
): Promise<[AsyncIterableIterator<WsMessage>, WSStreamControl]>;

/** Attaches to a command on one connection; otherwise like {@link runWsStream}. */
export function reconnectWsStream(
  dataplaneUrl: string,
  apiKey: string | undefined,
  commandId: string,
  options?: WsReconnectOptions,
): Promise<[AsyncIterableIterator<WsMessage>, WSStreamControl]>;

/** Options of {@link LocalServer.start}. */
export interface LocalServerOptions {
  /** Port on 127.0.0.1. Default 0: any free one. */
  port?: number;
  /** Directory of its state. Default: a private one under the temporary directory, removed at the end. */
  stateDir?: string;
  /** Key that clients need. Default: a random one. */
  apiKey?: string;
  /** Aborts the start. */
  signal?: AbortSignal;
  /** Limit of the start, milliseconds. Default 30,000. */
  startTimeoutMs?: number;
}

/**
 * A sandbox server on this machine. It ends, and takes its sandboxes with it, on `close()`, when it is disposed, and when
 * this process ends, however that ends. Linux only.
 */
export class LocalServer implements AsyncDisposable {
  private constructor();
  /**
   * Starts a server and waits until it is ready. `SANDWIRE_SERVER_PATH` names another `sandwired`.
   * @throws {@link IsolationError} with `reason` and `remedy` if the machine can't isolate; {@link UnsupportedError} off
   *   Linux or without the binary; {@link SandboxConnectTimeoutError} after `startTimeoutMs`
   */
  static start(options?: LocalServerOptions): Promise<LocalServer>;
  readonly apiEndpoint: string;
  readonly apiKey: string;
  readonly pid: number;
  /** What its sandboxes are isolated by. */
  readonly isolation: Isolation;
  /** What is less than it could be on this machine, each with its remedy. */
  readonly warnings: string[];
  /** A client of this server. */
  client(config?: SandboxClientConfig): SandboxClient;
  /** Ends the server and all its sandboxes. Idempotent. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
  toString(): string;
}

/** Names every failure; one class belongs to each. */
export type ErrorCode =
  | "CLIENT_ERROR"
  | "API_ERROR"
  | "AUTHENTICATION_FAILED"
  | "CONNECTION_FAILED"
  | "CONNECTION_RETRYABLE"
  | "CONNECT_TIMEOUT"
  | "SERVER_RELOAD"
  | "RESOURCE_NOT_FOUND"
  | "RESOURCE_TIMEOUT"
  | "RESOURCE_IN_USE"
  | "RESOURCE_ALREADY_EXISTS"
  | "RESOURCE_NAME_CONFLICT"
  | "VALIDATION_FAILED"
  | "QUOTA_EXCEEDED"
  | "RESOURCE_CREATION_FAILED"
  | "DATAPLANE_NOT_CONFIGURED"
  | "SANDBOX_NOT_READY"
  | "OPERATION_FAILED"
  | "COMMAND_TIMEOUT"
  | "UNSUPPORTED"
  | "ISOLATION_UNAVAILABLE"
  | "ABORTED";

/** Attributes of errors. Each is set where the server or the client knows it. */
export interface ErrorAttributes {
  code?: ErrorCode;
  retryable?: boolean;
  cause?: unknown;
  /** `sandbox`, `snapshot`, `file`... */
  resourceType?: string;
  lastStatus?: string;
  errorType?: string;
  field?: string;
  details?: unknown;
  quotaType?: string;
  operation?: string;
  timeout?: number;
  retryAfter?: number;
  requestId?: string;
  status?: number | string;
  phase?: string;
  reason?: string;
  remedy?: string;
}

/** What a command had delivered before it failed. */
export interface SandboxClientError extends Partial<Omit<SettledResult<OutputData>, "success" | "orThrow">> {}

/** Root of all errors. `instanceof` also works between two installed copies of the package. */
export class SandboxClientError extends Error {
  constructor(message?: string, attributes?: ErrorAttributes);
  readonly code: ErrorCode;
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean;
  /** The server's id of the request. */
  readonly requestId?: string;
  /** HTTP status, or the status of the sandbox. */
  readonly status?: number | string;
  /** What was under way. */
  readonly phase?: string;
  toString(): string;
  toJSON(): Record<string, unknown>;
}
/** The server failed, or the URL is wrong. */
export class SandboxAPIError extends SandboxClientError {}
/** The key is missing or wrong. */
export class SandboxAuthenticationError extends SandboxClientError {}
/** No connection, or it was lost. */
export class SandboxConnectionError extends SandboxClientError {}
/** The server refused for now. */
export class SandboxRetryableConnectionError extends SandboxConnectionError {
  /** Seconds to wait, where the server says it. */
  readonly retryAfter?: number;
  readonly retryAfterSeconds?: number;
}
/** No connection in time. */
export class SandboxConnectTimeoutError extends SandboxRetryableConnectionError {}
/** The server restarts; the command lives on. */
export class SandboxServerReloadError extends SandboxConnectionError {}
/** No such sandbox, file... */
export class ResourceNotFoundError extends SandboxClientError {
  readonly resourceType?: string;
}
/** Not ready in time. */
export class ResourceTimeoutError extends SandboxClientError {
  readonly resourceType?: string;
  readonly lastStatus?: string;
}
/** Still in use. */
export class ResourceInUseError extends SandboxClientError {
  readonly resourceType?: string;
}
/** Exists already. */
export class ResourceAlreadyExistsError extends SandboxClientError {
  readonly resourceType?: string;
}
/** The new name is taken. */
export class ResourceNameConflictError extends SandboxClientError {
  readonly resourceType?: string;
}
/** Bad input: refused here before any request, or by the server. */
export class ValidationError extends SandboxClientError {
  /** The option or argument. */
  readonly field?: string;
  /** The server's list of complaints. */
  readonly details?: unknown;
  readonly errorType?: string;
}
/** A quota is used up. */
export class QuotaExceededError extends SandboxClientError {
  readonly quotaType?: string;
}
/** Provisioning failed. */
export class ResourceCreationError extends SandboxClientError {
  readonly resourceType?: string;
  readonly errorType?: string;
}
/** The sandbox has no data plane. */
export class DataplaneNotConfiguredError extends SandboxClientError {}
/** The sandbox is not ready. */
export class SandboxNotReadyError extends SandboxClientError {}
/** Run, read or write failed. */
export class SandboxOperationError extends SandboxClientError {
  readonly operation?: string;
  readonly errorType?: string;
}
/** The command exceeded its limit and was killed. */
export class CommandTimeoutError extends SandboxOperationError {
  /** The limit, seconds. */
  readonly timeout?: number;
}
/** This server or platform has no such feature, or the native part is missing. */
export class UnsupportedError extends SandboxClientError {
  readonly reason?: string;
  readonly remedy?: string;
}
/** The machine lacks what isolation needs. */
export class IsolationError extends SandboxClientError {
  readonly reason?: string;
  readonly remedy?: string;
}

export {
  SandboxClientError as LangSmithSandboxError,
  SandboxAPIError as LangSmithSandboxAPIError,
  SandboxAuthenticationError as LangSmithSandboxAuthenticationError,
  SandboxConnectionError as LangSmithSandboxConnectionError,
  SandboxRetryableConnectionError as LangSmithSandboxRetryableConnectionError,
  SandboxConnectTimeoutError as LangSmithSandboxConnectTimeoutError,
  SandboxServerReloadError as LangSmithSandboxServerReloadError,
  ResourceNotFoundError as LangSmithResourceNotFoundError,
  ResourceTimeoutError as LangSmithResourceTimeoutError,
  ResourceInUseError as LangSmithResourceInUseError,
  ResourceAlreadyExistsError as LangSmithResourceAlreadyExistsError,
  ResourceNameConflictError as LangSmithResourceNameConflictError,
  ValidationError as LangSmithValidationError,
  QuotaExceededError as LangSmithQuotaExceededError,
  ResourceCreationError as LangSmithResourceCreationError,
  ResourceCreationError as LangSmithSandboxCreationError,
  DataplaneNotConfiguredError as LangSmithDataplaneNotConfiguredError,
  SandboxNotReadyError as LangSmithSandboxNotReadyError,
  SandboxOperationError as LangSmithSandboxOperationError,
  CommandTimeoutError as LangSmithCommandTimeoutError,
};
