// The player: the browser's own controls, and below them a map of what is here, subtitles, and how the stream fares.
import { Problem, send } from "./api.js";
import { announce, h, say } from "./dom.js";
import { problem } from "./problem.js";
import { toVtt } from "./subtitles.js";
import { clock, count, rate } from "./words.js";

const LOOK_EVERY_MS = 2000;
/** Most films whose place is remembered. */
const MOST_PLACES = 200;
/** Who waits for less is not told why. */
const NOTICED_MS = 700;
const [PLACES, LANGUAGE] = ["swarmgate-places", "swarmgate-subtitles"];

/**
 * Makes a player of `{ url, title, sound, key, subtitles, next, pieces, state, heard }`; `pieces` gives the runs that
 * are here in parts of one, `state` the item, and `heard` calls back when more has come.
 */
export function player(film, signal) {
  const media = h(film.sound ? "audio" : "video", { controls: true, preload: "metadata", src: film.url, "aria-label": film.title, playsinline: true });
  const map = pieceMap(media);
  const wait = h("span", { class: "waiting", role: "status" });
  const bar = h("div", { class: "player-bar" }, wait);
  const frame = h("div", { class: film.sound ? "player sound" : "player" }, media, map.node, bar);
  subtitles(media, film.subtitles ?? [], bar);
  resume(media, film.key, bar);
  look(media, film, map, wait, signal);
  media.addEventListener("error", async () => frame.replaceWith(await unplayable(media, film, frame, signal)));
  media.addEventListener("ended", () => {
    if (film.next) bar.append(h("a", { class: "button", href: film.next.href }, `Next: ${film.next.title}`));
  });
  signal.addEventListener("abort", () => {
    media.pause();
    // Else the browser goes on fetching for a while.
    media.removeAttribute("src");
    media.load();
  });
  media.play().catch(() => {
    // The browser wants a click first; the controls are there.
  });
  return frame;
}

/** What of the file is here, and what of it the browser has, below the seek bar. */
function pieceMap(media) {
  const canvas = h("canvas", { class: "pieces", role: "img", "aria-label": "What of the file is here" });
  let runs = null;
  const draw = () => {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((it) => Math.round(it * devicePixelRatio));
    if (!width) return;
    if (canvas.width !== width) [canvas.width, canvas.height] = [width, height];
    const [pen, style] = [canvas.getContext("2d"), getComputedStyle(canvas)];
    const colour = (name) => style.getPropertyValue(name);
    const fill = (from, to, name, top, tall) => {
      pen.fillStyle = colour(name);
      pen.fillRect(Math.floor(from * width), top, Math.max(1, Math.ceil((to - from) * width)), tall);
    };
    pen.clearRect(0, 0, width, height);
    fill(0, 1, "--faint", 0, height);
    for (const [from, to] of runs ?? []) fill(from, to, "--here", 0, height);
    const whole = media.duration;
    if (whole > 0 && Number.isFinite(whole)) {
      for (let at = 0; at < media.buffered.length; at += 1) {
        fill(media.buffered.start(at) / whole, media.buffered.end(at) / whole, "--accent", height * 0.72, height * 0.28);
      }
      fill(media.currentTime / whole - 1 / width, media.currentTime / whole + 1 / width, "--ink", 0, height);
    }
  };
  for (const name of ["timeupdate", "progress", "seeking", "loadedmetadata"]) media.addEventListener(name, draw);
  new ResizeObserver(draw).observe(canvas);
  canvas.addEventListener("click", (event) => {
    if (media.duration > 0) media.currentTime = (media.duration * event.offsetX) / canvas.clientWidth;
  });
  return {
    node: canvas,
    show(found) {
      runs = found;
      const here = (runs ?? []).reduce((sum, [from, to]) => sum + to - from, 0);
      const words = runs ? `${Math.floor(100 * Math.min(1, here + 1e-9))} % of the file is here` : "What of the file is here is not known";
      canvas.setAttribute("aria-label", words);
      canvas.title = words;
      draw();
    },
  };
}

