// The control plane against a scripted server: what is sent, and what becomes of every kind of answer.

import { createServer } from "node:net";
import { inspect } from "node:util";
import { afterEach, describe, expect, it, vi } from "vitest";

import * as sandwire from "../../index.mjs";
import { rejection, server, useScripted } from "./scripted.js";

useScripted();
afterEach(() => void vi.unstubAllEnvs());

const READY = { name: "box", status: "ready", dataplane_url: "http://127.0.0.1:1/x" };
const standard = (error: string, message: string) => ({ detail: { error, message } });

describe("createSandbox", () => {
  it("sends every option under its wire name", async () => {
    server.routes["POST /boxes"] = () => ({ status: 201, json: READY });
    const proxyConfig = { access_control: { allow_list: ["*.example.com"] } };
    await server.client().createSandbox({
      name: "box",
      snapshotName: "snap",
      timeout: 45,
      waitForReady: true,
      idleTtlSeconds: 600,
      deleteAfterStopSeconds: 0,
      vCpus: 2,
      memBytes: 1024,
      fsCapacityBytes: 2048,
      proxyConfig,
    });
    const [request] = server.requests;
    expect(JSON.parse(String(request?.body))).toEqual({
      wait_for_ready: true,
      timeout: 45,
      name: "box",
      snapshot_name: "snap",
      idle_ttl_seconds: 600,
      delete_after_stop_seconds: 0,
      vcpus: 2,
      mem_bytes: 1024,
      fs_capacity_bytes: 2048,
      proxy_config: proxyConfig,
    });
    expect(request?.headers["x-api-key"]).toBe("the-key");
  });

  it("has its defaults, and the positional form", async () => {
    server.routes["POST /boxes"] = () => ({ json: READY });
    const client = server.client();
    await client.createSandbox();
    await client.createSandbox("snap-id");
    await client.createSandbox(undefined, { waitForReady: false });
    expect(server.requests.map(({ body }) => JSON.parse(String(body)))).toEqual([
      { wait_for_ready: true, timeout: 30 },
      { wait_for_ready: true, timeout: 30, snapshot_id: "snap-id" },
      { wait_for_ready: false },
    ]);
  });

  it("gives a Sandbox with the data of the wire and nothing that shadows a method", async () => {
    server.routes["POST /boxes"] = () => ({
      json: { ...READY, id: "i", vcpus: 2, stopped_at: null, run: "no", isolation: { mode: "root" }, size_class: "m" },
    });
    const sandbox = await server.client().createSandbox();
    expect(sandbox).toBeInstanceOf(sandwire.Sandbox);
    expect(sandbox).toMatchObject({
      id: "i",
      name: "box",
      status: "ready",
      vcpus: 2,
      vCpus: 2,
      isolation: { mode: "root" },
    });
    expect(sandbox.stopped_at).toBeUndefined();
    expect(sandbox.run).toBeTypeOf("function");
    expect(JSON.parse(JSON.stringify(sandbox))).toMatchObject({ name: "box", dataplane_url: READY.dataplane_url });
    expect(String(sandbox)).toBe('[Sandbox name="box"]');
  });

  it.each([
    [408, standard("Timeout", "last status: provisioning"), "ResourceTimeoutError", { resourceType: "sandbox" }],
    [
      422,
      { detail: [{ loc: ["body", "vcpus"], msg: "too many", type: "value_error" }] },
      "ValidationError",
      { field: "vcpus" },
    ],
    [
      422,
      standard("ImagePull", "no such image"),
      "ResourceCreationError",
      { resourceType: "sandbox", errorType: "ImagePull" },
    ],
    [429, standard("Quota", "sandbox count limit"), "QuotaExceededError", { quotaType: "sandbox_count" }],
    [503, standard("Unschedulable", "full"), "ResourceCreationError", { errorType: "Unschedulable" }],
    [
      401,
      standard("Unauthorized", "no key"),
      "SandboxAuthenticationError",
      { code: "AUTHENTICATION_FAILED", retryable: false },
    ],
    [403, standard("Unauthorized", "wrong key"), "SandboxAuthenticationError", {}],
    [500, standard("InternalError", "oops"), "SandboxAPIError", {}],
    [409, standard("Conflict", "taken"), "ResourceAlreadyExistsError", { resourceType: "sandbox", retryable: false }],
    [418, "not json" as never, "SandboxClientError", {}],
  ])("%i becomes its class", async (status, json, name, attributes) => {
    server.routes["POST /boxes"] = () => ({ status, json });
    const error = await rejection(server.client().createSandbox());
    expect(error).toMatchObject({ name, ...attributes });
    expect(error).toBeInstanceOf(sandwire.SandboxClientError);
    expect(error.stack).toContain("client.test.ts");
  });
});

