// Subtitles that lie beside a film: which files they are, and SubRip as WebVTT. Pure, but for the names of languages.

/** Largest file read, in bytes: a film's subtitles have about 100 KiB. */
export const MOST_BYTES = 4 * 1024 * 1024;

const EXTENSION = /\.(srt|vtt)$/i;

/** Makes WebVTT of a file's bytes, be it SubRip or WebVTT already. */
export function toVtt(buffer) {
  const text = decode(buffer).replace(/\r\n?/g, "\n").replace(/^\uFEFF/, "");
  if (/^WEBVTT(?:[ \t\n]|$)/.test(text)) return text;
  // Only the times differ: a comma for the full stop, hours of one digit, coordinates behind.
  const time = (hours, minutes, seconds, millis) =>
    `${(hours ?? "0").padStart(2, "0")}:${minutes.padStart(2, "0")}:${seconds.padStart(2, "0")}.${millis.padEnd(3, "0")}`;
  const cue =
    /^[ \t]*(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})[ \t]*-->[ \t]*(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3}).*$/gm;
  const cues = text.replace(cue, (_, h1, m1, s1, f1, h2, m2, s2, f2) => `${time(h1, m1, s1, f1)} --> ${time(h2, m2, s2, f2)}`);
  return `WEBVTT\n\n${cues.replace(/\{\\an?\d+\}/g, "").replace(/<\/?font[^>]*>/gi, "").trim()}\n`;
}

/** Most subtitles are UTF-8; what is not is older, and mostly of Western Europe. */
function decode(buffer) {
  const head = new Uint8Array(buffer, 0, Math.min(2, buffer.byteLength));
  if ((head[0] === 0xff && head[1] === 0xfe) || (head[0] === 0xfe && head[1] === 0xff)) {
    return new TextDecoder(head[0] === 0xff ? "utf-16le" : "utf-16be").decode(buffer);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(buffer);
  } catch {
    return new TextDecoder("windows-1252").decode(buffer);
  }
}

/**
 * The files that are subtitles of `film`, as `{ file, label, language }`: those named after it, and, when it is the
 * only film, every other too.
 */
export function of(film, files, isFilm) {
  const stem = nameOf(film.path).replace(/\.[^.]*$/, "").toLowerCase();
  const alone = files.filter(isFilm).length === 1;
  const mine = files.filter((file) => {
    if (!EXTENSION.test(file.path) || file.len > MOST_BYTES) return false;
    return alone || file.path.split("/").some((part) => part.toLowerCase().startsWith(stem));
  });
  return mine.map((file) => ({ file, ...labelled(nameOf(file.path), stem) }));
}

function labelled(name, stem) {
  const bare = name.replace(EXTENSION, "");
  const rest = bare.toLowerCase().startsWith(stem) ? bare.slice(stem.length) : bare;
  const words = rest.split(/[._\-\s[\]()]+/).filter(Boolean);
  const code = words.find((word) => /^[a-z]{2,3}$/i.test(word) && language(word));
  const label = code ? [language(code), ...words.filter((word) => word !== code)].join(", ") : words.join(" ");
  return { label: label || "Subtitles", language: code?.toLowerCase() ?? "" };
}

function language(code) {
  try {
    const name = new Intl.DisplayNames(["en"], { type: "language", fallback: "none" }).of(code.toLowerCase());
    return name || null;
  } catch {
    return null;
  }
}

const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);
