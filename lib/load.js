"use strict";
// Finds the native parts. Nothing here runs at import: bundlers, type checkers and the parts of a program that never use
// a sandbox must be able to load the package where its binary is missing.

const { existsSync } = require("node:fs");
const { dirname, join } = require("node:path");
const { classes } = require("./errors.js");
const { version } = require("../package.json");

const ROOT = dirname(__dirname);
const BUILT = [
  "linux-x64-gnu",
  "linux-arm64-gnu",
  "linux-x64-musl",
  "linux-arm64-musl",
  "darwin-x64",
  "darwin-arm64",
  "win32-x64-msvc",
];

let loaded;

/** For example `glibc 2.36`; empty off Linux. */
function libc() {
  if (process.platform !== "linux") return "";
  const header = /** @type {any} */ (process.report?.getReport())?.header;
  return header?.glibcVersionRuntime ? `glibc ${header.glibcVersionRuntime}` : "musl";
}

/** The name of this machine's platform package, without its scope. */
function platformName() {
  const { platform, arch } = process;
  if (platform === "linux") return `linux-${arch}-${libc() === "musl" ? "musl" : "gnu"}`;
  return platform === "win32" ? `win32-${arch}-msvc` : `${platform}-${arch}`;
}

/** The native binding, loaded at the first use. */
function binding() {
  if (loaded) return loaded;
  let native;
  try {
    native = require("../binding.js");
  } catch (error) {
    throw loadError(error);
  }
  if (native.version() !== version) {
    const message = `the native part has version ${native.version()}, the package ${version}`;
    throw loadError(new Error(`${message}; two versions of sandwire are mixed`));
  }
  return (loaded = native);
}

/** The messages of an error and of all its causes: the loader chains one per file it tried. */
function reasons(error) {
  const messages = [];
  for (let at = error; at instanceof Error && messages.length < 20; at = at.cause) {
    messages.push(at.message.split("\nRequire stack:")[0].trim());
  }
  return messages;
}

function remedy(platform) {
  if (existsSync(join(ROOT, "Cargo.toml"))) return "npm run build";
  if (BUILT.includes(platform)) return `npm install --include=optional sandwire@${version}`;
  return null;
}

function loadError(error) {
  const platform = platformName();
  const command = remedy(platform);
  const runtime = `${process.versions.bun ? "bun" : "node"} ${process.version}`;
  const lines = [
    `sandwire could not load its native part for ${[platform, libc(), runtime].filter(Boolean).join(", ")}.`,
    "What was tried:",
    ...reasons(error).map((reason) => `  - ${reason.replaceAll("\n", "\n    ")}`),
    command ? `To repair it, run: ${command}` : `There is no build for ${platform}; there are: ${BUILT.join(", ")}.`,
  ];
  return new classes.UnsupportedError(lines.join("\n"), { cause: error, phase: "load", remedy: command });
}

function platformPackage() {
  try {
    return dirname(require.resolve(`@sandwire/native-${platformName()}/package.json`));
  } catch {
    return null;
  }
}

/** Where `sandwired` may be: installed beside the addon, or built in a checkout. */
function serverPaths() {
  const override = process.env.SANDWIRE_SERVER_PATH;
  if (override) return [override];
  const folders = [
    platformPackage(),
    join(ROOT, "npm", platformName()),
    join(ROOT, "target", "release"),
    join(ROOT, "target", "debug"),
  ];
  return folders.filter((folder) => folder !== null).map((folder) => join(folder, "sandwired"));
}

module.exports = { binding, platformName, serverPaths, version };