/** Keeps the map and the sentence below it up to date. */
function look(media, film, map, wait, signal) {
  let [waiting, busy] = [0, false];
  async function now() {
    if (busy || document.hidden) return;
    busy = true;
    const [runs, item] = await Promise.all([film.pieces?.(), film.state?.()].map((asked) => Promise.resolve(asked).catch(() => null)));
    busy = false;
    if (signal.aborted) return;
    map.show(runs ?? (item && item.total_len && item.have_bytes >= item.total_len ? [[0, 1]] : null));
    const long = waiting && performance.now() - waiting > NOTICED_MS;
    say(wait, long ? whyWaiting(item) : "");
  }
  const stalled = () => {
    waiting ||= performance.now();
    setTimeout(now, NOTICED_MS + 50);
  };
  for (const name of ["waiting", "stalled"]) media.addEventListener(name, () => media.readyState < 3 && stalled());
  for (const name of ["playing", "canplay", "pause"]) {
    media.addEventListener(name, () => {
      waiting = 0;
      say(wait, "");
    });
  }
  stalled();
  film.heard?.(now);
  const timer = setInterval(now, LOOK_EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function whyWaiting(item) {
  if (!item) return "Waiting for data…";
  if (item.peers === 0) return "Waiting: no peer is connected yet.";
  return `Waiting for data from ${count(item.peers, "peer")}, ${rate(item.download_rate)}.`;
}

/** A choice of subtitles; they are read when they are chosen. */
function subtitles(media, all, bar) {
  if (all.length === 0) return;
  const select = h("select", { id: "subtitles", onchange: () => choose(select.value) }, h("option", { value: "" }, "Off"), all.map(({ label }, at) => h("option", { value: at }, label)));
  bar.append(h("label", { for: "subtitles" }, "Subtitles"), select);
  let shown = null;
  async function choose(value) {
    shown?.remove();
    shown = null;
    const one = all[value];
    remember(LANGUAGE, one ? one.language || "any" : "");
    if (!one) return;
    try {
      const response = await send(one.url);
      const src = URL.createObjectURL(new Blob([toVtt(await response.arrayBuffer())], { type: "text/vtt" }));
      shown = h("track", { kind: "subtitles", label: one.label, srclang: one.language || "und", src, default: true });
      shown.addEventListener("load", () => URL.revokeObjectURL(src));
      media.append(shown);
      shown.track.mode = "showing";
      announce(`Subtitles: ${one.label}`);
    } catch (error) {
      announce(`The subtitles cannot be read: ${error.message}`);
      select.value = "";
    }
  }
  const wanted = recall(LANGUAGE);
  const found = all.findIndex(({ language }) => (language || "any") === wanted);
  if (wanted && found >= 0) {
    select.value = String(found);
    choose(found);
  }
}

/** Goes on where the film was left. */
function resume(media, key, bar) {
  const place = places()[key];
  media.addEventListener("loadedmetadata", () => {
    if (!place || place.at < 2 || place.at > media.duration * 0.97) return;
    media.currentTime = place.at;
    const again = h("button", { type: "button", onclick: () => ((media.currentTime = 0), note.remove()) }, "Start over");
    const note = h("span", { class: "resumed" }, `Goes on at ${clock(place.at)}. `, again);
    bar.append(note);
  }, { once: true });
  let saved = 0;
  media.addEventListener("timeupdate", () => {
    if (Math.abs(media.currentTime - saved) < 2) return;
    saved = media.currentTime;
    const all = Object.entries({ ...places(), [key]: { at: saved, when: Date.now() } });
    all.sort(([, one], [, other]) => other.when - one.when);
    remember(PLACES, JSON.stringify(Object.fromEntries(all.slice(0, MOST_PLACES))));
  });
}

function places() {
  try {
    return JSON.parse(recall(PLACES) || "{}");
  } catch {
    return {};
  }
}

// A browser may keep nothing; then nothing is remembered.
function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // See above.
  }
}

/** In the player's place: the source that failed, or that this browser has no decoder. */
async function unplayable(media, film, frame, signal) {
  const fault = media.error;
  let why = null;
  try {
    await (await send(film.url, { headers: { range: "bytes=0-0" }, signal })).arrayBuffer();
  } catch (error) {
    why = error;
  }
  const again = () => here.replaceWith(player(film, signal));
  why ??= new Problem({
    title: fault?.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED || fault?.code === MediaError.MEDIA_ERR_DECODE ? "This browser cannot play the file" : "The stream broke off",
    detail: "Its bytes can be had. A player such as mpv or VLC takes the link or the M3U below.",
  });
  const here = problem(why, again);
  here.classList.add("player");
  return here;
}
