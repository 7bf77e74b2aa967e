// The public types: what they allow, what they narrow to, what they refuse.

import { Readable } from "node:stream";
import { describe, expectTypeOf, test } from "vitest";

import {
  type ByteStream,
  type CallOptions,
  CommandHandle,
  CommandTimeoutError,
  type CommandOutcome,
  type CreateSandboxOptions,
  type ErrorCode,
  type ExecutionResult,
  type Isolation,
  LangSmithResourceNotFoundError,
  LocalServer,
  type OutputChunk,
  type OutputGap,
  reconnectWsStream,
  ResourceNotFoundError,
  type ResourceStatus,
  type RunOptions,
  runWsStream,
  Sandbox,
  SandboxClient,
  SandboxClientError,
  type SandboxClientConfig,
  SandboxConnectionError,
  type SandboxData,
  SandboxOperationError,
  type SettledResult,
  type WsMessage,
  type WsRunOptions,
  type WSStreamControl,
} from "../../index.mjs";

declare const client: SandboxClient;
declare const sandbox: Sandbox;
declare const handle: CommandHandle;
declare const flag: boolean;
declare const mode: "text" | "bytes";

describe("run", () => {
  test("narrows by wait", () => {
    expectTypeOf(sandbox.run("ls")).resolves.toEqualTypeOf<ExecutionResult>();
    expectTypeOf(sandbox.run("ls", {})).resolves.toEqualTypeOf<ExecutionResult>();
    expectTypeOf(sandbox.run("ls", { wait: true })).resolves.toEqualTypeOf<ExecutionResult>();
    expectTypeOf(sandbox.run("ls", { onStdout: () => {} })).resolves.toEqualTypeOf<ExecutionResult>();
    expectTypeOf(sandbox.run("ls", { wait: false })).resolves.toEqualTypeOf<CommandHandle>();
    expectTypeOf(sandbox.run("ls", { wait: flag })).resolves.toEqualTypeOf<ExecutionResult | CommandHandle>();
  });

  test("narrows by output and reject", () => {
    const bytes = { output: "bytes" } as const;
    expectTypeOf(sandbox.run("ls", bytes)).resolves.toEqualTypeOf<ExecutionResult<Uint8Array>>();
    expectTypeOf(sandbox.run("ls", { ...bytes, wait: false })).resolves.toEqualTypeOf<CommandHandle<Uint8Array>>();
    expectTypeOf(sandbox.run("ls", { reject: false })).resolves.toEqualTypeOf<SettledResult>();
    expectTypeOf(sandbox.run("ls", { ...bytes, reject: false })).resolves.toEqualTypeOf<SettledResult<Uint8Array>>();
    expectTypeOf(sandbox.run("ls", { wait: false, reject: false })).resolves.toEqualTypeOf<
      CommandHandle<string, SettledResult>
    >();
    expectTypeOf(sandbox.run("ls", { ...bytes, wait: false, reject: false })).resolves.toEqualTypeOf<
      CommandHandle<Uint8Array, SettledResult<Uint8Array>>
    >();
    void sandbox.run("ls", { onStdout: (data) => expectTypeOf(data).toEqualTypeOf<string>() });
    void sandbox.run("ls", { ...bytes, onStdout: (data) => expectTypeOf(data).toEqualTypeOf<Uint8Array>() });
    void sandbox.run("ls", { onStderr: async () => {} });
    const seen: string[] = [];
    void sandbox.run("ls", { onStdout: (data) => seen.push(data) });
  });

  test("takes what is known at run time only", () => {
    type Either = string | Uint8Array;
    expectTypeOf(sandbox.run("ls", { output: mode })).resolves.toEqualTypeOf<ExecutionResult<Either>>();
    expectTypeOf(sandbox.run("ls", { output: mode, wait: false })).resolves.toEqualTypeOf<CommandHandle<Either>>();
    void sandbox.run("ls", { output: mode, onStdout: (data) => expectTypeOf(data).toEqualTypeOf<Either>() });
    expectTypeOf(sandbox.run("ls", { reject: flag })).resolves.toEqualTypeOf<SettledResult>();
    expectTypeOf(sandbox.run("ls", { wait: false, reject: flag })).resolves.toEqualTypeOf<
      CommandHandle<string, SettledResult>
    >();
    expectTypeOf(sandbox.reconnect("id", { output: mode, reject: flag })).resolves.toEqualTypeOf<
      CommandHandle<Either, SettledResult<Either>>
    >();
    const options: RunOptions = { timeout: 1 };
    expectTypeOf(sandbox.run("ls", options)).resolves.toEqualTypeOf<
      SettledResult | CommandHandle<string, SettledResult>
    >();
  });

  test("of a handle without errors: there may be no exit code", async () => {
    expectTypeOf(sandbox.reconnect("id")).resolves.toEqualTypeOf<CommandHandle>();
    expectTypeOf(sandbox.reconnect("id", { output: "bytes" })).resolves.toEqualTypeOf<CommandHandle<Uint8Array>>();
    expectTypeOf(sandbox.reconnect("id", { reject: false })).resolves.toEqualTypeOf<
      CommandHandle<string, SettledResult>
    >();
    const settled = await (await sandbox.reconnect("id", { reject: false })).result;
    expectTypeOf(settled.exit_code).toEqualTypeOf<number | null>();
    void sandbox.reconnect("id", {
      output: "bytes",
      onStdout: (data) => expectTypeOf(data).toEqualTypeOf<Uint8Array>(),
    });
    void sandbox.reconnect("id", { onGap: (gap) => expectTypeOf(gap).toEqualTypeOf<OutputGap>() });
    // @ts-expect-error input belongs to run
    void sandbox.reconnect("id", { input: "x" });
  });

  test("refuses what it refuses at run time", () => {
    // @ts-expect-error unknown option
    void sandbox.run("ls", { idle_timeout: 5 });
    // @ts-expect-error mistyped
    void sandbox.run("ls", { timeout: "5" });
    // @ts-expect-error not a command line
    void sandbox.run(["ls", "-l"]);
    // @ts-expect-error values of variables are strings
    void sandbox.run("ls", { env: { A: 1 } });
    // @ts-expect-error no such output
    void sandbox.run("ls", { output: "buffer" });
    // @ts-expect-error the command is missing
    void sandbox.run();
  });

  test("takes every option of the seed", () => {
    const options: RunOptions = {
      timeout: 1,
      env: { A: "b" },
      cwd: "/",
      shell: "/bin/sh",
      wait: true,
      onStdout: (data: string) => void data,
      onStderr: (data: string) => void data,
      idleTimeout: -1,
      killOnDisconnect: true,
      ttlSeconds: -1,
      pty: true,
    };
    expectTypeOf(options).toExtend<RunOptions>();
  });
});

