// The start page: one place for every kind of link, and what the gateway has.
import { Problem, add, addCar, addFile, get, happenings } from "./api.js";
import { h, keyed, say } from "./dom.js";
import { labelFilter } from "./labels.js";
import { read } from "./pasted.js";
import { bytes, count, percent, rate } from "./words.js";

const REFRESH_MS = 2000;
const FILES = ".torrent,.car,application/x-bittorrent,application/vnd.ipld.car";
/** DAGs that are listed. */
const MOST_DAGS = 200;

/** Opens what somebody has pasted. */
export async function open(text) {
  const found = read(text);
  if (!found) {
    const detail = "It is no magnet link, infohash, CID, IPNS name or URL of a .torrent.";
    throw new Problem({ title: "This cannot be opened", detail, type: "urn:swarmgate:problem:bad-id" });
  }
  if (!found.add) return go(found.page);
  const item = await add(found.add);
  go(found.page ?? `#/bt/${item.infohash}`);
}

/** Opens a `.torrent` file, or a CAR. */
export async function openFile(file) {
  if (/\.car$/i.test(file.name)) {
    const { dags } = await addCar(file);
    return go(`#/ipfs/${dags[0].root}`);
  }
  const item = await addFile(file);
  go(`#/bt/${item.infohash}`);
}

function go(page) {
  if (location.hash === page) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = page;
}

export async function show(main, { signal, retitle }) {
  retitle("");
  const fault = h("p", { class: "fault", role: "alert", id: "fault" });
  const input = h("input", {
    id: "uri",
    type: "text",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    enterkeyhint: "go",
    "aria-describedby": "kinds fault",
    placeholder: "magnet:?xt=…",
  });
  const file = h("input", { type: "file", class: "unseen", id: "file", accept: FILES, tabindex: -1, "aria-label": "A .torrent file or a CAR", onchange: choose });
  const button = h("button", { class: "primary" }, "Open");
  const form = h(
    "form",
    { class: "open", onsubmit: submit },
    h("h1", {}, h("label", { for: "uri" }, "Paste a link")),
    h("div", { class: "field" }, input, button),
    fault,
    h(
      "p",
      { class: "kinds", id: "kinds" },
      "Magnet link, infohash, CID, ipfs:// or IPNS name, URL of a .torrent – or ",
      h("button", { type: "button", class: "link", onclick: () => file.click() }, "choose a .torrent file or a CAR"),
      ", or drop one anywhere.",
    ),
    file,
  );
  const list = h("ul", { class: "items" });
  const filter = labelFilter(() => refresh().catch(() => {}));
  const dags = h("ul", { class: "items" });
  const kept = h("section", { "aria-labelledby": "kept", hidden: true }, h("h2", { id: "kept" }, "Kept from IPFS"), dags);
  const none = h("p", { class: "quiet" }, "Nothing has been opened yet. What you open appears here, with what is in the cache.");
  main.append(form, h("section", { "aria-labelledby": "library" }, h("h2", { id: "library" }, "Opened here"), filter.node, none, list), kept);
  if (matchMedia("(pointer: fine)").matches) input.focus();

  async function submit(event) {
    event.preventDefault();
    await attempt(() => open(input.value));
  }

  async function choose() {
    if (file.files[0]) await attempt(() => openFile(file.files[0]));
    file.value = "";
  }

  async function attempt(opening) {
    say(fault, "");
    button.disabled = true;
    try {
      await opening();
    } catch (error) {
      say(fault, [error.document?.title, error.message].filter((it, at, all) => it && all.indexOf(it) === at).join(": "));
      input.setAttribute("aria-invalid", "true");
      input.focus();
    }
    button.disabled = false;
  }
  input.addEventListener("input", () => (input.removeAttribute("aria-invalid"), say(fault, "")));

  const update = keyed(list, row);
  const updateDags = keyed(dags, dagRow);
  async function refresh() {
    if (document.hidden) return;
    try {
      const { items } = await get("items", { signal });
      none.hidden = items.length > 0;
      update(filter.narrow(items).sort(byUse), (item) => item.infohash);
      // Where IPFS is switched off there are none.
      const { dags: found } = await get(`dags?limit=${MOST_DAGS}`, { signal }).catch(() => ({ dags: [] }));
      kept.hidden = found.length === 0;
      updateDags(found, (dag) => dag.root);
    } catch (error) {
      if (!signal.aborted && error.document?.status === 401) throw error;
    }
  }
  await refresh();
  const timer = setInterval(() => refresh().catch(() => {}), REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  for (const name of ["item.added", "item.metadata", "item.removed"]) {
    happenings.addEventListener(name, () => refresh().catch(() => {}), { signal });
  }
}

/** What is read first, then by name. */
function byUse(one, other) {
  const nameOf = (item) => item.name ?? item.infohash;
  return other.readers - one.readers || Number(other.kept) - Number(one.kept) || nameOf(one).localeCompare(nameOf(other));
}

function row() {
  const name = h("a", {});
  const facts = h("span", { class: "facts" });
  const meter = h("span", { class: "meter" }, h("span", {}));
  return {
    node: h("li", {}, name, facts, meter),
    update(item) {
      name.href = `#/bt/${item.infohash}`;
      say(name, item.name ?? item.infohash);
      say(facts, [factsOf(item), ...(item.labels ?? [])].join(" · "));
      const whole = item.total_len ?? 0;
      meter.firstChild.style.inlineSize = `${whole ? (100 * item.have_bytes) / whole : 0}%`;
    },
  };
}

function dagRow() {
  const name = h("a", { class: "hash" });
  const facts = h("span", { class: "facts" });
  return {
    node: h("li", {}, name, facts),
    update(dag) {
      name.href = `#/ipfs/${dag.root}`;
      say(name, dag.root);
      say(facts, factsOfDag(dag));
    },
  };
}

/** A DAG in a line. */
export function factsOfDag({ state, bytes: here, missing, error }) {
  if (state === "pinned") return missing ? `${bytes(here)} · ${count(missing, "block")} missing` : bytes(here);
  return error ? `not here yet: ${error}` : `being fetched, ${bytes(here)} so far`;
}

/** An item in a line. */
export function factsOf(item) {
  const parts = [];
  if (item.total_len === null) parts.push("looking for its files");
  else parts.push(bytes(item.total_len), `${percent(item.have_bytes, item.total_len)} here`);
  if (item.state !== "idle") parts.push(count(item.peers, "peer"));
  if (item.download_rate > 0) parts.push(`↓ ${rate(item.download_rate)}`);
  if (item.upload_rate > 0) parts.push(`↑ ${rate(item.upload_rate)}`);
  if (item.pinned) parts.push(item.selected ? `kept: ${bytes(item.selected.len)} of it, ${percent(item.selected.have_bytes, item.selected.len)} here` : "kept");
  if (item.last_error && item.total_len === null) parts.push(item.last_error);
  return parts.join(" · ");
}
