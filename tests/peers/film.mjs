// A film made by the browser that is to play it: its own encoder's frames in a WebM with cues, so that it can be sought
// in. Runs in a page, whole, since that is where the encoder is.

/** Films so many seconds of moving shapes, and gives them as WebM in base64. */
export async function film({ seconds, width, height, rate, bitrate }) {
  const KEYFRAME_EVERY = 2 * rate;
  const chunks = [];
  const encoder = new VideoEncoder({
    output(chunk) {
      const bytes = new Uint8Array(chunk.byteLength);
      chunk.copyTo(bytes);
      chunks.push({ bytes, at: Math.round(chunk.timestamp / 1000), key: chunk.type === "key" });
    },
    error(e) {
      throw e;
    },
  });
  encoder.configure({ codec: "vp8", width, height, bitrate, framerate: rate, latencyMode: "realtime" });
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d");
  for (let frame = 0; frame < seconds * rate; frame += 1) {
    pen.fillStyle = `hsl(${(frame * 3) % 360} 30% 25%)`;
    pen.fillRect(0, 0, width, height);
    for (let at = 0; at < 60; at += 1) {
      pen.fillStyle = `hsl(${(at * 47 + frame * 5) % 360} 80% 60%)`;
      pen.fillRect((at * 97 + frame * (3 + (at % 5))) % width, (at * 61 + frame * (1 + (at % 7))) % height, 14, 14);
    }
    pen.fillStyle = "white";
    pen.font = `${height / 4}px monospace`;
    pen.fillText(`${Math.floor(frame / rate)} s`, width / 20, height / 2);
    const picture = new VideoFrame(canvas, { timestamp: (frame * 1e6) / rate, duration: 1e6 / rate });
    encoder.encode(picture, { keyFrame: frame % KEYFRAME_EVERY === 0 });
    picture.close();
    if (encoder.encodeQueueSize > 20) await new Promise((done) => setTimeout(done, 5));
  }
  await encoder.flush();

  // EBML: an id, a length, and what is in it; numbers in eight bytes, so that lengths are known before values are.
  const hex = (text) => Uint8Array.from(text.match(/../g), (byte) => parseInt(byte, 16));
  const join = (parts) => {
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
    return whole;
  };
  const eight = (write) => {
    const bytes = new Uint8Array(8);
    write(new DataView(bytes.buffer));
    return bytes;
  };
  const number = (value) => eight((view) => view.setBigUint64(0, BigInt(value)));
  const float = (value) => eight((view) => view.setFloat64(0, value));
  const length = (value) => eight((view) => view.setBigUint64(0, (1n << 56n) | BigInt(value)));
  const element = (id, ...parts) => {
    const inner = join(parts);
    return join([hex(id), length(inner.length), inner]);
  };
  const text = (value) => new TextEncoder().encode(value);

  const groups = [];
  for (const chunk of chunks) {
    if (chunk.key) groups.push([]);
    groups.at(-1).push(chunk);
  }
  const clusters = groups.map((group) => {
    const from = group[0].at;
    const blocks = group.map(({ bytes, at, key }) => {
      const behind = at - from;
      return element("a3", Uint8Array.of(0x81, behind >> 8, behind & 255, key ? 0x80 : 0), bytes);
    });
    return { from, bytes: element("1f43b675", element("e7", number(from)), ...blocks) };
  });
  const head = element(
    "1a45dfa3",
    element("4286", number(1)),
    element("42f7", number(1)),
    element("42f2", number(4)),
    element("42f3", number(8)),
    element("4282", text("webm")),
    element("4287", number(4)),
    element("4285", number(2)),
  );
  const info = element(
    "1549a966",
    element("2ad7b1", number(1_000_000)),
    element("4489", float(seconds * 1000)),
    element("4d80", text("swarmgate")),
    element("5741", text("swarmgate")),
  );
  const size = element("e0", element("b0", number(width)), element("ba", number(height)));
  const track = [element("d7", number(1)), element("73c5", number(1)), element("83", number(1)), element("86", text("V_VP8"))];
  const tracks = element("1654ae6b", element("ae", ...track, size));
  const cues = (first) => {
    let place = first;
    const points = clusters.map(({ from, bytes }) => {
      const point = element("bb", element("b3", number(from)), element("b7", element("f7", number(1)), element("f1", number(place))));
      place += bytes.length;
      return point;
    });
    return element("1c53bb6b", ...points);
  };
  const first = info.length + tracks.length + cues(0).length;
  const segment = element("18538067", info, tracks, cues(first), ...clusters.map(({ bytes }) => bytes));
  const whole = join([head, segment]);
  let letters = "";
  for (let at = 0; at < whole.length; at += 32768) letters += String.fromCharCode(...whole.subarray(at, at + 32768));
  return btoa(letters);
}
