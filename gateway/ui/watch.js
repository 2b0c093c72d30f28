// Watching as a peer: the viewer's browser joins the swarm over WebRTC with the webtorrent that the operator has installed,
// plays what it gets there and gives it to others. It meets them, and the gateway, at the gateway's own tracker.
import { at, Problem, send } from "./api.js";
import { h, say, voiceOf } from "./dom.js";
import { player } from "./player.js";
import { problem } from "./problem.js";
import { of as subtitlesOf } from "./subtitles.js";
import { isFilm } from "./torrent.js";
import { bytes, count, rate } from "./words.js";

const LOOK_EVERY_MS = 1000;
/** How far ahead of the player the gateway is asked for pieces, in bytes, and how many it is asked for at once. */
const [AHEAD, MOST_ASKED] = [8 * 1024 * 1024, 4];
const ASK_AGAIN_MS = 15_000;
/** Browsers put a worker to sleep that has heard nothing for 30 s. */
const AWAKE_EVERY_MS = 15_000;
/** After that long without a peer the page says what may be in the way. */
const SLOW_MS = 20_000;

const main = document.querySelector("main");
const left = new AbortController();
const { signal } = left;
voiceOf(document.body);
addEventListener("pagehide", () => left.abort());
// What a browser has put aside has left the swarm.
addEventListener("pageshow", (event) => event.persisted && location.reload());
addEventListener("hashchange", () => location.reload());

show().catch((error) => signal.aborted || main.replaceChildren(problem(error, () => location.reload())));

async function show() {
  const [id, number] = location.hash.slice(1).split("/");
  if (!/^[0-9a-f]{40}$/.test(id) || !/^\d+$/.test(number ?? "")) {
    throw new Problem({ title: "This names no film", detail: "Open a film of a torrent, and choose “Watch as a peer” there." });
  }
  if (!isSecureContext || !navigator.serviceWorker || !globalThis.RTCPeerConnection) {
    throw new Problem({ title: "This browser cannot join a swarm here", detail: "It needs WebRTC and service workers, which browsers have on HTTPS and on localhost alone." });
  }
  const state = h("p", { role: "status" }, "Asking the gateway for the film…");
  main.replaceChildren(h("section", { class: "search" }, h("h1", {}, "Joining the swarm"), h("p", { class: "hash" }, id), h("progress", { "aria-label": "Joining" }), state));
  const meta = await (await send(at(`bt/${id}/?format=json`), { signal })).json();
  const file = meta.files.find(({ index }) => String(index) === number);
  if (!file || !isFilm(file)) throw new Problem({ title: "There is no such film", detail: `File ${number} of ${meta.name} is none that plays.` });
  const href = new URL(file.url, at(`bt/${id}/`)).href;
  // From then on the gateway is a peer of the swarm, and its tracker serves it.
  await ask(href, 0);
  const [WebTorrent] = await Promise.all([webtorrent(), worker()]);

  say(state, "Looking for peers at the gateway's tracker…");
  const client = new WebTorrent({ dht: false, lsd: false, natUpnp: false, natPmp: false, tracker: { rtcConfig: { iceServers: [] } } });
  signal.addEventListener("abort", () => client.destroy());
  const torrent = client.add(`magnet:?xt=urn:btih:${id}&tr=${encodeURIComponent(tracker().href)}`, { store: Pieces, deselect: true });
  torrent.on("wire", () => say(state, `${count(torrent.numPeers, "peer")} found.`));
  const slow = setTimeout(() => torrent.numPeers || say(state, "No peer has answered yet. Does UDP pass between this browser and the gateway?"), SLOW_MS);
  await new Promise((done, failed) => {
    torrent.once("ready", done);
    const broken = ({ message }) => failed(new Problem({ title: "The swarm cannot be joined", detail: message }));
    for (const one of [client, torrent]) one.on("error", broken);
  }).finally(() => clearTimeout(slow));
  const film = torrent.files.find(({ offset, length }) => offset === file.offset && length === file.len);
  if (!film) throw new Problem({ title: "There is no such film", detail: "The swarm's list of files is another than the gateway's." });
  if (!signal.aborted) play(meta, file, href, torrent, film);
}

function play(meta, file, href, torrent, film) {
  const urge = urging(torrent, film, href);
  navigator.serviceWorker.addEventListener("message", ({ data, ports: [port] }) => data?.film && hand(film, file.type, data.range, port, urge));
  navigator.serviceWorker.startMessages();
  const facts = h("p", { class: "facts" });
  const look = () => {
    urge();
    say(facts, `${count(torrent.numPeers, "peer")} · ↓ ${rate(torrent.downloadSpeed)} (${bytes(torrent.downloaded)}) · ↑ ${rate(torrent.uploadSpeed)} (${bytes(torrent.uploaded)})`);
  };
  const timers = [setInterval(look, LOOK_EVERY_MS), setInterval(() => navigator.serviceWorker.controller?.postMessage("awake"), AWAKE_EVERY_MS)];
  signal.addEventListener("abort", () => timers.forEach(clearInterval));
  const name = file.path.slice(file.path.lastIndexOf("/") + 1);
  const page = at(`#/bt/${meta.infohash}/@${file.index}`).href;
  const root = at(`bt/${meta.infohash}/`);
  document.title = `${name} – swarmgate`;
  main.replaceChildren(
    h(
      "article",
      { class: "watch" },
      h("h1", {}, name),
      player(
        {
          url: at(`ui/film/${meta.infohash}/${file.index}`).href,
          title: name,
          sound: file.type.startsWith("audio/"),
          key: `${meta.infohash}/${file.index}`,
          subtitles: subtitlesOf(file, meta.files, isFilm).map((it) => ({ ...it, url: new URL(it.file.url, root).href })),
          pieces: () => runsOf(torrent, film),
          state: () => ({ peers: torrent.numPeers, download_rate: torrent.downloadSpeed }),
        },
        signal,
      ),
      facts,
      h("p", { class: "quiet" }, "Your browser is a peer of the swarm: it gives others what it has, and they see its address. It leaves with this page."),
      h("p", { class: "actions" }, h("a", { class: "button", href: page }, "Watch without joining")),
    ),
  );
  look();
}

