// Links for others: players, and people. Where credentials are wanted they are signed, so that they need none until a time.
import { ROOT, send, tell } from "./api.js";
import { announce, copyButton, h } from "./dom.js";
import { moment } from "./words.js";

/** How long a saved list stays in the browser's hands before it is let go. */
const SAVED_AFTER_MS = 10_000;

/** Whether links that are to be good for others must be signed. */
export const areSigned = document.querySelector('meta[name="links"]')?.content === "signed";

/** A URL of content for others: `{ url, until }`, where `until` says when it ends, and is null when it does not. */
export async function share(href) {
  if (!areSigned) return { url: href, until: null };
  const { pathname, search } = new URL(href, ROOT);
  const { url, expires } = await tell("POST", "links", { path: pathname + search });
  return { url: new URL(url, ROOT).href, until: moment(new Date(1000 * expires), new Date()) };
}

/** A button that copies such a URL, and says until when it is good. */
export function linkButton(label, href, more) {
  return copyButton(
    label,
    async () => {
      try {
        const { url, until } = await share(href);
        return { text: url, note: until ? `Copied, until ${until}` : "Copied" };
      } catch {
        // Who may not sign links has this one: good for whoever may read the content anyhow.
        return { text: href, note: "Copied, unsigned" };
      }
    },
    more,
  );
}

/** A link that saves a playlist whose entries are absolute, so that it plays wherever it is put. */
export function playlistLink(label, href, name, more) {
  return h("a", { href, onclick: save, ...more }, label);

  async function save(event) {
    event.preventDefault();
    try {
      const list = await (await send(href, { headers: { accept: "*/*" } })).text();
      const lines = list.split("\n").map((line) => (line && !line.startsWith("#") ? new URL(line, href).href : line));
      const url = URL.createObjectURL(new Blob([lines.join("\n")], { type: "audio/x-mpegurl" }));
      h("a", { href: url, download: `${name}.m3u8` }).click();
      setTimeout(() => URL.revokeObjectURL(url), SAVED_AFTER_MS);
    } catch (error) {
      announce(error.message);
      location.assign(href);
    }
  }
}

/** How to play a URL elsewhere, with the line for mpv; it is signed when it is looked at. */
export function elsewhere(href) {
  const code = h("code", {}, line(href));
  const note = h("p", { class: "fine", role: "status" });
  const more = h(
    "details",
    { class: "elsewhere" },
    h("summary", {}, "Play elsewhere"),
    h("p", {}, "In a player on this machine, or on another that reaches this gateway:"),
    h("div", { class: "command" }, code, copyButton("Copy", () => code.textContent, { "aria-label": "Copy the line for mpv" })),
    note,
  );
  more.addEventListener("toggle", async () => {
    if (!more.open || !areSigned) return;
    try {
      const { url, until } = await share(href);
      code.textContent = line(url);
      note.textContent = `This plays without credentials until ${until}.`;
    } catch (error) {
      note.textContent = `This needs credentials: ${error.message}`;
    }
  });
  return more;
}

const line = (url) => `mpv "${url}"`;

/** The archives of a folder, `href` being its own URL with a slash at its end. */
export function archives(href, formats, name, kind = "") {
  return formats.map((format) =>
    h("a", { class: kind, href: `${href}?format=${format}`, "aria-label": `${name} as ${format}`, title: "All files as one" }, format),
  );
}