describe("results", () => {
  test("members", async () => {
    const result = await sandbox.run("ls");
    expectTypeOf(result.stdout).toEqualTypeOf<string>();
    expectTypeOf(result.exit_code).toEqualTypeOf<number>();
    expectTypeOf(result.success).toEqualTypeOf<boolean>();
    expectTypeOf(result.outcome).toEqualTypeOf<CommandOutcome>();
    expectTypeOf(result.orThrow()).toEqualTypeOf<ExecutionResult>();
    const settled = await sandbox.run("ls", { reject: false });
    expectTypeOf(settled.exit_code).toEqualTypeOf<number | null>();
    // @ts-expect-error read-only
    result.stdout = "";
  });

  test("the seed's shape is kept", () => {
    expectTypeOf<ExecutionResult>().toExtend<{ stdout: string; stderr: string; exit_code: number }>();
    expectTypeOf<OutputChunk>().toEqualTypeOf<{ stream: "stdout" | "stderr"; data: string; offset: number }>();
    expectTypeOf<ResourceStatus>().toExtend<{ status: string; status_message?: string }>();
  });
});

describe("a handle", () => {
  test("is an async iterable of chunks", async () => {
    for await (const chunk of handle) expectTypeOf(chunk).toEqualTypeOf<OutputChunk>();
    for await (const { data } of await sandbox.run("ls", { wait: false, output: "bytes" })) {
      expectTypeOf(data).toEqualTypeOf<Uint8Array>();
    }
    const loop = handle[Symbol.asyncIterator]();
    const first = await loop.next();
    expectTypeOf(first.value).toEqualTypeOf<OutputChunk | undefined>();
    if (!first.done) expectTypeOf(first.value).toEqualTypeOf<OutputChunk>();
    expectTypeOf(loop.return()).toEqualTypeOf<Promise<IteratorResult<OutputChunk, undefined>>>();
    expectTypeOf(handle.result).toEqualTypeOf<Promise<ExecutionResult>>();
    expectTypeOf(handle.pid).toEqualTypeOf<number | null>();
    expectTypeOf(handle.kill()).toEqualTypeOf<Promise<boolean>>();
    expectTypeOf(handle.kill("SIGTERM")).toEqualTypeOf<Promise<boolean>>();
    // @ts-expect-error no signal that can be sent
    void handle.kill("SIGSEGV");
    expectTypeOf(handle.resize({ cols: 80, rows: 24 })).toEqualTypeOf<Promise<boolean>>();
    // @ts-expect-error a size has rows
    void handle.resize({ cols: 80 });
    expectTypeOf(handle.sendInput).parameter(0).toEqualTypeOf<string | Uint8Array>();
    expectTypeOf(handle.close()).toEqualTypeOf<void>();
    await using other = await sandbox.reconnect("id", { stdoutOffset: 3 });
    expectTypeOf(other).toEqualTypeOf<CommandHandle>();
    // @ts-expect-error made by run only
    new CommandHandle();
    // @ts-expect-error input is text or bytes
    void handle.sendInput(5);
  });
});

