// One torrent: its files, what can be done with them, and the player when the address names one that plays.
import { at, get, happenings, Problem, send, tell } from "./api.js";
import { chooser } from "./choose.js";
import { copyButton, h, say } from "./dom.js";
import { factsOf } from "./home.js";
import { keepButton } from "./keep.js";
import { labelsOf } from "./labels.js";
import { archives, elsewhere, linkButton, playlistLink } from "./links.js";
import { peers } from "./peers.js";
import { player } from "./player.js";
import { qrButton } from "./qr.js";
import { of as subtitlesOf } from "./subtitles.js";
import { bytes, count, span } from "./words.js";

/** How long the first question for the files may take, and one that is asked by hand, in seconds. */
const [FIRST_WAIT, LONG_WAIT] = [30, 120];
const LOOK_EVERY_MS = 1500;
/** Folders of small torrents are open from the start. */
const FEW_FILES = 24;

export const isFilm = (file) => /^(?:video|audio)\//.test(file.type) && file.type !== "audio/x-mpegurl";

export async function show(main, { segments: [, id, ...path], query, signal, retitle }) {
  const meta = await resolve(main, id, Number(query.get("wait")) || FIRST_WAIT, signal, retitle);
  if (signal.aborted) return;
  const root = at(`bt/${meta.infohash}/`);
  const files = meta.files.map((file) => ({ ...file, href: new URL(file.url, root).href }));
  const torrent = { ...meta, root, files };
  const file = fileAt(files, path);
  if (path.length > 0 && !file && !files.some((it) => it.path.startsWith(`${path.join("/")}/`))) {
    throw new Problem({ title: "There is no such file", detail: `“${path.join("/")}” is not in ${meta.name}.` });
  }
  retitle(file ? nameOf(file) : meta.name);
  main.replaceChildren();
  if (file) main.append(watch(torrent, file, signal));
  main.append(await overview(torrent, file, path, signal));
}

/** Gets the file list, and meanwhile tells how the search goes. */
async function resolve(main, id, wait, signal, retitle) {
  retitle("Looking for the files");
  const state = h("p", { role: "status" }, "Asking trackers, the DHT and peers…");
  main.append(h("section", { class: "search" }, h("h1", {}, "Looking for the files"), h("p", { class: "hash" }, id), h("progress", { "aria-label": "Searching" }), state));
  const began = performance.now();
  const look = async () => {
    const item = await get(`items/${id}`, { signal }).catch(() => null);
    const found = item ? `${count(item.peers, "peer")} so far` : "Nobody yet";
    if (!signal.aborted) say(state, `${found}, after ${span(performance.now() - began)}.`);
  };
  const timer = setInterval(look, LOOK_EVERY_MS);
  try {
    const url = at(`bt/${encodeURIComponent(id)}/?format=json&wait=${wait}`);
    return await (await send(url, { signal })).json();
  } catch (error) {
    if (error.document?.retry_after_s) {
      // So that another try has more patience.
      error.document.hints = ["It may still be found: try again, and it is looked for longer."];
      history.replaceState(null, "", location.hash.replace(/(\?.*)?$/, `?wait=${LONG_WAIT}`));
    }
    throw error;
  } finally {
    clearInterval(timer);
  }
}

/** The file that a path names, or a number after `@`. */
function fileAt(files, path) {
  const named = files.find((file) => file.path === path.join("/"));
  const numbered = path.length === 1 && /^@\d+$/.test(path[0]) && files.find((file) => `@${file.index}` === path[0]);
  return named || numbered || null;
}

const nameOf = (file) => file.path.slice(file.path.lastIndexOf("/") + 1);

function pageOf(torrent, file) {
  const path = file.path.split("/");
  const plain = path.every((part) => part && part !== "." && part !== "..");
  const rest = plain ? path.map(encodeURIComponent).join("/") : `@${file.index}`;
  return `#/bt/${torrent.infohash}/${rest}`;
}

function watch(torrent, file, signal) {
  const films = torrent.files.filter(isFilm).sort((one, other) => one.path.localeCompare(other.path, "en", { numeric: true }));
  const next = films[films.findIndex((film) => film.index === file.index) + 1];
  const playing = !isFilm(file)
    ? null
    : player(
        {
          url: file.href,
          title: nameOf(file),
          sound: file.type.startsWith("audio/"),
          key: `${torrent.infohash}/${file.index}`,
          subtitles: subtitlesOf(file, torrent.files, isFilm).map((it) => ({ ...it, url: it.file.href })),
          next: next && { title: nameOf(next), href: pageOf(torrent, next) },
          pieces: () => piecesOf(torrent, file, signal),
          state: () => get(`items/${torrent.infohash}`, { signal }),
          heard: (look) =>
            happenings.addEventListener("item.progress", ({ detail }) => detail.item === torrent.infohash && look(), { signal }),
        },
        signal,
      );
  return h(
    "article",
    { class: "watch" },
    h("h1", {}, nameOf(file)),
    playing ?? viewer(file),
    h("p", { class: "actions" }, fileActions(torrent, file, "button"), qrButton(file.href, nameOf(file)), playing && mayJoin(torrent) && joinLink(torrent, file)),
    playing && elsewhere(file.href),
  );
}

