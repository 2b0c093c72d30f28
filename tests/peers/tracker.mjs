// npm's bittorrent-tracker as a WebSocket tracker on a loopback port of the kernel's choice.
//
// Says {"event":"ready","url"}; "peers" as often as somebody announced himself, with how many of a swarm there are. With
// `quiet` it says the first alone: a bench wants to know what the tracker costs, and not what telling of it does.
import Server from "bittorrent-tracker/server";

import { obey, say } from "./lines.mjs";

// Its clients announce themselves again after two minutes, the tracker's own choice. Much oftener, and they would offer
// connections to peers that they have already, in the middle of a transfer: some then lose both.
const tracker = new Server({ udp: false, http: false, ws: true, stats: false });
tracker.on("error", (e) => say({ event: "error", message: String(e) }));
tracker.on("warning", (e) => say({ event: "warning", message: String(e) }));
for (const kind of process.argv[2] === "quiet" ? [] : ["start", "update", "complete", "stop"]) {
  tracker.on(kind, (_, { info_hash: key }) => {
    const { complete = 0, incomplete = 0 } = tracker.torrents[key] ?? {};
    say({ event: "peers", key, complete, incomplete });
  });
}
tracker.listen(0, "127.0.0.1", () => say({ event: "ready", url: `ws://127.0.0.1:${tracker.http.address().port}` }));

await obey(async () => {});
process.exit(0);
