// One webtorrent client over TCP, and over uTP where it is told to, for stories in which it is a peer like any other.
//
//   webtorrent_peer.mjs --torrent FILE | --magnet URI  --save DIR --port P [--peer HOST:PORT ...] [--utp] [--rc4]
//
// With --utp it dials over uTP and takes both; with --rc4 it speaks encrypted and not otherwise. Whom it cannot greet
// encrypted over uTP it would dial over TCP next, so it does not try there. Prints one JSON object a
// line: "listening", then "done" once all pieces are there. Ends when its standard input closes.
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";

import WebTorrent from "webtorrent";

import { obey, say } from "./lines.mjs";

const text = { type: "string" };
const { values: args } = parseArgs({
  options: {
    torrent: text, magnet: text, save: text, port: text,
    peer: { type: "string", multiple: true, default: [] },
    utp: { type: "boolean" }, rc4: { type: "boolean" },
  },
});

const client = new WebTorrent({
  torrentPort: Number(args.port),
  dht: false, lsd: false, natUpnp: false, natPmp: false,
  utp: args.utp ?? false,
  secure: args.rc4 ? 2 : args.utp ? 0 : 1,
});
const fail = (e) => say({ event: "error", message: String(e?.stack ?? e) });
client.on("error", fail);
client.on("listening", () => say({ event: "listening", port: client.torrentPort }));

const wanted = args.torrent ? new Uint8Array(await readFile(args.torrent)) : args.magnet;
const torrent = client.add(wanted, { path: args.save });
torrent.on("error", fail);
torrent.on("infoHash", () => args.peer.forEach((peer) => torrent.addPeer(peer)));
torrent.on("done", () => say({ event: "done" }));

await obey(() => {});
process.kill(process.pid, "SIGKILL");
