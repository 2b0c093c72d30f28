// How the gateway fares: rates, who reads what and from where it comes, the cache, the networks, breakers, torrents.
import { get, happenings, send, at, tell } from "./api.js";
import { announce, bar, h, keyed, say } from "./dom.js";
import { labelFilter } from "./labels.js";
import { plot } from "./plot.js";
import { bytes, count, network, rate, span } from "./words.js";

const LOOK_EVERY_MS = 1000;
const MOST_SAMPLES = 300;
const MOST_EVENTS = 40;
const SERIES = [
  { key: "down", label: "From the networks", class: "down" },
  { key: "out", label: "To clients", class: "out" },
  { key: "up", label: "To peers", class: "up" },
];
const EVENTS = {
  "item.added": (it) => `${short(it.item)} was added`,
  "item.metadata": (it) => `${it.name}: ${count(it.files, "file")} found`,
  "item.removed": (it) => `${short(it.item)} was removed`,
  "stream.open": (it) => `stream ${it.stream} of ${short(it.item)} began`,
  "stream.stall": (it) => `stream ${it.stream} of ${short(it.item)} went on after it had waited ${span(it.ms)}`,
  "stream.close": (it) => `stream ${it.stream} ${it.failed ? "failed" : "ended"} after ${bytes(it.bytes)}`,
  "prefetch.ready": (it) => `${bytes(it.bytes)} of file ${it.file} of ${short(it.item)} are here ahead of a reader`,
  "peer.banned": (it) => `a peer was banned: it sent wrong bytes of ${short(it.item)}`,
  "cache.evicted": (it) => `the cache made room: ${count(it.blocks, "block")} dropped`,
  "source.up": (it) => `${it.source} (${network(it.network)}) can be asked for ${short(it.item)}`,
  "source.down": (it) => `${it.source} (${network(it.network)}) cannot be asked any more`,
  breaker: (it) => `breaker of ${it.id}: ${it.state}`,
  network: (it) => `${network(it.network)}: ${it.state}`,
  "config.reloaded": configuration,
};

const samples = [];
const log = [];
let before = null;
let names = new Map();

const short = (id) => names.get(id) ?? (String(id).length > 20 ? `${String(id).slice(0, 12)}…` : String(id));

happenings.addEventListener("any", ({ detail }) => {
  if (!EVENTS[detail.event]) return;
  log.unshift({ when: new Date(), detail, id: `${Date.now()}-${Math.random()}` });
  log.length = Math.min(log.length, MOST_EVENTS);
});

