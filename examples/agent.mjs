import { LocalServer } from "sandwire";

const program = `
for n in range(2, 20):
    if all(n % d for d in range(2, n)):
        print(n, flush=True)
`;

const server = await LocalServer.start(); // makes real sandboxes on this machine: no Docker, no account
const client = server.client();
const sandbox = await client.createSandbox();
try {
  await sandbox.write("/home/user/primes.py", program);

  const handle = await sandbox.run("python3 /home/user/primes.py", { wait: false });
  for await (const chunk of handle) {
    process.stdout.write(chunk.data); // as it is printed, not at the end
  }

  const { exit_code } = await handle.result;
  console.log(`exit code ${exit_code}`);
} finally {
  await sandbox.delete();
  await server.close();
}
