// Figures and facts as people read them. Everything here is a function of its arguments.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** `1.5 MiB`. */
export function bytes(count) {
  let value = Number(count) || 0;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Bytes a second. */
export const rate = (count) => `${bytes(count)}/s`;

/** `3 files`. */
export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** `62 %`, and never 100 before all of it is there. */
export function percent(part, whole) {
  if (!(whole > 0)) return "";
  return part >= whole ? "100 %" : `${Math.min(99, Math.floor((100 * part) / whole))} %`;
}

/** `1:02:03`, as players write a time. */
export function clock(seconds) {
  const all = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(all / 3600), Math.floor(all / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(all % 60)}` : `${minutes}:${two(all % 60)}`;
}

/** `850 ms`, `2.4 s`, `3 min`, `5 h`, `2 days`. */
export function span(millis) {
  if (millis < 1000) return `${Math.round(millis)} ms`;
  const seconds = millis / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** `14:05`, or `24 Nov, 14:05` on another day than `now`; both are Dates. */
export function moment(when, now) {
  const clockTime = when.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (when.toDateString() === now.toDateString()) return clockTime;
  return `${when.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${clockTime}`;
}

const NETWORKS = {
  bt: "BitTorrent",
  bittorrent: "BitTorrent",
  webrtc: "WebRTC",
  webtorrent: "WebTorrent",
  ipfs: "IPFS",
  http: "HTTP mirrors",
  cache: "Cache",
  hybrid: "Several at once",
};

/** A network by its name rather than its key. */
export const network = (key) => NETWORKS[key] ?? key;

/** Who was asked: `tracker udp://…`. */
export function asked({ source, target }) {
  const words = { dht: "DHT", dns: "DNS", http: "HTTP", bt: "BitTorrent", webrtc: "WebRTC", ipfs: "IPFS" };
  const name = words[source] ?? String(source).replaceAll("-", " ");
  return target && target !== source ? `${name}, ${target}` : name;
}

/** What became of an attempt: whether it `worked`, and in words. */
export function became({ outcome, ms }) {
  const after = ms > 0 ? `, after ${span(ms)}` : "";
  if (outcome === "timeout") return { worked: false, text: `no answer${after}` };
  if (outcome?.ok !== undefined) return { worked: true, text: `${outcome.ok || "answered"}${after}` };
  if (outcome?.failed !== undefined) return { worked: false, text: `${outcome.failed}${after}` };
  if (outcome?.skipped !== undefined) return { worked: false, text: `not asked: ${outcome.skipped}` };
  return { worked: false, text: typeof outcome === "string" ? outcome : JSON.stringify(outcome) };
}

/** How a peer is reached: `TCP, encrypted`. */
export function reached({ transport, encryption }) {
  const way = { tcp: "TCP", utp: "uTP", webrtc: "WebRTC" }[transport] ?? transport;
  // What passes by WebRTC is encrypted by DTLS, whatever the messages in it are.
  const how = transport === "webrtc" ? "encrypted" : ({ none: "not encrypted", handshake: "handshake encrypted", rc4: "encrypted" }[encryption] ?? encryption);
  return `${way}, ${how}`;
}