describe("the other calls", () => {
  it("get, list, status, delete", async () => {
    server.routes["GET /boxes/a%2Fb"] = () => ({ json: { ...READY, name: "a/b" } });
    server.routes["GET /boxes"] = () => ({
      json: { sandboxes: [READY, { name: "two" }], items: [READY, { name: "two" }] },
    });
    server.routes["GET /boxes/box/status"] = () => ({ json: { status: "failed", status_message: "no room" } });
    server.routes["DELETE /boxes/box"] = () => ({ status: 204, body: "" });
    const client = server.client();
    expect((await client.getSandbox("a/b")).name).toBe("a/b");
    expect((await client.listSandboxes()).map(({ name }) => name)).toEqual(["box", "two"]);
    expect(await client.getSandboxStatus("box")).toEqual({ status: "failed", status_message: "no room" });
    expect(await client.deleteSandbox("box")).toBeUndefined();
  });

  it("members of a newer server change nothing", async () => {
    const news = { run_config: { user: "1000", env_vars: {} }, labels: { a: "b" }, persistent: true, next: [null] };
    const [one, two] = ["box", "two"].map((name) => ({ ...news, ...READY, name }));
    server.routes["GET /boxes"] = () => ({ json: { ...news, items: [one, two], sandboxes: [], next_cursor: null } });
    server.routes["GET /boxes/box"] = () => ({ json: one });
    server.routes["POST /boxes"] = () => ({ status: 201, json: one });
    server.routes["GET /boxes/box/status"] = () => ({ json: { ...news, status: "ready" } });
    const client = server.client();
    const sandboxes = [
      ...(await client.listSandboxes()),
      await client.getSandbox("box"),
      await client.createSandbox(),
      await client.waitForSandbox("box"),
    ];
    expect(sandboxes.map(({ name }) => name)).toEqual(["box", "two", "box", "box", "box"]);
    for (const { name, ...data } of sandboxes) expect({ ...data, name: "box" }).toEqual(READY);
    expect(await client.getSandboxStatus("box")).toMatchObject({ status: "ready" });
  });

  it("an unknown sandbox is not found, with its type", async () => {
    const client = server.client();
    const calls = [client.getSandbox("x"), client.deleteSandbox("x"), client.getSandboxStatus("x")];
    for (const error of await Promise.all(calls.map(rejection))) {
      expect(error).toBeInstanceOf(sandwire.ResourceNotFoundError);
      expect(error).toMatchObject({ resourceType: "sandbox", message: "Sandbox 'x' not found" });
    }
  });

  it("waitForSandbox polls until it is ready, fails with it, or gives up", async () => {
    const client = server.client();
    const states = ["provisioning", "provisioning", "ready"];
    server.routes["GET /boxes/box/status"] = () => ({ json: { status: states.shift() ?? "ready" } });
    server.routes["GET /boxes/box"] = () => ({ json: READY });
    expect((await client.waitForSandbox("box", { pollInterval: 0.01 })).status).toBe("ready");
    expect(states).toEqual([]);
    server.routes["GET /boxes/box/status"] = () => ({ json: { status: "failed", status_message: "no room" } });
    const failed = await rejection(client.waitForSandbox("box"));
    expect(failed).toMatchObject({ name: "ResourceCreationError", resourceType: "sandbox" });
    expect(failed.message).toContain("no room");
    server.routes["GET /boxes/box/status"] = () => ({ json: { status: "provisioning" } });
    const late = await rejection(client.waitForSandbox("box", { timeout: 0.05, pollInterval: 0.01 }));
    expect(late).toMatchObject({ name: "ResourceTimeoutError", lastStatus: "provisioning", resourceType: "sandbox" });
  });

  it("refresh reads the data anew, delete deletes, dispose deletes only what sandbox() made", async () => {
    server.routes["POST /boxes"] = () => ({ json: { ...READY, status: "provisioning" } });
    server.routes["GET /boxes/box"] = () => ({ json: READY });
    server.routes["DELETE /boxes/box"] = () => ({ status: 204, body: "" });
    const deletes = () => server.requests.filter(({ method }) => method === "DELETE").length;
    const client = server.client();
    {
      await using kept = await client.createSandbox();
      expect(await kept.refresh()).toBe(kept);
      expect(kept.status).toBe("ready");
    }
    expect(deletes()).toBe(0);
    {
      await using _scoped = await client.sandbox();
    }
    expect(deletes()).toBe(1);
    {
      await using gone = await client.sandbox();
      server.routes["DELETE /boxes/box"] = () => ({ status: 404, json: {} });
      await expect(gone.delete()).rejects.toBeInstanceOf(sandwire.ResourceNotFoundError);
    }
  });
});

