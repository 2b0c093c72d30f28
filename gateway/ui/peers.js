// Who is connected for one torrent, and how: looked at as long as the list is open.
import { get } from "./api.js";
import { h, keyed, say } from "./dom.js";
import { count, reached } from "./words.js";

const LOOK_EVERY_MS = 1500;
/** Most rows shown. */
const MOST_PEERS = 200;

/** A list of an item's peers that opens. */
export function peers(id, signal) {
  const [summary, list, none] = [h("summary", {}, "Peers"), h("ul", { class: "rows" }), h("p", { class: "quiet" }, "No peer is connected.")];
  const update = keyed(list, make);
  const more = h("details", { class: "peers" }, summary, none, list);
  more.addEventListener("toggle", () => more.open && look());
  const timer = setInterval(() => more.open && !document.hidden && look(), LOOK_EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  return more;

  async function look() {
    const told = await get(`items/${id}/peers`, { signal }).catch(() => null);
    if (signal.aborted) return;
    const all = told?.peers ?? [];
    say(summary, told ? `Peers: ${all.length}` : "Peers");
    none.hidden = all.length > 0;
    say(none, told ? "No peer is connected." : "Who is connected cannot be told now.");
    // Those behind WebRTC have no address of their own, so they are told apart by their place.
    update(all.slice(0, MOST_PEERS).map((peer, at) => ({ ...peer, id: peer.address ? `${peer.transport} ${peer.address}` : `${peer.transport} ${at}` })), (peer) => peer.id);
    if (all.length > MOST_PEERS) say(summary, `Peers: ${count(all.length, "peer")}, the first ${MOST_PEERS} of them`);
  }
}

function make() {
  const [name, facts] = [h("span", { class: "name" }), h("span", { class: "facts" })];
  return {
    node: h("li", {}, name, facts),
    update(peer) {
      say(name, peer.address ?? "a browser or another peer by WebRTC");
      say(facts, reached(peer));
    },
  };
}
