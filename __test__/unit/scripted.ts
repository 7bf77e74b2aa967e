// A server that says what a test tells it to, for answers and faults that a healthy server does not give on demand.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach } from "vitest";
import { WebSocketServer, type WebSocket } from "ws";

import { SandboxClient, type SandboxClientConfig } from "../../index.mjs";

export { rejection } from "../rejection.js";

/** The subprotocol under which output and input are raw bytes. */
const EXTENSION = "sandwire.exec.v1";

export interface Seen {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: Buffer;
}

type Answer = { status?: number; json?: unknown; body?: string | Buffer; headers?: Record<string, string> };
type Handler = (request: Seen, response: ServerResponse) => Answer | undefined | Promise<Answer | undefined>;
type Exec = (socket: WebSocket, opening: any, request: IncomingMessage) => void;

export class Scripted implements AsyncDisposable {
  readonly requests: Seen[] = [];
  readonly upgrades: IncomingMessage[] = [];
  /** The exec sockets, in the order of their upgrades. */
  readonly sockets: WebSocket[] = [];
  /** Frames that clients sent, the opening ones included, acknowledgements of output not. */
  readonly frames: any[] = [];
  /** Answers by `METHOD /path`, e.g. `GET /boxes/a`. */
  readonly routes: Record<string, Handler> = {};
  /** Plays the exec socket. */
  exec: Exec = (socket) => socket.close();
  /** Set to refuse upgrades with this status. */
  refusal: number | null = null;
  /** Whether it knows the extension. */
  extended = false;
  #clients: SandboxClient[] = [];
  #http = createServer((request, response) => void this.#answer(request, response));
  #ws = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => this.extended && offered.has(EXTENSION) && EXTENSION,
  });

  static async start(): Promise<Scripted> {
    const server = new Scripted();
    await new Promise<void>((resolve) => server.#http.listen(0, "127.0.0.1", resolve));
    server.#http.on("upgrade", (request, socket, head) => {
      server.upgrades.push(request);
      if (server.refusal !== null) return socket.end(`HTTP/1.1 ${server.refusal} No\r\nContent-Length: 0\r\n\r\n`);
      server.#ws.handleUpgrade(request, socket, head, (ws) => server.#converse(ws, request));
    });
    return server;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  get endpoint(): string {
    return `${this.origin}/v2/sandboxes`;
  }

  get dataplane(): string {
    return `${this.origin}/sandboxes/1`;
  }

  client(config: SandboxClientConfig = {}): SandboxClient {
    const client = new SandboxClient({ apiEndpoint: this.endpoint, apiKey: "the-key", maxRetries: 0, ...config });
    this.#clients.push(client);
    return client;
  }

  /** A sandbox with a working data plane, without a request. */
  async sandbox(data: object = {}, config?: SandboxClientConfig) {
    this.routes["GET /boxes/box"] = () => ({
      json: { name: "box", status: "ready", dataplane_url: this.dataplane, ...data },
    });
    return this.client(config).getSandbox("box");
  }

  /** Plays one command: `started`, the frames, and the frames that answer to control frames. */
  play(frames: object[], onControl: (frame: any, socket: WebSocket) => void = () => {}): void {
    this.exec = (socket, opening) => {
      send(socket, started(opening.command_id ?? "made-up"), ...frames);
      socket.on("message", (data, binary) => onControl(parsed(data as Buffer, binary), socket));
    };
  }

  #converse(socket: WebSocket, request: IncomingMessage): void {
    let opened = false;
    this.sockets.push(socket);
    socket.on("message", (data, binary) => {
      const frame = parsed(data as Buffer, binary);
      if (frame.type === "output_ack") return;
      this.frames.push(frame);
      if (!opened) this.exec(socket, frame, request);
      opened = true;
    });
    socket.on("error", () => {});
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const path = (request.url ?? "").replace(/^\/v2\/sandboxes/, "");
    const seen = { method: request.method ?? "", path, headers: request.headers, body: Buffer.concat(parts) };
    this.requests.push(seen);
    const handler = this.routes[`${seen.method} ${path.split("?")[0]}`];
    const answer = handler
      ? await handler(seen, response)
      : { status: 404, json: { detail: { error: "NotFound", message: "no such thing" } } };
    if (answer === undefined) return;
    const body = answer.body ?? JSON.stringify(answer.json ?? {});
    response.writeHead(answer.status ?? 200, { "content-type": "application/json", ...answer.headers });
    response.end(body);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    for (const socket of this.#ws.clients) socket.terminate();
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }
}

/** The server of the test that runs, in files that say `useScripted()`. */
export let server: Scripted;

/** Gives each test of the file a new server. */
export function useScripted(): void {
  beforeEach(async () => {
    server = await Scripted.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());
}

/** Frames of a server. */
export const out = (data: string, offset = 0) => ({ type: "stdout", data, offset });
export const err = (data: string, offset = 0) => ({ type: "stderr", data, offset });
export const exit = (exit_code = 0) => ({ type: "exit", exit_code });
export const started = (command_id: string) => ({ type: "started", command_id, pid: 7 });
export const refused = (error_type: string, error = "?") => ({ type: "error", error_type, error });

export function send(socket: WebSocket, ...frames: object[]): void {
  for (const frame of frames) socket.send(frame instanceof Buffer ? frame : JSON.stringify(frame));
}

/** For `play`: the command dies when it is told to. */
export function onKill(frame: { type: string }, socket: WebSocket): void {
  if (frame.type === "kill") send(socket, exit(137));
}

/** A frame of the client; raw input as `{ type: "stdin", offset, data }`. */
function parsed(data: Buffer, binary: boolean): any {
  if (!binary) return JSON.parse(String(data));
  return { type: "stdin", offset: Number(data.readBigUInt64BE(1)), data: data.subarray(9) };
}

/** Raw output, as the extension has it. */
export function raw(stream: "stdout" | "stderr", bytes: string | number[], offset = 0): Buffer {
  const header = Buffer.alloc(9);
  header[0] = stream === "stdout" ? 0 : 1;
  header.writeBigUInt64BE(BigInt(offset), 1);
  return Buffer.concat([header, Buffer.from(bytes as string)]);
}