describe("a handle's other sides", () => {
  test("it comes back as it is", () => {
    expectTypeOf(handle.reconnect()).resolves.toEqualTypeOf<CommandHandle>();
    expectTypeOf(handle.reconnect({ stdoutOffset: 3, onGap: () => {} })).resolves.toEqualTypeOf<CommandHandle>();
    const settled = sandbox.run("ls", { wait: false, output: "bytes", reject: false });
    void settled.then((bytes) =>
      expectTypeOf(bytes.reconnect()).resolves.toEqualTypeOf<CommandHandle<Uint8Array, SettledResult<Uint8Array>>>(),
    );
    const other = handle.reconnect({ output: "bytes", reject: false });
    expectTypeOf(other).resolves.toEqualTypeOf<CommandHandle<Uint8Array, SettledResult<Uint8Array>>>();
    expectTypeOf(CommandHandle.MAX_AUTO_RECONNECTS).toEqualTypeOf<number>();
    expectTypeOf([CommandHandle.BACKOFF_BASE, CommandHandle.BACKOFF_MAX]).toEqualTypeOf<number[]>();
    // @ts-expect-error read-only
    CommandHandle.BACKOFF_MAX = 1;
  });

  test("its web streams fit everywhere", async () => {
    expectTypeOf(handle.stdout).toEqualTypeOf<ByteStream>();
    expectTypeOf(new Response(handle.stdout).text()).toEqualTypeOf<Promise<string>>();
    expectTypeOf(Readable.fromWeb(handle.stderr)).toEqualTypeOf<Readable>();
    void handle.stdout.pipeThrough(new TextDecoderStream()).pipeTo(new WritableStream<string>());
    void handle.stdout.pipeTo(new WritableStream<Uint8Array>());
    for await (const piece of handle.stdout) expectTypeOf(piece).toExtend<Uint8Array>();
    // @ts-expect-error read-only
    handle.stdout = new ReadableStream();
  });

  test("its low level", async () => {
    const options: WsRunOptions = {
      timeout: 1,
      env: { A: "b" },
      cwd: "/",
      shell: "/bin/sh",
      onStdout: (data: string) => void data,
      onStderr: (data: string) => void data,
      commandId: "c",
      idleTimeout: -1,
      killOnDisconnect: true,
      ttlSeconds: -1,
      pty: true,
      headers: { "X-A": "1" },
    };
    const [messages, control] = await runWsStream("http://h", "key", "ls", options);
    expectTypeOf(messages).toEqualTypeOf<AsyncIterableIterator<WsMessage>>();
    expectTypeOf(control).toEqualTypeOf<WSStreamControl>();
    expectTypeOf(control.killed).toEqualTypeOf<boolean>();
    expectTypeOf(control.sendKill()).toEqualTypeOf<void>();
    const type: WsMessage["type"] = "started";
    void type;
    void reconnectWsStream("http://h", undefined, "id", { stdoutOffset: 1, stderrOffset: 2, headers: {} });
    // @ts-expect-error it is the loop that is handed over
    void runWsStream("http://h", undefined, "ls", { wait: false });
  });
});

