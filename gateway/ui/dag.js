// A path of IPFS: a folder's entries, or a file that is played or shown. What it is, is read from its blocks.
import { at, Problem, send } from "./api.js";
import { copyButton, h, say } from "./dom.js";
import { isPinned, keepButton } from "./keep.js";
import { elsewhere, linkButton } from "./links.js";
import { place } from "./pasted.js";
import { player } from "./player.js";
import { qrButton } from "./qr.js";
import { of as subtitlesOf } from "./subtitles.js";
import { node } from "./unixfs.js";
import { bytes, count, span } from "./words.js";

/** Most entries shown; the rest is in the CAR. */
const MOST_ENTRIES = 2000;

const TELL_EVERY_MS = 3000;

const FILM = /\.(mp4|m4v|webm|mkv|mov|ogv|mp3|m4a|flac|ogg|oga|opus|wav|weba)$/i;

export async function show(main, { segments: [namespace, ...path], signal, retitle }) {
  if (path.length === 0) throw new Problem({ title: "This names nothing", detail: "A CID or a name is missing." });
  const plain = `/${namespace}/${path.join("/")}`;
  retitle(`Looking for ${plain}`);
  const state = h("p", { role: "status" }, "Asking nodes and gateways…");
  main.append(h("section", { class: "search" }, h("h1", {}, "Looking for it"), h("p", { class: "hash" }, plain), h("progress", { "aria-label": "Searching" }), state));
  const began = performance.now();
  const timer = setInterval(() => say(state, `Asking nodes and gateways, for ${span(performance.now() - began)}.`), TELL_EVERY_MS);
  const url = at([namespace, ...path].map(encodeURIComponent).join("/")).href;
  const { cid, found } = await block(url, signal).finally(() => clearInterval(timer));
  if (signal.aborted) return;
  const name = path.length > 1 ? path[path.length - 1] : null;
  retitle(name ?? path[0]);
  const folder = found && (found.kind === "directory" || found.kind === "shard");
  main.replaceChildren(
    h("article", { class: "dag" }, crumbs(namespace, path), ...(folder ? await directory(namespace, path, url, cid, found, signal) : await file(namespace, path, url, cid, found, signal))),
  );
}

/** The block at a URL, with its CID. */
async function block(url, signal) {
  const response = await send(`${url}?format=raw`, { signal });
  const roots = response.headers.get("x-ipfs-roots")?.split(",") ?? [];
  const cid = roots[roots.length - 1] ?? "";
  return { cid, found: node(new Uint8Array(await response.arrayBuffer()), cid) };
}

function crumbs(namespace, path) {
  const steps = path.map((part, step) => {
    const here = step === path.length - 1;
    return h("li", {}, h("a", { href: place(namespace, path.slice(0, step + 1).join("/")), "aria-current": here && "page" }, step === 0 ? short(part) : part));
  });
  return h("nav", { class: "crumbs", "aria-label": "Path" }, h("ol", {}, h("li", {}, `/${namespace}`), steps));
}

const short = (text) => (text.length > 24 ? `${text.slice(0, 10)}…${text.slice(-8)}` : text);

async function directory(namespace, path, url, cid, found, signal) {
  const entries = await entriesOf(found, signal);
  entries.sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
  const website = entries.some(({ name }) => name === "index.html");
  const into = (name) => `#/${[namespace, ...path, name].map(encodeURIComponent).join("/")}`;
  const row = ({ name, size }) =>
    h("li", { class: "file" }, h("a", { class: "name", href: into(name) }, name), h("span", { class: "facts" }, bytes(size)), h("span", { class: "row-actions" }, h("a", { href: `${url}/${encodeURIComponent(name)}?download=true`, "aria-label": `Download ${name}` }, "Download"), linkButton("Copy link", `${url}/${encodeURIComponent(name)}`, { class: "link", "aria-label": `Copy link of ${name}` })));
  return [
    h("h1", {}, path.length > 1 ? path[path.length - 1] : "Folder"),
    h("p", { class: "facts" }, `${count(entries.length, "entry").replace("entrys", "entries")}, ${bytes(entries.reduce((sum, { size }) => sum + size, 0))}`),
    h("p", { class: "actions" }, website && h("a", { class: "button primary", href: `${url}/` }, "Open as a website"), h("a", { class: "button", href: `${url}?format=zip` }, "zip"), h("a", { class: "button", href: `${url}?format=tar` }, "tar"), h("a", { class: "button", href: `${url}?format=car` }, "CAR"), linkButton("Copy link", `${url}/`), keep(cid, signal)),
    identity(cid),
    h("ul", { class: "tree" }, entries.slice(0, MOST_ENTRIES).map(row)),
    entries.length >= MOST_ENTRIES && h("p", { class: "quiet" }, "There is more: the zip, the tar and the CAR have all of it."),
  ];
}

