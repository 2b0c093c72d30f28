// A person in front of Chromium, who looks at the gateway's pages. Commands carry `peer`, the visitor's number, and so do
// events. Every visitor has a profile of their own.
//
//   open   peer, dark?, width?, height?    -> "opened"    a window; nothing is in it yet
//   visit  peer, url                       -> "visited"
//   type   peer, into, text                -> "typed"     `into` is a selector, and so is `on`
//   click  peer, on                        -> "clicked"
//   press  peer, keys                      -> "pressed"
//   drop   peer, file                      -> "dropped"   from the desktop, anywhere on the page
//   run    peer, script                    -> "ran"       `value` is what the function's body returns
//   audit  peer                            -> "audited"   `violations` of accessibility rules, by axe
//   heard  peer                            -> "told"      `complaints` of the browser: its console, refused by policy, …
//   film   path, seconds, …                -> "filmed"    a WebM that this browser has made, see film.mjs
//   shot   peer, path                      -> "shot"      a picture of the whole page
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { basename } from "node:path";

import { chromium } from "playwright-core";

import { film } from "./film.mjs";
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
  // Else a page that joins a swarm has no candidates on a machine that has nothing but loopback.
  "--allow-loopback-in-peer-connection",
];
const AXE = readFileSync(`${process.env.SWARMGATE_NODE_MODULES}/axe-core/axe.min.js`, "utf8");
/** What a page takes to react to a click; what takes longer, a story waits for. */
const REACTS_WITHIN_MS = 10_000;

const browser = await chromium.launch({ executablePath: process.env.SWARMGATE_CHROMIUM, headless: true, args: FLAGS });
let ending = false;
browser.on("disconnected", () => ending || process.exit(1));
const visitors = new Map();

/** An encoder is only where the origin is trusted: a page of this machine. */
const empty = createServer((_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html>"));
await new Promise((done) => empty.listen(0, "127.0.0.1", done));

async function open({ dark, width = 1200, height = 860 }) {
  const colorScheme = dark ? "dark" : "light";
  const context = await browser.newContext({ colorScheme, viewport: { width, height }, hasTouch: width < 500 });
  const page = await context.newPage();
  page.setDefaultTimeout(REACTS_WITHIN_MS);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error.stack ?? error)));
  page.on("console", (message) => {
    const text = message.text();
    // An answer that is no success is in the console too; what the page makes of it is the story's matter.
    if (message.type() === "error" && !text.startsWith("Failed to load resource")) complaints.push(text);
  });
  page.on("dialog", (dialog) => dialog.accept());
  return { page, complaints };
}

const actions = {
  visit: ({ page }, { url }) => page.goto(url).then(() => ({ event: "visited" })),
  type: ({ page }, { into, text }) => page.fill(into, text).then(() => ({ event: "typed" })),
  click: ({ page }, { on }) => page.click(on).then(() => ({ event: "clicked" })),
  press: ({ page }, { keys }) => page.keyboard.press(keys).then(() => ({ event: "pressed" })),
  async drop({ page }, { file }) {
    await page.evaluate(({ letters, name }) => {
      const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], name));
      for (const happening of ["dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(happening, { dataTransfer, bubbles: true, cancelable: true }));
      }
    }, { letters: readFileSync(file).toString("base64"), name: basename(file) });
    return { event: "dropped" };
  },
  async run({ page }, { script }) {
    return { event: "ran", value: await page.evaluate(`(async () => { ${script} })()`) };
  },
  async audit({ page }) {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    const told = ({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map((node) => node.target.join(" ")) });
    return { event: "audited", violations: violations.map(told) };
  },
  heard: async ({ complaints }) => ({ event: "told", complaints }),
  shot: ({ page }, { path }) => page.screenshot({ path, fullPage: true }).then(() => ({ event: "shot" })),
};

async function make({ path, ...options }) {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${empty.address().port}/`);
  writeFileSync(path, Buffer.from(await page.evaluate(film, options), "base64"));
  await page.close();
}

say({ event: "ready", version: browser.version() });
await obey(async ({ peer, ...command }) => {
  if (command.do === "film") {
    await make(command);
    return say({ event: "filmed" });
  }
  if (command.do === "open") {
    visitors.set(peer, await open(command));
    return say({ event: "opened", peer });
  }
  const action = actions[command.do];
  if (!action) throw new Error(`no such command: ${command.do}`);
  say({ ...(await action(visitors.get(peer), command)), peer });
});
ending = true;
await browser.close();
process.exit(0);