export async function show(main, { signal, retitle }) {
  retitle("Status");
  const rates = plot("Rates over the last five minutes", SERIES, MOST_SAMPLES);
  const facts = h("p", { class: "facts" });
  const [streams, cache, networks, breakers, torrents, events] = [streamList(), cacheBar(), networkList(), breakerList(), torrentList(), eventList()];
  main.append(h("h1", {}, "Status"), facts, rates.node, streams.node, h("div", { class: "columns" }, cache.node, networks.node), torrents.node, breakers.node, events.node);

  async function look() {
    if (document.hidden) return;
    const asked = ["status", "streams", "items", "networks", "breakers"].map((path) => get(path, { signal }));
    const [status, running, items, switches, guards] = await Promise.all(asked.map((one, at) => (at < 3 ? one : one.catch(() => null))));
    if (signal.aborted) return;
    names = new Map(items.items.map((item) => [item.infohash, item.name ?? item.infohash]));
    sample(status);
    rates.update(samples);
    say(facts, `Version ${status.version}, up ${span(status.uptime_s * 1000)}, ${status.ready ? "ready" : "not ready"} · ${count(status.totals.items, "torrent")}, ${status.totals.active} active · ${count(status.totals.peers, "peer")} · ${count(status.http.streams_open, "stream")} open, ${bytes(status.http.stream_bytes)} served`);
    streams.update(running);
    cache.update(status.cache);
    networks.update(status.networks, switches?.networks ?? []);
    breakers.update(guards?.breakers ?? []);
    torrents.update(items.items);
    events.update();
  }

  await look();
  const timer = setInterval(() => look().catch(() => {}), LOOK_EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  for (const name of ["network", "breaker", "stream.open", "stream.close"]) {
    happenings.addEventListener(name, () => look().catch(() => {}), { signal });
  }
}

function configuration({ changed, restart, error }) {
  if (error) return `${error}: all stays as it was`;
  const waiting = restart.length ? `; a restart is needed for ${restart.join(", ")}` : "";
  return `the configuration was read: ${changed.join(", ") || "nothing"} changed${waiting}`;
}

/** Rates are what has come since the last look; what comes over several networks is counted by each. */
function sample({ networks, http }) {
  const sum = (field) => networks.filter(({ kind }) => kind !== "hybrid").reduce((all, { stats }) => all + (stats[field] ?? 0), 0);
  const now = { at: performance.now(), down: sum("bytes_downloaded"), up: sum("bytes_uploaded"), out: http.stream_bytes };
  const seconds = before && (now.at - before.at) / 1000;
  if (seconds && seconds < 0.3) return;
  if (seconds && seconds < 10) {
    const per = (key) => Math.max(0, (now[key] - before[key]) / seconds);
    samples.push({ down: per("down"), up: per("up"), out: per("out") });
    if (samples.length > MOST_SAMPLES) samples.shift();
  } else {
    samples.length = 0;
  }
  before = now;
}

function section(title, ...content) {
  const id = `s-${title.toLowerCase().replace(/\W+/g, "-")}`;
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), ...content);
}

/** A list with a sentence in its place while it is empty. */
function listOf(title, empty, make, key) {
  const [list, none] = [h("ul", { class: "rows" }), h("p", { class: "quiet" }, empty)];
  const update = keyed(list, make);
  return {
    node: section(title, none, list),
    update(rows) {
      none.hidden = rows.length > 0;
      update(rows, key);
    },
  };
}

const MIX = ["cache", "bt", "webrtc", "ipfs", "http"];

function mixBar() {
  const it = bar("Where its bytes came from");
  return {
    node: it.node,
    update({ cache = 0, networks = {} }) {
      const parts = MIX.map((key) => ({ key, value: key === "cache" ? cache : (networks[key] ?? 0), class: `from-${key}` })).filter(({ value }) => value > 0);
      const whole = parts.reduce((sum, { value }) => sum + value, 0);
      const words = parts.map(({ key, value }) => `${network(key)} ${Math.round((100 * value) / whole)} %`).join(", ");
      it.update(parts, whole, words || "nothing yet");
      return words;
    },
  };
}

