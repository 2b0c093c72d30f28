// The gateway, as its pages reach it: every URL is relative to where these modules lie, so any base path will do.

/** The gateway's root. */
export const ROOT = new URL("..", import.meta.url);

/** The absolute URL of a path below it. */
export const at = (path) => new URL(path, ROOT);

/** An answer that is no success, as a problem document (RFC 9457) or in its place. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail || document.title);
    this.document = document;
  }

  get kind() {
    return String(this.document.type ?? "").replace("urn:swarmgate:problem:", "");
  }
}

const TOKEN = "swarmgate-token";

/** Uses a token from now on, as long as the tab is open. */
export const useToken = (token) => sessionStorage.setItem(TOKEN, token);

function bearer() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Where a token is wanted that the page came without, the page asks for it, and the browser does not with a dialogue. */
const credentials = document.querySelector('meta[name="api"]')?.content === "token" ? "omit" : "same-origin";

/** Sends a request; throws a [`Problem`] unless it succeeds. */
export async function send(url, { headers, ...options } = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, credentials, headers: { accept: "application/json", ...bearer(), ...headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "The gateway does not answer", detail: "Is it still running?", type: "unreachable" });
  }
  if (!response.ok) throw new Problem(await problemOf(response));
  return response;
}

/** What went wrong, from an answer. */
export async function problemOf(response) {
  const { status, statusText } = response;
  try {
    return { status, ...(await response.json()) };
  } catch {
    return { title: statusText || `HTTP ${status}`, status };
  }
}

/** Reads JSON of the API. */
export const get = async (path, options) => (await send(at(`api/v1/${path}`), options)).json();

/** Sends JSON to the API, and reads its answer if there is one. */
export async function tell(method, path, body) {
  const json = body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const response = await send(at(`api/v1/${path}`), { method, ...json });
  return response.status === 204 ? null : response.json();
}

/** Adds what a magnet or the URL of a `.torrent` names; it is dropped again when nobody has used it for a while. */
export const add = (uri) => tell("POST", "items", { uri, pin: false });

/** Adds a `.torrent` file. */
export async function addFile(file) {
  const headers = { "content-type": "application/x-bittorrent" };
  return (await send(at("api/v1/items?pin=false"), { method: "POST", body: file, headers })).json();
}

/** Adds the DAGs of a CAR, which are kept. */
export async function addCar(file) {
  const headers = { "content-type": "application/vnd.ipld.car" };
  return (await send(at("api/v1/items"), { method: "POST", body: file, headers })).json();
}

const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 30_000;

/**
 * What happens at the gateway, as DOM events of the same names whose `detail` is the document; `connection` tells whether
 * the stream is up. It is read by hand because an EventSource can send no token.
 */
export const happenings = new EventTarget();

const tellAll = (name, detail) => happenings.dispatchEvent(new CustomEvent(name, { detail }));

/** Begins to listen, and does so until the page is left. */
export async function listen() {
  let delay = FIRST_DELAY_MS;
  for (let last = null; ; ) {
    try {
      const headers = { accept: "text/event-stream", ...(last && { "last-event-id": last }) };
      const response = await send(at("api/v1/events"), { headers });
      tellAll("connection", true);
      delay = FIRST_DELAY_MS;
      for await (const event of eventsOf(response.body)) {
        last = event.id ?? last;
        const it = JSON.parse(event.data);
        tellAll(event.name, it);
        tellAll("any", { event: event.name, it });
      }
    } catch {
      // It is tried again, with a token perhaps.
    }
    tellAll("connection", false);
    await new Promise((done) => setTimeout(done, delay));
    delay = Math.min(2 * delay, LONGEST_DELAY_MS);
  }
}

/** Reads server-sent events. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const event = { name: "message", data: "", id: null };
      for (const line of part.split("\n")) {
        const [field, rest] = [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trimStart()];
        if (field === "event") event.name = rest;
        else if (field === "data") event.data += rest;
        else if (field === "id") event.id = rest;
      }
      if (event.data) yield event;
    }
  }
}
