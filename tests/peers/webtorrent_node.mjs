// webtorrent in Node as a WebRTC peer: one client a process. Commands and events are those of peer.mjs; files are named
// by path: `torrent` is a .torrent, `files` are a payload's files in the torrent's order.
import { readFile } from "node:fs/promises";

import WebTorrent from "webtorrent";

import { obey, say } from "./lines.mjs";
import { Peer } from "./peer.mjs";

const peer = new Peer(WebTorrent, say);
peer.client.on("ready", () => say({ event: "ready" }));

await obey(async ({ torrent, files, ...command }) => {
  if (torrent) command.torrent = new Uint8Array(await readFile(torrent));
  if (files) command.payload = new Uint8Array(Buffer.concat(await Promise.all(files.map((file) => readFile(file)))));
  await peer.obey(command);
});
// The WebRTC stack's own threads can outlast or crash an orderly exit.
process.kill(process.pid, "SIGKILL");