/** Whether a browser can be a peer of the swarm: it speaks v1, meets peers at the gateway's tracker, and nobody forbids it. */
const mayJoin = ({ infohash, private: isPrivate }) => document.querySelector('meta[name="peers"]') && infohash.length === 40 && !isPrivate;

function joinLink({ infohash }, { index }) {
  return h("a", { class: "button", href: at(`ui/watch#${infohash}/${index}`).href, title: "Your browser joins the swarm: it gives others what it has, and they see its address" }, "Watch as a peer");
}

function viewer(file) {
  if (file.type.startsWith("image/") && file.type !== "image/svg+xml") {
    return h("img", { class: "picture", src: file.href, alt: nameOf(file) });
  }
  return h("p", { class: "quiet" }, `${bytes(file.len)}, ${file.type.split(";")[0]}`);
}

/** The runs of the file's bytes that are here, each from and to in parts of one; null when nobody counts them. */
async function piecesOf(torrent, file, signal) {
  if (!(file.offset >= 0) || !file.len) return null;
  const { piece_len: len, have } = await get(`items/${torrent.infohash}/pieces`, { signal });
  const runs = have.split(",").filter(Boolean).map((run) => run.split("-").map(Number));
  return runs
    .map(([first, last = first]) => [first * len - file.offset, (last + 1) * len - file.offset])
    .filter(([from, to]) => to > 0 && from < file.len)
    .map(([from, to]) => [Math.max(0, from) / file.len, Math.min(file.len, to) / file.len]);
}

function fileActions(torrent, file, kind = "") {
  const about = { "aria-label": null };
  const name = nameOf(file);
  const label = (what) => ({ ...about, "aria-label": `${what} ${name}` });
  return [
    isFilm(file) && !kind && h("a", { href: pageOf(torrent, file), ...label("Play") }, "Play"),
    h("a", { class: kind, href: `${file.href}?download=true`, download: name, ...label("Download") }, "Download"),
    linkButton("Copy link", file.href, { class: kind ? "" : "link", ...label("Copy link of") }),
    isFilm(file) && playlistLink("M3U", `${file.href}?format=m3u8`, name, { class: kind, ...label("M3U of") }),
  ];
}

