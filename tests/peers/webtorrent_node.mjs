// webtorrent in Node as WebRTC peers. Commands and events are those of peer.mjs; files are named by path: `torrent` is a
// .torrent, `files` are a payload's files in the torrent's order.
//
// Commands and events that carry `peer`, a number, are of a client of their own; without it, of the one that has none.
//
//   open   peer, offers?   -> "opened"    `offers`: at most so many an announce; else webtorrent's own number
import { readFile } from "node:fs/promises";

import WebTorrent from "webtorrent";

import { obey, say } from "./lines.mjs";
import { Peer } from "./peer.mjs";

const peers = new Map();

/** The client of a number, once it is ready; made when it is first spoken of. */
function client(number, offers) {
  const made = peers.get(number) ?? new Promise((done) => {
    const peer = new Peer(WebTorrent, (event) => say({ ...event, peer: number }), offers);
    peer.client.on("ready", () => done(peer));
  });
  peers.set(number, made);
  return made;
}

say({ event: "ready" });
await obey(async ({ peer: number, torrent, files, ...command }) => {
  const peer = await client(number, command.offers);
  if (command.do === "open") return say({ event: "opened", peer: number });
  if (torrent) command.torrent = new Uint8Array(await readFile(torrent));
  if (files) command.payload = new Uint8Array(Buffer.concat(await Promise.all(files.map((file) => readFile(file)))));
  await peer.obey(command);
});
// The WebRTC stack's own threads can outlast or crash an orderly exit.
process.kill(process.pid, "SIGKILL");
