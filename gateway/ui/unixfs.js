// Blocks of IPFS as far as a listing needs them: the links and the kind of a dag-pb node, and CIDs as text. Pure.

const KINDS = ["file", "directory", "file", "metadata", "symlink", "shard"];

/** Reads a block by its CID: `{ kind, size, links: [{ name, cid, size }] }`; null when it is in another codec. */
export function node(bytes, cid) {
  const codec = codecOf(cid);
  if (codec === 0x55) return { kind: "file", size: bytes.length, links: [] };
  if (codec !== 0x70) return null;
  const found = { kind: "file", size: 0, links: [], prefix: 0 };
  for (const { number, value } of fields(bytes)) {
    if (number === 2) found.links.push(link(value));
    else if (number === 1) Object.assign(found, unixfs(value));
  }
  return found;
}

function link(bytes) {
  const found = { name: "", cid: "", size: 0 };
  for (const { number, value } of fields(bytes)) {
    if (number === 1) found.cid = cidText(value);
    else if (number === 2) found.name = new TextDecoder().decode(value);
    else if (number === 3) found.size = value;
  }
  return found;
}

function unixfs(bytes) {
  const found = { kind: "file", size: 0, prefix: 0 };
  for (const { number, value } of fields(bytes)) {
    if (number === 1) found.kind = KINDS[value] ?? "other";
    else if (number === 3) found.size = value;
    // Names in a shard begin with the number of their place, in so many hexadecimal digits.
    else if (number === 6) found.prefix = (value - 1).toString(16).length;
  }
  return found;
}

/** The fields of a protobuf message; numbers as such, everything else as bytes. */
function* fields(bytes) {
  for (let at = 0; at < bytes.length; ) {
    const [tag, behind] = varint(bytes, at);
    const [value, next] = varint(bytes, behind);
    const number = Math.floor(tag / 8);
    if (tag % 8 === 0) {
      yield { number, value };
      at = next;
    } else if (tag % 8 === 2 && next + value <= bytes.length) {
      yield { number, value: bytes.subarray(next, next + value) };
      at = next + value;
    } else {
      return;
    }
  }
}

function varint(bytes, at) {
  let [value, scale] = [0, 1];
  for (; at < bytes.length; scale *= 128) {
    const byte = bytes[at++];
    value += (byte & 127) * scale;
    if (byte < 128) break;
  }
  return [value, at];
}

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";
const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** A binary CID as text: base58 for version 0, base32 for the others. */
export function cidText(bytes) {
  return bytes[0] === 0x12 && bytes.length === 34 ? base58(bytes) : `b${base32(bytes)}`;
}

function base32(bytes) {
  let [text, bits, held] = ["", 0, 0];
  for (const byte of bytes) {
    held = (held << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) text += BASE32[(held >> (bits - 5)) & 31];
    held &= 255;
  }
  return bits ? text + BASE32[(held << (5 - bits)) & 31] : text;
}

function base58(bytes) {
  let [number, text] = [0n, ""];
  for (const byte of bytes) number = number * 256n + BigInt(byte);
  for (; number > 0n; number /= 58n) text = BASE58[Number(number % 58n)] + text;
  return text;
}

/** The codec of a CID in base58 (version 0) or base32; of any other spelling, that of a file or folder. */
function codecOf(cid) {
  if (!/^b[a-z2-7]+$/.test(cid)) return 0x70;
  let [bytes, bits, held] = [[], 0, 0];
  for (const letter of cid.slice(1, 9)) {
    held = (held << 5) | BASE32.indexOf(letter);
    bits += 5;
    if (bits >= 8) bytes.push((held >> (bits -= 8)) & 255);
  }
  return varint(bytes, 1)[0];
}
