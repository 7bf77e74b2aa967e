import { LocalServer } from "sandwire";

const server = await LocalServer.start();
const sandbox = await server.client().createSandbox();
try {
  // A Python session under a terminal: read until it is ready, type, read on.
  const env = { PYTHON_BASIC_REPL: "1" }; // newer Pythons paint their prompt
  const python = await sandbox.run("python3 -q", { pty: true, env, wait: false });
  for await (const { data } of python) if (data.includes(">>>")) break; // pauses; nothing is lost
  await python.sendInput("print(6 * 7)\nexit()\n");
  for await (const { data } of python) process.stdout.write(data);

  // A command lives on without its handle: come back by its id, from here or from another process.
  const { commandId } = await sandbox.run("echo one; sleep 0.2; echo two", { wait: false });
  const again = await sandbox.reconnect(commandId);
  console.log(await new Response(again.stdout).text()); // a web stream, of bytes

  // Any signal, not just the end of everything.
  const job = await sandbox.run("exec sleep 600", { timeout: 0, wait: false });
  await job.kill("SIGTERM");
  const { exit_code, signal } = await job.result;
  console.log(`exit code ${exit_code} by signal ${signal}`);
} finally {
  await sandbox.delete();
  await server.close();
}
