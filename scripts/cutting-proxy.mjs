// A TCP proxy that cuts every connection after a random number of bytes from the server to the client: half of them with
// a reset, which takes along what the client has not read yet. The same seed cuts the same way.

import { once } from "node:events";
import { connect, createServer } from "node:net";

const KIB = 1024;

/**
 * @param {{ port: number, seed?: number, min?: number, max?: number }} options the server's port, and the bounds of what a
 *   connection may carry
 */
export async function startCuttingProxy({ port, seed = 1, min = 256 * KIB, max = 4096 * KIB }) {
  const random = generator(seed);
  const open = new Set();
  let cuts = 0;
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const upstream = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    const limit = Math.floor(min + random() * (max - min));
    const reset = random() < 0.5;
    const drop = () => [client, upstream].forEach((socket) => socket.destroy());
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on("error", drop);
      socket.once("close", () => (open.delete(socket), drop()));
    }
    client.pipe(upstream);
    forward(upstream, client, limit, () => {
      cuts += 1;
      upstream.destroy();
      if (reset) client.resetAndDestroy();
      else client.destroy();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** How many connections were cut so far. */
    get cuts() {
      return cuts;
    },
    async close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

/** Passes `limit` bytes on, then calls `cut`, as soon as they were handed to the network. */
function forward(from, to, limit, cut) {
  let left = limit;
  from.on("data", (data) => {
    if (left === 0) return;
    const part = data.subarray(0, left);
    left -= part.length;
    if (left === 0) return void to.write(part, cut);
    if (!to.write(part)) {
      from.pause();
      to.once("drain", () => from.resume());
    }
  });
  from.on("end", () => left > 0 && to.end());
}

/** A small generator of numbers in [0, 1) that a seed decides (mulberry32). */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
