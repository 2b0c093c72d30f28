// The application: takes the start page over, and shows what the address names. The part behind `#` is a path, so that
// every page works below any base path and can be bookmarked: #/, #/bt/INFOHASH/FILE, #/ipfs/CID/PATH, #/status, …
import { Problem, happenings, listen } from "./api.js";
import { announce, h, voiceOf } from "./dom.js";
import { show as dag } from "./dag.js";
import { show as dashboard } from "./dashboard.js";
import { show as home, open, openFile } from "./home.js";
import { problem } from "./problem.js";
import { show as settings } from "./settings.js";
import { show as torrent } from "./torrent.js";

const PAGES = { "": home, bt: torrent, ipfs: dag, ipns: dag, status: dashboard, settings };
const TABS = [["#/", "Home"], ["#/status", "Status"], ["#/settings", "Settings"]];

const main = document.querySelector("main");
const tabs = TABS.map(([href, label]) => h("a", { href }, label));
const light = h("span", { class: "light", role: "img", "aria-label": "Connecting to the gateway" });

document.querySelector("header.top").replaceChildren(
  h("a", { class: "skip", href: "#main", onclick: skip }, "Skip to the content"),
  h("a", { class: "brand", href: "#/" }, "swarmgate"),
  h("nav", { "aria-label": "Pages" }, tabs),
  light,
);
main.id = "main";
main.tabIndex = -1;
voiceOf(document.body);

function skip(event) {
  event.preventDefault();
  main.focus();
}

let left = new AbortController();

async function show(first) {
  left.abort();
  left = new AbortController();
  const { signal } = left;
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const segments = path.split("/").map(decoded).filter(Boolean);
  const page = PAGES[segments[0] ?? ""] ?? missing;
  for (const [at, [href]] of TABS.entries()) {
    if (href === `#/${segments[0] ?? ""}`) tabs[at].setAttribute("aria-current", "page");
    else tabs[at].removeAttribute("aria-current");
  }
  main.replaceChildren();
  try {
    await page(main, { segments, query: new URLSearchParams(query), signal, retitle });
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(problem(error, () => show()));
  }
  if (signal.aborted || first) return;
  scrollTo(0, 0);
  // What was clicked is gone; whoever uses a keyboard goes on from the top of what is new.
  if (document.activeElement === document.body) main.focus({ preventScroll: true });
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Names the page: in the window's title, and to those who listen. */
function retitle(title) {
  document.title = title ? `${title} – swarmgate` : "swarmgate";
  announce(title || "Home");
}

function missing() {
  throw new Problem({ title: "There is no such page", detail: "Paste a link on the start page." });
}

happenings.addEventListener("connection", ({ detail: up }) => {
  light.className = `light ${up ? "up" : "down"}`;
  light.setAttribute("aria-label", up ? "Connected to the gateway" : "Not connected to the gateway");
  light.title = light.getAttribute("aria-label");
});

// A link or a file may be dropped or pasted anywhere.
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  const text = event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain");
  if (file) attemptTo(openFile(file));
  else if (text) attemptTo(open(text));
});
addEventListener("paste", (event) => {
  if (event.target.closest?.("input, textarea")) return;
  const [file] = event.clipboardData.files;
  if (file) attemptTo(openFile(file));
  else attemptTo(open(event.clipboardData.getData("text/plain")));
});

async function attemptTo(opening) {
  try {
    await opening;
  } catch (error) {
    main.replaceChildren(problem(error));
  }
}

addEventListener("hashchange", () => show());
show(true);
listen();
