/// <reference lib="esnext.disposable" />

/**
 * Units: `timeout`, `pollInterval`, `idleTimeout` and everything that ends in `Seconds` are seconds; what ends in `Ms` is
 * milliseconds; sizes are bytes. Methods and options are camelCase, data from the wire keeps its snake_case names.
 *
 * Every call refuses unknown and mistyped options with {@link ValidationError} before it sends anything, takes a `signal`
 * whose abort rejects it with the signal's reason, and rejects with a {@link SandboxClientError} of one of the classes below.
 *
 * @packageDocumentation
 */

/** Options of every call over HTTP. */
export interface CallOptions {
  /** Aborts the call; it then rejects with the signal's reason. */
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

/** What output is under a mode. */
export type DataOf<Output extends OutputMode> = Output extends "text" ? string : Uint8Array;

/** The mode that gives such data. */
export type ModeOf<Data extends OutputData> = Data extends string ? "text" : "bytes";

/** The result under `reject`: without errors there may be no exit code. */
export type ResultOf<Data extends OutputData, Reject extends boolean> = [Reject] extends [true]
  ? ExecutionResult<Data>
  : SettledResult<Data>;

/** What `run` resolves with: the result, or with `wait: false` a handle. */
export type RunOutcome<Output extends OutputMode, Wait extends boolean, Reject extends boolean> = Wait extends false
  ? CommandHandle<DataOf<Output>, ResultOf<DataOf<Output>, Reject>>
  : ResultOf<DataOf<Output>, Reject>;

/** A piece of a command's output. */
export interface OutputChunk<Data extends OutputData = string> {
  stream: "stdout" | "stderr";
  data: Data;
  /** Position of its first byte in its stream. It jumps where output was lost. */
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
  /** Number of the signal that ended it, where it is known. */
  readonly signal?: number;
  readonly duration_ms: number;
  /** Size of the whole output, kept or not. */
  readonly stdout_bytes: number;
  readonly stderr_bytes: number;
  /** Whether the middle of the output was dropped. */
  readonly stdout_truncated: boolean;
  readonly stderr_truncated: boolean;
  /** Output that was lost on the way. */
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
   * `"text"` (default): strings. `"bytes"`: `Uint8Array`, of the same text: the wire carries text, so what is not UTF-8
   * arrives as U+FFFD **in both modes**. Write binary output to a file and `read` it, or encode it (`base64`).
   */
  output?: ModeOf<Data>;
  /** Output kept per stream for the result, bytes. Default 256 MiB. Loops and callbacks always get everything. */
  maxOutputBytes?: number;
  /**
   * `false`: a command that was started and then timed out, was lost or aborted gives a {@link SettledResult} instead of
   * an error. Default `true`. A non-zero exit is never an error.
   */
  reject?: boolean;
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
   * `true` (default): resolves with the result. `false`: resolves with a handle as soon as the command runs; loop over it
   * for the output, callbacks are refused with it.
   */
  wait?: boolean;
  /**
   * Called with each piece of stdout. A returned promise holds the next piece back. If it throws, the command is killed
   * and the call rejects with what was thrown.
   */
  onStdout?: (data: Data) => void;
  /** Called with each piece of stderr; otherwise like `onStdout`. */
  onStderr?: (data: Data) => void;
  /** Seconds that a running command survives without a client; -1 = forever. Default 300. */
  idleTimeout?: number;
  /** Kill the command when its last client leaves; a `break` out of the loop leaves. Default `false`. */
  killOnDisconnect?: boolean;
  /** Seconds that an ended command can be reconnected to; -1 = forever. Default 600. */
  ttlSeconds?: number;
  /** Run under a pseudo-terminal; stderr is then part of stdout. Default `false`. */
  pty?: boolean;
  /** Id of your choice. A second `run` with the same id attaches to the first one's command. */
  commandId?: string;
  /** Alternative to `env` and `cwd`, which it excludes. */
  runConfig?: RunConfig;
  /** Close stdin at once, after `input`. Default: `true` with `wait: true`, else `false`. Without effect under `pty`. */
  closeInput?: boolean;
  /** Written to stdin at once. */
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
   *   {@link SandboxNotReadyError} {@link DataplaneNotConfiguredError}; what a started command had delivered is on the
   *   error, under the names of {@link SettledResult}
   */
  run<Output extends OutputMode = "text", Wait extends boolean = true, Reject extends boolean = true>(
    command: string,
    options?: RunOptions<DataOf<Output>> & { output?: Output; wait?: Wait; reject?: Reject },
  ): Promise<RunOutcome<Output, Wait, Reject>>;

  /**
   * Attaches to a command that runs, or that ended less than its `ttlSeconds` ago.
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

/**
 * A command, running or ended. Loop over it for its output; leaving the loop pauses, and a later loop goes on where it
 * was. Two loops at once are refused. While nobody reads, the command is held back by its full pipe.
 */
export class CommandHandle<Data extends OutputData = string, Result = ExecutionResult<Data>>
  implements AsyncIterable<OutputChunk<Data>>, AsyncDisposable
{
  private constructor();
  readonly commandId: string;
  /** Process id inside the sandbox, where the server says it. */
  readonly pid: number | null;
  /**
   * The result, once the command has ended. It waits for no loop and takes no output from one that runs, so a loop may
   * await it, after `kill()` always. Without `kill()` the command must be able to end: what is beyond `maxOutputBytes` is
   * held back for the loop. Rejects like `run`; nobody needs to handle it.
   */
  readonly result: Promise<Result>;
  /** First byte of stdout that was not delivered yet, for {@link Sandbox.reconnect}. */
  readonly lastStdoutOffset: number;
  /** First byte of stderr that was not delivered yet. */
  readonly lastStderrOffset: number;
  /** After `close()` it throws, unless everything was delivered before. */
  [Symbol.asyncIterator](): AsyncIterableIterator<OutputChunk<Data>, undefined>;
  /**
   * Kills the command and all it started. Resolves `false` if it is over.
   * @throws {@link UnsupportedError} for any other signal; none is sent then
   */
  kill(signal?: "SIGKILL"): Promise<boolean>;
  /** Writes to stdin. Resolves `false` if the command is over. */
  sendInput(data: string | Uint8Array): Promise<boolean>;
  /** Ends stdin. Resolves `false` if the command is over. */
  closeInput(): Promise<boolean>;
  /** Ends the attachment; the command lives on, unless it was started with `killOnDisconnect`. Idempotent. */
  detach(): void;
  /** The same as `detach`. */
  close(): void;
  [Symbol.asyncDispose](): Promise<void>;
  toString(): string;
  toJSON(): { commandId: string; pid: number | null };
}

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