describe("connection", () => {
  it("no server: an error with the URL and the cause", async () => {
    const free = createServer();
    await new Promise<void>((resolve) => free.listen(0, "127.0.0.1", resolve));
    const { port } = free.address() as { port: number };
    await new Promise((resolve) => free.close(resolve));
    const client = new sandwire.SandboxClient({ apiEndpoint: `http://127.0.0.1:${port}`, apiKey: "k", maxRetries: 0 });
    const error = await rejection(client.listSandboxes());
    expect(error).toBeInstanceOf(sandwire.SandboxConnectionError);
    expect(error.retryable).toBe(true);
    expect(error.message).toContain(`http://127.0.0.1:${port}`);
    expect(`${error.message} ${error.cause?.message}`).toMatch(/refused/i);
    expect(error.cause).toBeInstanceOf(Error);
  });

  it("a server that never answers: an error after timeoutMs", async () => {
    server.routes["GET /boxes"] = () => undefined;
    const error = await rejection(server.client({ timeoutMs: 100 }).listSandboxes());
    expect(error).toBeInstanceOf(sandwire.SandboxConnectionError);
    await expect(server.client().listSandboxes({ timeoutMs: 100 })).rejects.toBeInstanceOf(
      sandwire.SandboxConnectionError,
    );
  });

  it("a refusal for now is retried as often as maxRetries says", async () => {
    server.routes["GET /boxes"] = () => ({ status: 429, json: {}, headers: { "retry-after": "0" } });
    expect(await rejection(server.client({ maxRetries: 1 }).listSandboxes())).toBeInstanceOf(
      sandwire.QuotaExceededError,
    );
    expect(server.requests).toHaveLength(2);
  });
});

describe("headers", () => {
  it("of the client and the call are merged whatever their case; an explicit key wins", async () => {
    server.routes["GET /boxes"] = () => ({ json: { sandboxes: [] } });
    const client = server.client({ headers: { "X-Team": "a", "X-One": "1" } });
    await client.listSandboxes();
    await client.listSandboxes({ headers: { "x-team": "b" } });
    await server.client({ headers: { "x-api-key": "mine" } }).listSandboxes();
    await server.client({ apiKey: "" }).listSandboxes();
    const sent = server.requests.map(({ headers }) => [headers["x-api-key"], headers["x-team"], headers["x-one"]]);
    expect(sent).toEqual([
      ["the-key", "a", "1"],
      ["the-key", "b", "1"],
      ["mine", undefined, undefined],
      [undefined, undefined, undefined],
    ]);
  });
});

describe("the environment", () => {
  it("gives endpoint and key where the configuration does not", async () => {
    for (const name of ["LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT", "LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"])
      vi.stubEnv(name, "");
    expect(new sandwire.SandboxClient().apiEndpoint).toBe("https://api.smith.langchain.com/v2/sandboxes");
    vi.stubEnv("LANGCHAIN_ENDPOINT", "https://other.example/");
    expect(new sandwire.SandboxClient().apiEndpoint).toBe("https://other.example/v2/sandboxes");
    vi.stubEnv("LANGSMITH_ENDPOINT", server.origin);
    vi.stubEnv("LANGSMITH_API_KEY", "from-env");
    server.routes["GET /boxes"] = () => ({ json: { sandboxes: [] } });
    await new sandwire.SandboxClient().listSandboxes();
    expect(server.requests[0]?.headers["x-api-key"]).toBe("from-env");
    expect(new sandwire.SandboxClient({ apiEndpoint: "http://h:1/x///" }).apiEndpoint).toBe("http://h:1/x");
  });
});

