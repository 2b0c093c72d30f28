// What somebody has pasted: a magnet, an infohash, a CID, a path or URI of IPFS, a name, or a URL. Pure.

const HEX_HASH = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/i;
const BASE32_HASH = /^[a-z2-7]{32}$/i;
const CID = /^(?:Qm[1-9A-HJ-NP-Za-km-z]{44}|b[a-z2-7]{50,}|f0[0-9a-f]{60,}|z[1-9A-HJ-NP-Za-km-z]{45,}|k[0-9a-z]{45,})$/;
const PEER_ID = /^(?:12D3Koo[1-9A-HJ-NP-Za-km-z]{45}|k51[0-9a-z]{50,})$/;
const HOST = /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$/i;

/**
 * Reads it: `{ page }` is where it leads in the application; `{ add, page? }` is what must be added first, and where
 * that leads if that is known before the gateway's answer. Null is nothing that can be opened.
 */
export function read(text) {
  const pasted = text.trim();
  if (/^magnet:/i.test(pasted)) return magnet(pasted);
  if (HEX_HASH.test(pasted) || BASE32_HASH.test(pasted)) return { page: `#/bt/${pasted.toLowerCase()}` };
  const named = /^(ipfs|ipns):\/\/(?:(?:ipfs|ipns)\/)?(.+)$/i.exec(pasted) ?? /^\/?(ipfs|ipns)\/(.+)$/i.exec(pasted);
  if (named) return { page: place(named[1].toLowerCase(), decoded(named[2])) };
  if (/^https?:\/\//i.test(pasted)) return url(pasted);
  const root = pasted.split("/")[0];
  if (PEER_ID.test(root) || (HOST.test(root) && !CID.test(root))) return { page: place("ipns", pasted) };
  if (CID.test(root)) return { page: place("ipfs", pasted) };
  return null;
}

function magnet(uri) {
  const topics = new URLSearchParams(uri.slice(uri.indexOf("?") + 1)).getAll("xt");
  const hash = topics.map((topic) => /^urn:btih:(.+)$/i.exec(topic)?.[1]).find(Boolean);
  const known = hash && (HEX_HASH.test(hash) || BASE32_HASH.test(hash));
  return { add: uri, page: known ? `#/bt/${hash.toLowerCase()}` : null };
}

/** The address of a path of IPFS on somebody's gateway means the path; any other should be a `.torrent`. */
function url(pasted) {
  let parsed;
  try {
    parsed = new URL(pasted);
  } catch {
    return null;
  }
  const [, namespace, rest] = /^\/(ipfs|ipns)\/(.+)$/.exec(parsed.pathname) ?? [];
  if (namespace) return { page: place(namespace, decoded(rest)) };
  const [, label, kind] = /^([^.]+)\.(ipfs|ipns)\./.exec(parsed.hostname) ?? [];
  if (kind) return { page: place(kind, `${label}${decoded(parsed.pathname)}`) };
  return { add: pasted };
}

function decoded(text) {
  try {
    return decodeURIComponent(text.replace(/[?#].*$/, ""));
  } catch {
    return text;
  }
}

/** The address of a path in the application. */
export function place(namespace, path) {
  return `#/${namespace}/${path.split("/").filter(Boolean).map(encodeURIComponent).join("/")}`;
}