function streamList() {
  const rows = listOf("Streams", "Nobody is reading.", make, ({ id }) => id);
  const fetches = h("div", {});
  rows.node.append(fetches);
  const updateFetches = keyed(fetches, makeFetch);
  return {
    node: rows.node,
    update({ streams, fetches: shared }) {
      rows.update(streams);
      updateFetches(shared, ({ item }) => item);
    },
  };

  function make({ id }) {
    const [name, detail, mix, words] = [h("a", { class: "name" }), h("span", { class: "facts" }), mixBar(), h("span", { class: "facts" })];
    const end = h("button", { type: "button", onclick: () => stop(id) }, "End");
    return {
      node: h("li", {}, h("div", { class: "line" }, name, end), mix.node, words, detail),
      update(row) {
        name.href = /^[0-9a-f]{40}$/.test(row.item) ? `#/bt/${row.item}` : `#/ipfs/${row.item}`;
        say(name, short(row.item));
        end.setAttribute("aria-label", `End stream ${id} of ${short(row.item)}`);
        say(words, mix.update(row.came_from));
        const stalls = row.stalls ? `${count(row.stalls, "stall")}, ${span(row.stalled_ms)} in all` : "no stalls";
        const over = row.since_ms > 500 ? ` at ${rate((1000 * row.sent) / row.since_ms)}` : "";
        say(detail, `${bytes(row.sent)}${over} · first byte after ${span(row.first_byte_ms)} · ${stalls} · ${row.client ?? "a client"}`);
      },
    };
  }

  async function stop(id) {
    await tell("DELETE", `streams/${id}`).catch((error) => announce(error.message));
    announce(`Stream ${id} was ended`);
  }

  function makeFetch() {
    const [title, list] = [h("h3", {}), h("ul", { class: "rows" })];
    const update = keyed(list, () => {
      const [name, facts] = [h("span", { class: "name" }), h("span", { class: "facts" })];
      return {
        node: h("li", {}, name, facts),
        update({ source, share }) {
          say(name, `${source.name} (${network(source.network)})`);
          const rated = source.goodput ? ` · ${rate(source.goodput)}` : "";
          const had = share ? ` · ${bytes(share.bytes)} delivered, ${bytes(share.wasted_bytes)} too late or wrong` : "";
          say(facts, `${bytes(source.in_flight_bytes)} asked for${rated}${had}${source.overdue ? " · overdue" : ""}`);
        },
      };
    });
    return {
      node: h("div", {}, title, list),
      update(fetch) {
        say(title, `Sources of ${short(fetch.item)}`);
        const rows = fetch.sources.map((source) => ({ source, share: fetch.shares.find(({ name }) => name === source.name) }));
        update(rows, ({ source }) => `${source.network} ${source.name}`);
      },
    };
  }
}

function cacheBar() {
  const [it, words, details] = [bar("Cache"), h("p", { class: "facts" }), h("dl", { class: "legend" })];
  return {
    node: section("Cache", it.node, words, details),
    update(cache) {
      if (!cache?.max_bytes) return;
      const loose = Math.max(0, cache.bytes - cache.pinned_bytes - cache.protected_bytes);
      const parts = [
        { name: "Kept", value: cache.pinned_bytes, class: "from-bt" },
        { name: "Being read", value: cache.protected_bytes, class: "from-ipfs" },
        { name: "May be dropped", value: loose, class: "from-cache" },
      ];
      const text = `${bytes(cache.bytes)} of ${bytes(cache.max_bytes)}`;
      it.update(parts, cache.max_bytes, text);
      say(words, `${text}, ${count(cache.blocks, "block")} · ${bytes(cache.memory_bytes)} in memory · ${bytes(cache.free_disk_bytes)} free on disk`);
      if (details.children.length === 0) {
        details.append(...parts.flatMap((part) => [h("dt", { class: `key ${part.class}` }, part.name), h("dd", {})]));
      }
      parts.forEach((part, at) => say(details.children[2 * at + 1], bytes(part.value)));
    },
  };
}

const KEYS = { bittorrent: "bt", webtorrent: "webrtc", ipfs: "ipfs" };

