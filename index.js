"use strict";

const { classes, aliases } = require("./lib/errors.js");
const { SandboxClient } = require("./lib/client.js");
const { Sandbox } = require("./lib/sandbox.js");
const { CommandHandle } = require("./lib/command.js");
const { ExecutionResult } = require("./lib/result.js");
const { LocalServer } = require("./lib/server.js");
const { runWsStream, reconnectWsStream } = require("./lib/frames.js");

const main = { SandboxClient, Sandbox, CommandHandle, ExecutionResult, LocalServer };
module.exports = { ...main, runWsStream, reconnectWsStream, ...classes, ...aliases };