describe("abort", () => {
  it("before the call: the reason, and no request", async () => {
    const reason = new Error("never mind");
    await expect(server.client().listSandboxes({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(server.requests).toEqual([]);
  });

  it("in mid-flight: the reason, the connection is closed, no listener is left", async () => {
    const controller = new AbortController();
    const added = vi.spyOn(controller.signal, "addEventListener");
    const removed = vi.spyOn(controller.signal, "removeEventListener");
    const closed = new Promise((resolve) => {
      server.routes["GET /boxes"] = (_, response) => {
        response.on("close", resolve);
        controller.abort();
        return undefined;
      };
    });
    const error = await rejection(server.client().listSandboxes({ signal: controller.signal }));
    expect(error).toBe(controller.signal.reason);
    expect(error.name).toBe("AbortError");
    await closed;
    expect(added).toHaveBeenCalledTimes(removed.mock.calls.length);
  });

  it("by AbortSignal.timeout: its TimeoutError", async () => {
    server.routes["GET /boxes"] = () => undefined;
    const error = await rejection(server.client().listSandboxes({ signal: AbortSignal.timeout(50) }));
    expect(error.name).toBe("TimeoutError");
  });

  it("after the call: nothing", async () => {
    server.routes["GET /boxes"] = () => ({ json: { sandboxes: [] } });
    const controller = new AbortController();
    expect(await server.client().listSandboxes({ signal: controller.signal })).toEqual([]);
    controller.abort();
  });
});

describe("close", () => {
  it("ends what is under way, refuses what comes, and can be repeated", async () => {
    server.routes["GET /boxes"] = () => undefined;
    const client = server.client();
    const pending = rejection(client.listSandboxes());
    await vi.waitFor(() => expect(server.requests).toHaveLength(1));
    client.close();
    client.close();
    expect(await pending).toBeInstanceOf(sandwire.SandboxClientError);
    expect(await rejection(client.listSandboxes())).toBeInstanceOf(sandwire.SandboxClientError);
    expect(server.requests).toHaveLength(1);
  });
});

describe("secrets", () => {
  it("are in no string form, no JSON, no inspection and no message", async () => {
    const config = { apiKey: "sk-hunter2", headers: { "X-Service-Key": "sk-hunter2" } };
    const client = server.client(config);
    const sandbox = await server.sandbox({}, config);
    expect(String(client)).toBe(`[SandboxClient apiEndpoint="${server.endpoint}"]`);
    const errors = await Promise.all([
      rejection(client.getSandbox("x")),
      rejection(sandbox.run("true")),
      rejection(
        new sandwire.SandboxClient({ apiEndpoint: "http://127.0.0.1:1", maxRetries: 0, ...config }).listSandboxes(),
      ),
    ]);
    for (const value of [client, sandbox, ...errors]) {
      const forms = [String(value), JSON.stringify(value), inspect(value, { depth: 9, showHidden: true }), value.stack];
      expect(forms.join("\n")).not.toContain("hunter2");
    }
  });
});

describe("a sandbox", () => {
  it("shows its name, and its data as JSON; close() sends nothing and may be repeated", async () => {
    const sandbox = await server.sandbox({ id: "1", vcpus: 2, close: "from a newer server" });
    expect([String(sandbox), inspect(sandbox)]).toEqual(Array(2).fill('[Sandbox name="box"]'));
    const data = { id: "1", name: "box", status: "ready", dataplane_url: server.dataplane, vcpus: 2 };
    expect(JSON.parse(JSON.stringify(sandbox))).toEqual(data);
    server.requests.length = 0;
    sandbox.close();
    sandbox.close();
    await sandbox[Symbol.asyncDispose]();
    expect(server.requests).toEqual([]);
  });
});