describe("the client", () => {
  test("calls", async () => {
    expectTypeOf<ConstructorParameters<typeof SandboxClient>>().toEqualTypeOf<[config?: SandboxClientConfig]>();
    expectTypeOf(client.createSandbox()).resolves.toEqualTypeOf<Sandbox>();
    expectTypeOf(client.createSandbox("snapshot", { name: "a" })).resolves.toEqualTypeOf<Sandbox>();
    expectTypeOf(client.createSandbox(undefined, { vCpus: 1 })).resolves.toEqualTypeOf<Sandbox>();
    expectTypeOf(client.listSandboxes()).resolves.toEqualTypeOf<Sandbox[]>();
    expectTypeOf(client.deleteSandbox("a")).resolves.toEqualTypeOf<void>();
    expectTypeOf(client.getSandboxStatus("a")).resolves.toEqualTypeOf<ResourceStatus>();
    expectTypeOf(client.waitForSandbox("a", { timeout: 1, pollInterval: 0.1 })).resolves.toEqualTypeOf<Sandbox>();
    expectTypeOf(client.getSandbox).parameter(1).toEqualTypeOf<CallOptions | undefined>();
    await using scoped = await client.sandbox({ memBytes: 1 });
    expectTypeOf(scoped).toEqualTypeOf<Sandbox>();
    expectTypeOf(scoped).toExtend<SandboxData>();
    expectTypeOf(scoped.close()).toEqualTypeOf<void>();
    expectTypeOf(scoped.toJSON()).toEqualTypeOf<SandboxData>();
    // @ts-expect-error the wire's name
    void client.createSandbox({ idle_ttl_seconds: 60 });
    // @ts-expect-error mistyped
    new SandboxClient({ timeoutMs: "10" });
    // @ts-expect-error made by a client only
    new Sandbox();
    // @ts-expect-error a name is needed
    void client.getSandbox();
  });

  test("options of the seed", () => {
    const options: CreateSandboxOptions = {
      snapshotName: "s",
      name: "n",
      timeout: 1,
      waitForReady: false,
      idleTtlSeconds: 60,
      deleteAfterStopSeconds: 0,
      vCpus: 1,
      memBytes: 1,
      fsCapacityBytes: 1,
      proxyConfig: { access_control: { allow_list: ["github.com"] } },
    };
    expectTypeOf(options.proxyConfig?.rules).toEqualTypeOf<unknown[] | undefined>();
  });

  test("files", () => {
    expectTypeOf(sandbox.read("/a")).resolves.toEqualTypeOf<Uint8Array>();
    expectTypeOf(sandbox.read("/a", 5)).resolves.toEqualTypeOf<Uint8Array>();
    expectTypeOf(sandbox.write("/a", new Uint8Array(1), { timeoutMs: 5 })).resolves.toEqualTypeOf<void>();
    // @ts-expect-error content is text or bytes
    void sandbox.write("/a", 5);
  });
});

describe("the local server", () => {
  test("members", async () => {
    await using server = await LocalServer.start({ port: 0, startTimeoutMs: 1 });
    expectTypeOf(server.client({ timeoutMs: 1 })).toEqualTypeOf<SandboxClient>();
    expectTypeOf(server.isolation).toEqualTypeOf<Isolation>();
    expectTypeOf(server.warnings).toEqualTypeOf<string[]>();
    expectTypeOf(server.close()).toEqualTypeOf<Promise<void>>();
    // @ts-expect-error started by start() only
    new LocalServer();
  });
});

describe("errors", () => {
  test("narrow by class and code", (error: unknown = new Error()) => {
    if (error instanceof CommandTimeoutError) {
      expectTypeOf(error.timeout).toEqualTypeOf<number | undefined>();
      expectTypeOf(error).toExtend<SandboxOperationError>();
      expectTypeOf(error.exit_code).toEqualTypeOf<number | null | undefined>();
    }
    if (error instanceof ResourceNotFoundError) expectTypeOf(error.resourceType).toEqualTypeOf<string | undefined>();
    if (error instanceof SandboxConnectionError) expectTypeOf(error.retryable).toEqualTypeOf<boolean>();
    if (error instanceof SandboxClientError) expectTypeOf(error.code).toEqualTypeOf<ErrorCode>();
    expectTypeOf(LangSmithResourceNotFoundError).toEqualTypeOf(ResourceNotFoundError);
    // @ts-expect-error no such code
    const code: ErrorCode = "NO_SUCH_CODE";
    void code;
  });
});