function networkList() {
  const rows = listOf("Networks", "Every network is switched off.", make, ({ key }) => key);
  return {
    node: rows.node,
    update(all, switches) {
      const named = all.filter(({ kind }) => KEYS[kind]).map((one) => ({ key: KEYS[one.kind], one, turn: switches.find((it) => it.network === KEYS[one.kind]) }));
      const turn = switches.find((it) => it.network === "http");
      rows.update(turn ? [...named, { key: "http", one: null, turn }] : named);
    },
  };

  function make({ key }) {
    const [state, facts] = [h("span", { class: "state" }), h("span", { class: "facts" })];
    const knob = h("button", { type: "button", role: "switch", class: "switch", "aria-label": network(key), onclick: flip });
    async function flip() {
      const enabled = knob.getAttribute("aria-checked") !== "true";
      try {
        const now = await tell("PATCH", `networks/${key}`, { enabled });
        knob.setAttribute("aria-checked", String(now.enabled));
        announce(`${network(key)} is ${now.enabled ? "on" : "off"}`);
      } catch (error) {
        announce(error.message);
      }
    }
    return {
      node: h("li", {}, h("div", { class: "line" }, h("span", { class: "name" }, network(key), " ", state), knob), facts),
      update({ one, turn }) {
        knob.hidden = !turn;
        knob.setAttribute("aria-checked", String(turn?.enabled ?? true));
        const health = one?.health.state ?? "ok";
        state.className = `state ${health}`;
        say(state, turn && !turn.enabled ? "off" : health);
        const traffic = one ? `${bytes(one.stats.bytes_downloaded)} in, ${bytes(one.stats.bytes_uploaded)} out` : turn ? `${bytes(turn.useful_bytes)} in` : "";
        say(facts, [one?.health.evidence, traffic, one?.last_error].filter(Boolean).join(" · "));
      },
    };
  }
}

function breakerList() {
  const rows = listOf("Breakers", "No source has had to be rested.", make, ({ id }) => id);
  return rows;

  function make({ id }) {
    const [state, facts] = [h("span", { class: "state" }), h("span", { class: "facts" })];
    const reset = h("button", { type: "button", "aria-label": `Reset the breaker of ${id}`, onclick: again }, "Reset");
    async function again() {
      await send(at(`api/v1/breakers/${encodeURIComponent(id)}/reset`), { method: "POST" }).then(() => announce("It is asked again"), (error) => announce(error.message));
    }
    return {
      node: h("li", {}, h("div", { class: "line" }, h("span", { class: "name" }, id, " ", state), reset), facts),
      update(row) {
        state.className = `state ${row.state === "closed" ? "ok" : row.state === "open" ? "down" : "degraded"}`;
        say(state, row.state);
        reset.hidden = row.state === "closed";
        const next = row.next_probe_ms !== undefined ? `, tried again in ${span(row.next_probe_ms)}` : "";
        say(facts, `${row.why ? `${row.why} · ` : ""}for ${span(row.for_ms)}${next} · ${row.successes} answered, ${row.failures} failed, ${row.corruptions} wrong, ${row.refused} not asked`);
      },
    };
  }
}

function torrentList() {
  const rows = listOf("Torrents and their peers", "No torrent is known.", make, ({ infohash }) => infohash);
  const filter = labelFilter(() => update(known));
  let known = [];
  rows.node.firstChild.after(filter.node);
  return { node: rows.node, update };

  function update(items) {
    known = items;
    rows.update(filter.narrow(items).toSorted((one, other) => other.download_rate + other.upload_rate - one.download_rate - one.upload_rate || other.peers - one.peers));
  }

  function make({ infohash }) {
    const [name, facts] = [h("a", { class: "name", href: `#/bt/${infohash}` }), h("span", { class: "facts" })];
    return {
      node: h("li", {}, name, facts),
      update(item) {
        say(name, item.name ?? infohash);
        say(facts, `${item.state} · ${count(item.peers, "peer")}, ${count(item.seeds, "seed")}, ${count(item.readers, "reader")} · ↓ ${rate(item.download_rate)} (${bytes(item.downloaded)}) · ↑ ${rate(item.upload_rate)} (${bytes(item.uploaded)})${item.last_error ? ` · ${item.last_error}` : ""}`);
      },
    };
  }
}

function eventList() {
  const rows = listOf("Events", "Nothing has happened since this page was opened.", make, ({ id }) => id);
  return { node: rows.node, update: () => rows.update(log) };

  function make({ when, detail }) {
    const text = h("span", {});
    return {
      node: h("li", { class: "event" }, h("time", { datetime: when.toISOString() }, when.toLocaleTimeString("en-GB")), " ", text),
      // A name may be known only later.
      update: () => say(text, EVENTS[detail.event](detail.it)),
    };
  }
}
