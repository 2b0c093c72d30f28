// Helia as a peer of Bitswap over TCP, with all its blocks in memory, and verified-fetch over HTTP as a gateway to what it
// has. It knows no router: it asks and serves the peers that it is connected to.
//
// Says {"event":"ready","multiaddr","gateway"} first. Commands and their answers:
//
//   add      key, file          -> "added" with the CID of the file
//   connect  key, to            -> "connected"; `to` is a multiaddr with a peer id
//   fetch    key, cid           -> "fetched" with how many bytes there were, their SHA-256 and how long it took
//   requests key                -> "requests" with how many the HTTP side has had
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import { pipeline } from "node:stream/promises";

import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { withBitswap } from "@helia/bitswap";
import { withLibp2pLight } from "@helia/libp2p";
import { unixfs } from "@helia/unixfs";
import { createVerifiedFetch } from "@helia/verified-fetch";
import { identify } from "@libp2p/identify";
import { tcp } from "@libp2p/tcp";
import { multiaddr } from "@multiformats/multiaddr";
import { createHeliaLight } from "helia";
import { CID } from "multiformats/cid";

import { obey, say } from "./lines.mjs";

const helia = await withBitswap(
  withLibp2pLight(createHeliaLight(), {
    addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
    // By its own rules it would not dial this machine.
    connectionGater: { denyDialMultiaddr: () => false },
  }),
).start();
const files = unixfs(helia);
const verifiedFetch = await createVerifiedFetch(helia);

let requests = 0;
const gateway = createServer(async (request, response) => {
  requests += 1;
  const { pathname } = new URL(request.url, "http://127.0.0.1");
  const [, kind, root, ...rest] = pathname.split("/");
  if (kind !== "ipfs" || !root) return response.writeHead(404).end();
  // It takes formats by `Accept` alone.
  const headers = Object.fromEntries(["accept", "range"].flatMap((name) => {
    const value = request.headers[name];
    return value ? [[name, value]] : [];
  }));
  try {
    const { status, headers: told, body } = await verifiedFetch(`ipfs://${[root, ...rest].join("/")}`, {
      headers,
      session: false,
    });
    response.writeHead(status, Object.fromEntries(told));
    await (body && request.method !== "HEAD" ? pipeline(body, response) : response.end());
  } catch (e) {
    if (response.headersSent) response.destroy(e);
    else response.writeHead(500).end(String(e));
  }
});
await new Promise((done) => gateway.listen(0, "127.0.0.1", done));

async function fetched(cid) {
  const begun = performance.now();
  const hash = createHash("sha256");
  let [bytes, first] = [0, 0];
  for await (const part of files.cat(CID.parse(cid))) {
    first ||= performance.now() - begun;
    bytes += part.length;
    hash.update(part);
  }
  const total = performance.now() - begun;
  return { bytes, sha256: hash.digest("hex"), first_byte_ms: Math.round(first), total_ms: Math.round(total) };
}

say({
  event: "ready",
  multiaddr: String(helia.libp2p.getMultiaddrs()[0]),
  gateway: `http://127.0.0.1:${gateway.address().port}`,
});
await obey(async ({ do: what, key, file, to, cid }) => {
  switch (what) {
    case "add":
      return say({ event: "added", key, cid: String(await files.addByteStream(createReadStream(file))) });
    case "connect":
      await helia.libp2p.dial(multiaddr(to));
      return say({ event: "connected", key });
    case "fetch":
      return say({ event: "fetched", key, ...(await fetched(cid)) });
    case "requests":
      return say({ event: "requests", key, count: requests });
    default:
      throw new Error(`no such command: ${what}`);
  }
});
process.exit(0);
