// Preloaded (`node --import`) into every program of this folder: packages are found in the folder that
// SWARMGATE_NODE_MODULES names, since these sources have none beside them, and servers listen on loopback alone.
import { register } from "node:module";
import { Server } from "node:net";

register("./resolve.mjs", import.meta.url);

// webtorrent opens a TCP port on all addresses and has no option that would say otherwise.
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  const bare = typeof port === "number" && typeof rest[0] !== "string";
  return bare ? listen.call(this, port, "127.0.0.1", ...rest) : listen.call(this, port, ...rest);
};