/** The entries of a folder; large ones are spread over many blocks. */
async function entriesOf(found, signal) {
  if (found.kind !== "shard") return found.links;
  const entries = [];
  const blocks = [found];
  while (blocks.length > 0 && entries.length < MOST_ENTRIES) {
    const { links, prefix } = blocks.shift();
    for (const { name, ...link } of links) {
      if (name.length > prefix) entries.push({ ...link, name: name.slice(prefix) });
      else blocks.push((await block(at(`ipfs/${link.cid}`).href, signal)).found);
    }
  }
  return entries;
}

const identity = (cid) => cid && h("p", { class: "hash" }, cid, " ", copyButton("Copy CID", cid, { class: "link" }));

/** The button that keeps what a CID names, once it is known whether it is kept. */
function keep(cid, signal) {
  if (!cid) return null;
  const button = keepButton(cid);
  const asked = performance.now();
  isPinned(cid, signal).then((pinned) => button.show(pinned, asked));
  return button.node;
}

async function file(namespace, path, url, cid, found, signal) {
  const name = path.length > 1 ? path[path.length - 1] : short(path[0]);
  const head = await send(url, { method: "HEAD", signal, headers: { accept: "*/*" } });
  const type = head.headers.get("content-type") ?? "application/octet-stream";
  const size = Number(head.headers.get("content-length")) || found?.size || 0;
  const [sort] = type.split("/");
  const plays = sort === "video" || sort === "audio" || FILM.test(name);
  const shown =
    plays
      ? player({ url, title: name, sound: sort === "audio", key: cid || url, subtitles: await beside(namespace, path, signal) }, signal)
      : sort === "image" && !type.startsWith("image/svg") && h("img", { class: "picture", src: url, alt: name });
  return [
    h("h1", {}, name),
    shown,
    h("p", { class: "facts" }, `${bytes(size)}, ${type.split(";")[0]}`),
    h("p", { class: "actions" }, !shown && h("a", { class: "button primary", href: url }, "Open"), h("a", { class: "button", href: `${url}?download=true&filename=${encodeURIComponent(name)}` }, "Download"), linkButton("Copy link", url), qrButton(url, name), h("a", { class: "button", href: `${url}?format=car` }, "CAR"), keep(cid, signal)),
    plays && elsewhere(url),
    identity(cid),
  ];
}

/** Subtitles in the folder that the file lies in, and in one for subtitles there. */
async function beside(namespace, path, signal) {
  if (path.length < 2) return [];
  const urlOf = (names) => at([namespace, ...path.slice(0, -1), ...names].map(encodeURIComponent).join("/")).href;
  const filesIn = async (names) => {
    const { found } = await block(urlOf(names), signal).catch(() => ({ found: null }));
    const links = found?.kind === "directory" ? found.links : [];
    return links.map(({ name, size }) => ({ path: [...names, name].join("/"), len: size }));
  };
  const near = await filesIn([]);
  const apart = near.filter((file) => /^sub(?:s|titles?)?$/i.test(file.path));
  const files = [...near, ...(await Promise.all(apart.slice(0, 1).map((file) => filesIn([file.path])))).flat()];
  const all = subtitlesOf({ path: path[path.length - 1] }, files, (file) => FILM.test(file.path));
  return all.map((it) => ({ ...it, url: urlOf(it.file.path.split("/")) }));
}