/** The gateway's tracker, by the name by which this page has reached it. */
function tracker() {
  const url = at("announce");
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

async function webtorrent() {
  try {
    return (await import(at("ui/webtorrent.min.js").href)).default;
  } catch (error) {
    throw new Problem({ title: "This gateway's webtorrent cannot be loaded", detail: `What the operator has named in ui.webtorrent is no module: ${error.message}` });
  }
}

/** Has the worker answer for this page. */
async function worker() {
  const { serviceWorker } = navigator;
  await serviceWorker.register(at("ui/worker.js").href, { scope: at("ui/").href });
  const { active } = await serviceWorker.ready;
  if (serviceWorker.controller) return;
  const controlled = new Promise((done) => serviceWorker.addEventListener("controllerchange", done, { once: true }));
  // A page that was loaded past the worker is taken by none unasked.
  active.postMessage("claim");
  await controlled;
}

/** Asks the gateway for one byte, so that it has the piece around it, and gives it to the swarm. */
async function ask(href, byte) {
  await (await send(href, { signal, headers: { accept: "*/*", range: `bytes=${byte}-${byte}` } })).arrayBuffer();
}

/** What asks the gateway for the pieces that the player needs next and nobody has sent; it is told what byte it reads. */
function urging(torrent, film, href) {
  const asked = new Map();
  let [underWay, reading] = [0, 0];
  return (byte = reading) => {
    reading = byte;
    const { pieceLength, bitfield } = torrent;
    const of = (at) => Math.floor((film.offset + at) / pieceLength);
    const first = of(Math.min(reading, film.length - 1));
    const last = Math.min(of(film.length - 1), first + Math.ceil(AHEAD / pieceLength));
    for (let piece = first; piece <= last && underWay < MOST_ASKED; piece += 1) {
      if (bitfield.get(piece) || performance.now() - (asked.get(piece) ?? -ASK_AGAIN_MS) < ASK_AGAIN_MS) continue;
      asked.set(piece, performance.now());
      underWay += 1;
      ask(href, Math.max(0, piece * pieceLength - film.offset))
        .catch(() => {
          // Another peer may have it; else it is asked for again.
        })
        .finally(() => (underWay -= 1));
    }
  };
}

/** Hands a range of the film to the worker, part by part as it is asked for more. */
function hand(film, type, range, port, urge) {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  const start = Number(first ?? 0);
  const end = Math.min(last ? Number(last) : Infinity, film.length - 1);
  if (start > end) return port.postMessage({ status: 416, headers: { "content-range": `bytes */${film.length}` } });
  const parts = film[Symbol.asyncIterator]({ start, end });
  let next = start;
  port.onmessage = async ({ data }) => {
    if (data !== "more") {
      parts.return?.();
      return port.close();
    }
    urge(next);
    const { value, done } = next > end ? { done: true } : await parts.next();
    if (done) {
      parts.return?.();
      return port.postMessage(null);
    }
    const part = value.slice(0, end + 1 - next);
    next += part.length;
    port.postMessage(part, [part.buffer]);
  };
  const headers = { "content-type": type, "content-length": String(end + 1 - start), "accept-ranges": "bytes", "cache-control": "no-store" };
  if (first === undefined) return port.postMessage({ status: 200, headers });
  port.postMessage({ status: 206, headers: { ...headers, "content-range": `bytes ${start}-${end}/${film.length}` } });
}

/** The runs of the film that this browser has, each from and to in parts of one. */
function runsOf({ pieceLength, bitfield }, { offset, length }) {
  const runs = [];
  const part = (piece) => Math.min(1, Math.max(0, (piece * pieceLength - offset) / length));
  for (let piece = Math.floor(offset / pieceLength); piece * pieceLength < offset + length; piece += 1) {
    if (!bitfield.get(piece)) continue;
    const run = runs.at(-1);
    if (run?.[1] === part(piece)) run[1] = part(piece + 1);
    else runs.push([part(piece), part(piece + 1)]);
  }
  return runs;
}

/** A store for webtorrent (npm abstract-chunk-store) of blobs, which browsers put on the disk where memory is short. */
class Pieces {
  #blobs = new Map();

  constructor(chunkLength) {
    this.chunkLength = chunkLength;
  }

  put(index, bytes, done = () => {}) {
    this.#blobs.set(index, new Blob([bytes]));
    queueMicrotask(() => done(null));
  }

  get(index, options, done) {
    if (typeof options === "function") return this.get(index, null, options);
    const blob = this.#blobs.get(index);
    if (!blob) return queueMicrotask(() => done(new Error(`piece ${index} is not here`)));
    const from = options?.offset ?? 0;
    const to = from + (options?.length ?? blob.size - from);
    blob.slice(from, to).arrayBuffer().then((buffer) => done(null, new Uint8Array(buffer)), done);
  }

  close(done = () => {}) {
    this.#blobs.clear();
    queueMicrotask(() => done(null));
  }

  destroy(done) {
    this.close(done);
  }
}
