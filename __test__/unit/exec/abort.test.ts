// Abort signals, down to the `kill` that the server gets.

import { getEventListeners } from "node:events";
import { describe, expect, it, vi } from "vitest";

import { onKill, out, rejection, server, useScripted } from "../scripted.js";

useScripted();

describe("abort", () => {
  const modes: Array<[string, object]> = [
    ["waiting", {}],
    ["with callbacks", { onStdout: () => {} }],
  ];

  it.each(modes)("%s: the remote command is killed, then the reason", async (_, options) => {
    server.play([out("a")], onKill);
    const sandbox = await server.sandbox();
    const controller = new AbortController();
    const pending = rejection(sandbox.run("sleep 99", { ...options, signal: controller.signal }));
    await vi.waitFor(() => expect(server.frames).toHaveLength(1));
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await pending).toBe(reason);
    await vi.waitFor(() => expect(server.frames.map(({ type }) => type)).toContain("kill"));
  });

  it.each(modes)("%s: with reject: false, the outcome `aborted` and what there was", async (_, options) => {
    server.play([out("a")], onKill);
    const sandbox = await server.sandbox();
    const controller = new AbortController();
    const pending = sandbox.run("sleep 99", { ...options, signal: controller.signal, reject: false });
    await vi.waitFor(() => expect(server.frames).toHaveLength(1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    controller.abort();
    expect(await pending).toMatchObject({ outcome: "aborted", stdout: "a", success: false });
  });

  it("reaches all commands that share a signal; Node sees one listener and warns of no leak", async () => {
    server.play([out("a")], onKill);
    const sandbox = await server.sandbox();
    const warned = vi.fn();
    process.on("warning", warned);
    const controller = new AbortController();
    const { signal } = controller;
    const reason = new Error("enough");
    const handles = await Promise.all(Array.from({ length: 20 }, () => sandbox.run("x", { signal, wait: false })));
    handles[0]?.close();
    const results = [...handles.slice(1).map(({ result }) => result), sandbox.run("x", { signal })];
    const told = Promise.all(results.map(rejection));
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    await vi.waitFor(() => expect(server.frames).toHaveLength(21));
    controller.abort(reason);
    expect(new Set(await told)).toEqual(new Set([reason]));
    expect(server.frames.filter(({ type }) => type === "kill")).toHaveLength(20);
    process.off("warning", warned);
    expect(warned).not.toHaveBeenCalled();
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  it("before the start: nothing is sent", async () => {
    const sandbox = await server.sandbox();
    await expect(sandbox.run("x", { signal: AbortSignal.abort() })).rejects.toThrow("aborted");
    expect(server.upgrades).toEqual([]);
  });
});
