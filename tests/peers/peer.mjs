// One WebTorrent client and what it can be told, the same in Node and in a page: the content is in memory, and what
// happens is told in events that carry the torrent's infohash as `key`.
//
//   seed      payload, torrent, trackers       -> "seeding" once everything is verified and all the trackers have answered
//   download  torrent or magnet, trackers      -> "announced", "metadata", "progress" ..., "done" with the SHA-256
//   limit     upload in bytes/s, -1 for none   -> "limited"
//   status                                     -> "status"
//   remove                                     -> "removed"

const PROGRESS_EVERY_MS = 100;

/** A chunk store (npm abstract-chunk-store) in memory, empty or with all of a payload. */
class MemoryStore {
  constructor(chunkLength, payload) {
    this.chunkLength = chunkLength;
    this.chunks = [];
    for (let at = 0; payload && at < payload.length; at += chunkLength) {
      this.chunks.push(payload.subarray(at, at + chunkLength));
    }
  }

  put(index, chunk, done = () => {}) {
    this.chunks[index] = chunk;
    queueMicrotask(() => done(null));
  }

  get(index, options, done) {
    if (typeof options === "function") return this.get(index, null, options);
    const chunk = this.chunks[index];
    if (!chunk) return queueMicrotask(() => done(new Error(`no chunk ${index}`)));
    const from = options?.offset ?? 0;
    const to = from + (options?.length ?? chunk.length - from);
    queueMicrotask(() => done(null, chunk.subarray(from, to)));
  }

  close(done = () => {}) {
    this.chunks = [];
    queueMicrotask(() => done(null));
  }

  destroy(done) {
    this.close(done);
  }
}

/** Clients meet through the trackers that a command names, over WebRTC with addresses of their own, and not otherwise. */
const OPTIONS = {
  dht: false,
  lsd: false,
  utPex: false,
  natUpnp: false,
  natPmp: false,
  utp: false,
  tracker: { rtcConfig: { iceServers: [] } },
};

export class Peer {
  /** `offers` is how many it makes at most for one announce. */
  constructor(WebTorrent, say, offers) {
    this.say = say;
    const tracker = { ...OPTIONS.tracker, getAnnounceOpts: () => (offers ? { numwant: offers } : {}) };
    this.client = new WebTorrent({ ...OPTIONS, tracker });
    this.client.on("error", (e) => say({ event: "error", message: String(e) }));
  }

  async obey(command) {
    switch (command.do) {
      case "seed":
        return this.seed(command);
      case "download":
        return this.download(command);
      case "limit":
        this.client.throttleUpload(command.upload);
        return this.say({ event: "limited" });
      case "status":
        return this.say(await this.status(command.key));
      case "remove":
        return this.client.remove(command.key, {}, () => this.say({ event: "removed", key: command.key }));
      default:
        throw new Error(`no such command: ${command.do}`);
    }
  }

  seed({ key, torrent, payload, trackers }) {
    const added = this.add(key, torrent, trackers, payload);
    // Two announces go out, in this order: "completed", and "started" with offers, which take a moment to make. Whoever
    // joins between them and offers too, meets this peer twice, and some then lose both connections.
    let awaited = 2 * trackers.length;
    const announced = new Promise((done) => (awaited ? added.on("trackerAnnounce", () => --awaited || done()) : done()));
    added.once("ready", async () => {
      await announced;
      if (added.done) this.say({ event: "seeding", key });
      else this.say({ event: "error", key, message: "the payload is not what the torrent names" });
    });
  }

  download({ key, torrent, magnet, trackers }) {
    const started = performance.now();
    const since = () => Math.round(performance.now() - started);
    const added = this.add(key, torrent ?? magnet, trackers, null);
    let firstByte = 0;
    added.once("trackerAnnounce", () => this.say({ event: "announced", key }));
    added.once("metadata", () => this.say({ event: "metadata", key, name: added.name, after_ms: since() }));
    added.once("download", () => (firstByte = since()));
    added.once("done", async () => {
      const total = since();
      const sha256 = await digest(await new Blob(added.memory.chunks).arrayBuffer());
      this.say({ event: "done", key, bytes: added.length, sha256, first_byte_ms: firstByte, total_ms: total });
    });
  }

  add(key, torrent, trackers, payload) {
    const store = function (chunkLength) {
      return (added.memory = new MemoryStore(chunkLength, payload));
    };
    // The kit names trackers apart from the torrent, so that one torrent can be shared by different ways.
    const added = this.client.add(torrent, { announce: trackers, store, storeCacheSlots: 0 });
    added.on("error", (e) => this.say({ event: "error", key, message: String(e) }));
    added.on("warning", (e) => this.say({ event: "warning", key, message: String(e?.message ?? e) }));
    let pending = null;
    const progress = () => {
      pending ??= setTimeout(async () => {
        pending = null;
        if (!added.destroyed) this.say({ ...(await this.status(key)), event: "progress" });
      }, PROGRESS_EVERY_MS);
    };
    for (const event of ["download", "upload", "wire"]) added.on(event, progress);
    return added;
  }

  async status(key) {
    const torrent = await this.client.get(key);
    if (!torrent) throw new Error(`${key} is not shared here`);
    const { downloaded, received, uploaded, done, wires } = torrent;
    const peers = wires.map(({ type, remoteAddress }) => ({ type, address: remoteAddress ?? null }));
    return { event: "status", key, have: downloaded, received, uploaded, done, peers };
  }
}

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
