// Upload and download.

import { describe, expect, it } from "vitest";

import { rejection, server, useScripted } from "../scripted.js";

useScripted();

describe("files", () => {
  it("write uploads the bytes, read downloads them", async () => {
    server.routes["POST /sandboxes/1/upload"] = () => ({ json: {} });
    server.routes["GET /sandboxes/1/download"] = () => ({ body: Buffer.from([0, 255, 10]) });
    const sandbox = await server.sandbox();
    server.requests.length = 0;
    await sandbox.write("/a b/ü?.bin", new Uint8Array([9, 0, 255, 10]).subarray(1));
    expect([...(await sandbox.read("/a b/ü?.bin", 5))]).toEqual([0, 255, 10]);
    const [upload, download] = server.requests;
    for (const request of [upload, download]) {
      expect(new URL(request?.path ?? "", "http://h").searchParams.get("path")).toBe("/a b/ü?.bin");
      expect(request?.headers["x-api-key"]).toBe("the-key");
    }
    expect(upload?.headers["content-type"]).toMatch(/^multipart\/form-data/);
    expect(upload?.body.includes(Buffer.from([0, 255, 10]))).toBe(true);
    expect(upload?.body.toString("latin1")).toMatch(/name="file"; filename="file"/);
  });

  it.each([
    [404, { detail: { error: "FileNotFound", message: "gone" } }, "ResourceNotFoundError", { resourceType: "file" }],
    [
      500,
      { detail: { error: "ReadError", message: "broken" } },
      "SandboxOperationError",
      { operation: "read", errorType: "ReadError" },
    ],
    [
      403,
      { detail: { error: "PermissionDenied", message: "no" } },
      "SandboxOperationError",
      { errorType: "PermissionDenied" },
    ],
    [400, { detail: { error: "NotReady", message: "wait" } }, "SandboxNotReadyError", {}],
    [503, { detail: { error: "ServiceUnavailable", message: "wait" } }, "SandboxNotReadyError", {}],
  ])("read: %i becomes its class", async (status, json, name, attributes) => {
    server.routes["GET /sandboxes/1/download"] = () => ({ status, json });
    expect(await rejection((await server.sandbox()).read("/a"))).toMatchObject({ name, ...attributes });
  });
});
