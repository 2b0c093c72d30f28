// Where imports lead; runs in Node's loader thread, see packages.mjs.
import { pathToFileURL } from "node:url";

const PACKAGES = pathToFileURL(`${process.env.SWARMGATE_NODE_MODULES}/../importer.mjs`).href;
const HERE = new URL(".", import.meta.url).href;
// webtorrent's own choice of a WebRTC stack is compiled when it is installed; this one comes prebuilt.
const WEBRTC = new URL("wrtc.mjs", import.meta.url).href;

export async function resolve(specifier, context, next) {
  if (specifier === "webrtc-polyfill") return next(WEBRTC, context);
  const bare = /^[@a-z]/i.test(specifier) && !/^[a-z]+:/i.test(specifier);
  const ours = context.parentURL?.startsWith(HERE);
  return next(specifier, bare && ours ? { ...context, parentURL: PACKAGES } : context);
}