async function overview(torrent, current, path, signal) {
  const total = torrent.files.reduce((sum, file) => sum + file.len, 0);
  const facts = h("p", { class: "facts" }, `${count(torrent.files.length, "file")}, ${bytes(total)}`);
  const films = torrent.files.filter(isFilm);
  const best = films.reduce((one, other) => (one && rank(one) >= rank(other) ? one : other), null);
  const [keep, labels] = [keepButton(torrent.infohash), labelsOf(torrent.infohash)];
  let choice = null;
  const remove = h("button", { type: "button", hidden: true, onclick: removeIt }, "Remove");
  const hashes = h("div", { class: "hashes" }, hash(torrent.infohash.length === 64 ? "v2" : "Infohash", torrent.infohash));
  const heading = current ? h("h2", {}, torrent.name) : h("h1", {}, torrent.name);

  async function refresh() {
    const asked = performance.now();
    const item = await get(`items/${torrent.infohash}`, { signal }).catch(() => null);
    if (signal.aborted) return null;
    remove.hidden = !item;
    // A gateway that pins nothing says nothing of it.
    keep.show(item?.pinned, asked);
    if (!item) return null;
    labels.show(item.labels, asked);
    choice?.show(item, asked);
    say(facts, `${count(torrent.files.length, "file")} · ${factsOf(item)}${torrent.private ? " · private" : ""}`);
    if (item.infohash_v2 && torrent.infohash.length === 40 && hashes.children.length === 1) hashes.replaceChildren(hash("v1", torrent.infohash), hash("v2", item.infohash_v2));
    return item;
  }

  async function removeIt() {
    if (!confirm(`Remove “${torrent.name}” and what the cache has of it?`)) return;
    await tell("DELETE", `items/${torrent.infohash}?data=purge`);
    location.hash = "#/";
  }

  const timer = setInterval(() => document.hidden || refresh(), LOOK_EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  const item = await refresh();
  if (typeof item?.pinned === "boolean" && torrent.files.length > 1) choice = chooser(torrent, item, refresh);
  const below = path.length > 0 && !current ? `${path.join("/")}/` : "";
  const folder = folderUrl(torrent, below);
  return h(
    "section",
    { class: "torrent" },
    heading,
    facts,
    h(
      "p",
      { class: "actions" },
      best && !current && h("a", { class: "button primary", href: pageOf(torrent, best) }, films.length > 1 ? "Play the largest" : "Play"),
      films.length > 0 && playlistLink("Playlist", new URL("?format=m3u8", torrent.root).href, torrent.name, { class: "button" }),
      torrent.files.length > 1 && folder && archives(folder, ["zip", "tar"], below ? below.slice(0, -1) : torrent.name, "button"),
      h("a", { class: "button", href: at(`bt/${torrent.infohash}.torrent`).href }, ".torrent"),
      copyButton("Copy magnet", torrent.magnet),
      keep.node,
      remove,
    ),
    hashes,
    labels.node,
    choice?.node,
    tree(torrent, current, below, choice),
    peers(torrent.infohash, signal),
  );
}

/** A line with an infohash, and what copies it. */
function hash(kind, digits) {
  const label = kind === "Infohash" ? "Copy infohash" : `Copy ${kind} infohash`;
  return h("p", { class: "hash" }, `${kind} ${digits} `, copyButton("Copy", digits, { class: "link", "aria-label": label }));
}

/** The URL of a folder by its path with a slash at its end; null when a part of it would not survive a browser. */
function folderUrl(torrent, path) {
  const parts = path.split("/").slice(0, -1);
  if (parts.some((part) => !part || part === "." || part === "..")) return null;
  return new URL(parts.map((part) => `${encodeURIComponent(part)}/`).join(""), torrent.root).href;
}

const rank = (file) => (file.type.startsWith("video/") ? 2 ** 50 : 0) + file.len;

/** The files as folders that open; what is in one is made when it is opened. With a `choice` each has a box before it. */
function tree(torrent, current, below, choice) {
  const root = { folders: new Map(), files: [], all: [], len: 0 };
  for (const file of torrent.files.filter((it) => it.path.startsWith(below))) {
    let folder = root;
    for (const part of file.path.slice(below.length).split("/").slice(0, -1)) {
      folder.all.push(file);
      folder.len += file.len;
      if (!folder.folders.has(part)) folder.folders.set(part, { folders: new Map(), files: [], all: [], len: 0 });
      folder = folder.folders.get(part);
    }
    folder.all.push(file);
    folder.len += file.len;
    folder.files.push(file);
  }
  const order = (one, other) => one.localeCompare(other, "en", { numeric: true });
  const few = torrent.files.length <= FEW_FILES;

  function list(folder, path) {
    const folders = [...folder.folders].sort(([one], [other]) => order(one, other));
    const files = folder.files.toSorted((one, other) => order(one.path, other.path));
    return h("ul", { class: "tree" }, folders.map(([name, inner]) => branch(name, inner, `${path}${name}/`, folders.length === 1 && files.length === 0)), files.map(leaf));
  }

  function branch(name, folder, path, only) {
    const details = h("details", {}, h("summary", {}, h("span", { class: "name" }, name), h("span", { class: "facts" }, `${count(folder.all.length, "file")}, ${bytes(folder.len)}`)));
    const url = folderUrl(torrent, path);
    const whole = url && h("p", { class: "row-actions" }, archives(url, ["zip", "tar"], path.slice(0, -1)));
    const unfold = () => details.children.length > 1 || details.append(...[whole, list(folder, path)].filter(Boolean));
    details.addEventListener("toggle", unfold);
    if (few || only || current?.path.startsWith(path)) {
      unfold();
      details.open = true;
    }
    return choice ? h("li", { class: "branch" }, choice.box(folder.all, `All of ${name}`), details) : h("li", {}, details);
  }

  function leaf(file) {
    const plays = isFilm(file);
    const shown = plays || /^image\/(?!svg)/.test(file.type);
    const name = h("a", { class: "name", href: shown ? pageOf(torrent, file) : file.href, "aria-current": file === current && "true" }, nameOf(file));
    const box = choice?.box([file], `Choose ${nameOf(file)}`);
    return h("li", { class: box ? "file boxed" : "file" }, box, name, h("span", { class: "facts" }, bytes(file.len)), h("span", { class: "row-actions" }, fileActions(torrent, file)));
  }

  if (!choice) return list(root, "");
  const whole = below ? "All files of this folder" : "All files";
  return [h("label", { class: "check whole" }, choice.box(root.all, whole), whole), list(root, "")];
}
