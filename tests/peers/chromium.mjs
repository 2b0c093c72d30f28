// webtorrent in Chromium: one browser, and every page in it a peer with a profile of its own. The commands of peer.mjs
// carry `peer`, the page's number, and so do its events. Beside those:
//
//   open   peer, hidden?, deaf?
//                          -> "opened"    `hidden`: as an ordinary visitor, whose addresses mDNS names stand for;
//                                         `deaf`: answers to its offers never reach it
//   close  peer            -> "closed"    the tab is closed
//   crash  peer            -> "closed"    its process is gone from one moment to the next, without a word to anybody
//
// The browser's profile is below TMPDIR. It is driven through a pipe, and ends when this program does, however it ends.
import { createReadStream } from "node:fs";
import { createServer } from "node:http";

import { chromium } from "playwright-core";

import { obey, say } from "./lines.mjs";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
  // Else a page has no candidates on a machine that has nothing but loopback.
  "--allow-loopback-in-peer-connection",
];
// A page that may use a microphone is trusted with the machine's addresses.
const TRUSTED = ["microphone", "camera"];

/** What pages load: the page itself, the client, and the files that commands name, each by a number. */
const files = [];
const SERVED = {
  "/": [new URL("webtorrent_page.html", import.meta.url), "text/html"],
  "/peer.mjs": [new URL("peer.mjs", import.meta.url), "text/javascript"],
  "/webtorrent.min.js": [
    `${process.env.SWARMGATE_NODE_MODULES}/webtorrent/dist/webtorrent.min.js`,
    "text/javascript",
  ],
};

const server = createServer((request, response) => {
  const number = /^\/file\/(\d+)$/.exec(request.url)?.[1];
  const [path, type] = number ? [files[number], "application/octet-stream"] : (SERVED[request.url] ?? []);
  if (!path) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": type, "cache-control": "no-store" });
  createReadStream(path).on("error", (e) => response.destroy(e)).pipe(response);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const origin = `http://127.0.0.1:${server.address().port}`;
const url = (path) => `/file/${files.push(path) - 1}`;

const browser = await chromium.launch({
  executablePath: process.env.SWARMGATE_CHROMIUM,
  headless: true,
  args: FLAGS,
});
let ending = false;
browser.on("disconnected", () => ending || process.exit(1));
const pages = new Map();

/** Runs in a page before anything else. */
function takeNoAnswer() {
  const take = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function (description) {
    return description.type === "answer" ? new Promise(() => {}) : take.call(this, description);
  };
}

async function open(peer, { hidden, deaf }) {
  const context = await browser.newContext(hidden ? {} : { permissions: TRUSTED });
  const page = await context.newPage();
  pages.set(peer, page);
  if (deaf) await page.addInitScript(takeNoAnswer);
  page.on("pageerror", (e) => say({ event: "error", peer, message: String(e) }));
  await page.exposeFunction("say", (event) => say({ ...event, peer }));
  await page.goto(origin);
}

async function close(peer, crash) {
  const page = pages.get(peer);
  pages.delete(peer);
  if (crash) {
    const gone = new Promise((done) => page.once("crash", done));
    const session = await page.context().newCDPSession(page);
    session.send("Page.crash").catch(() => {});
    await gone;
  }
  await page.context().close();
  say({ event: "closed", peer });
}

say({ event: "ready", version: browser.version() });
await obey(async ({ peer, torrent, files: paths, ...command }) => {
  if (command.do === "open") return open(peer, command);
  if (command.do === "close" || command.do === "crash") return close(peer, command.do === "crash");
  if (torrent) command.torrent = url(torrent);
  if (paths) command.files = paths.map(url);
  await pages.get(peer).evaluate((command) => window.tell(command), command);
});
ending = true;
await browser.close();
process.exit(0);
