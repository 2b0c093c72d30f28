#!/usr/bin/env python3
"""What a viewer feels over a swarm of slow seeders: our gateway beside rqbit's HTTP streaming.

  stream.py --swarmgate BIN [--rqbit BIN] [--seeders N] [--rate KIB_PER_S] [--size MIB]
            [--seeks N] [--parallel N] [--play-rate KIB_PER_S] [--with-staller] [--runs N]

Each sitting starts a server with nothing cached and tells it the peers. Then, every byte compared with the payload:
first byte of the film, first 64 KiB at random offsets (alone, and while another reader stays open), many readers at
once, and playback at a fixed rate. Servers alternate; medians are quoted, with our ratio.
"""
import argparse
import http.client
import json
import random
import threading
import time
import urllib.parse
import urllib.request

from loopback import MIB, Swarm, free_port, median, start_gateway, table, wait_for_http

READ_TIMEOUT_SECONDS = 30
SEEK_BYTES = 64 << 10
PLAY_SECONDS = 20
# A player shows its first picture with this much in hand, and never holds more than a few seconds ahead.
START_SECONDS, AHEAD_SECONDS = 1, 8


def swarmgate(swarm, args):
    child, base = start_gateway(swarm, args.swarmgate)
    hints = "".join(f"&x.pe={p}" for p in swarm.peers)
    return child, f"{base}/magnet?xt=urn:btih:{swarm.infohash}{hints}"


def rqbit(swarm, args):
    port = free_port()
    command = [args.rqbit, "--disable-dht", "--disable-dht-persistence", "--disable-lsd", "--disable-upnp-port-forward",
               "--ipv4-only", "--listen-ip", "127.0.0.1", "--listen-port", free_port(),
               "--http-api-listen-addr", f"127.0.0.1:{port}", "server", "start", "--disable-persistence", swarm.scratch("rqbit")]
    child = swarm.start("rqbit", command)
    base = f"http://127.0.0.1:{port}"
    wait_for_http(child, base, lambda: swarm.log_tail("rqbit"))
    query = urllib.parse.urlencode({"overwrite": "true", "initial_peers": ",".join(swarm.peers)})
    # Its streaming API knows a torrent only once it is added; the clock of the first byte starts before that.
    add = lambda: urllib.request.urlopen(urllib.request.Request(f"{base}/torrents?{query}", swarm.magnet().encode())).read()
    return child, (f"{base}/torrents/0/stream/0", add)


class Viewer:
    def __init__(self, url, swarm, rng):
        self.url, self.swarm, self.rng = urllib.parse.urlsplit(url), swarm, rng

    def open(self, first, last=None):
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=READ_TIMEOUT_SECONDS)
        target = self.url.path + (f"?{self.url.query}" if self.url.query else "")
        connection.request("GET", target, headers={"Range": f"bytes={first}-{'' if last is None else last}"})
        return connection, connection.getresponse()

    def seek(self, offset, keep=False):
        """Seconds until the first byte and until 64 KiB; None when they did not come or were not the payload's."""
        started = time.perf_counter()
        try:
            connection, answer = self.open(offset, None if keep else offset + SEEK_BYTES - 1)
            got, first_at = b"", None
            while len(got) < SEEK_BYTES and (part := answer.read1(SEEK_BYTES - len(got))):
                first_at = first_at or time.perf_counter() - started
                got += part
        except OSError:
            return None
        took = time.perf_counter() - started
        with open(self.swarm.file, "rb") as f:
            f.seek(offset)
            exact = answer.status == 206 and got == f.read(SEEK_BYTES)
        if not exact:
            print(f"status {answer.status}, {len(got)} bytes at {offset}: not the payload's", flush=True)
            return None
        if keep:
            return connection
        connection.close()
        return first_at, took

    def offset(self):
        return self.rng.randrange(0, self.swarm.size - MIB)

    def seeks(self, count):
        found = []
        for _ in range(count):
            found.append(self.seek(self.offset()))
            time.sleep(0.2)
        return found

    def at_once(self, count):
        offsets = [self.offset() for _ in range(count)]
        found = [None] * count
        def go(i):
            found[i] = self.seek(offsets[i])
        threads = [threading.Thread(target=go, args=(i,)) for i in range(count)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        return found

    def play(self, rate):
        """Plays at `rate` bytes a second: seconds to the first picture, number of stalls, seconds stalled."""
        started = time.perf_counter()
        connection, answer = self.open(self.rng.randrange(0, self.swarm.size // 2))
        got, stalls, stalled, playing_since = 0, 0, 0.0, None
        while time.perf_counter() - started < PLAY_SECONDS + READ_TIMEOUT_SECONDS:
            part = answer.read1(SEEK_BYTES)
            now = time.perf_counter()
            got += len(part)
            if playing_since is None:
                if got >= rate * START_SECONDS:
                    playing_since = now
                continue
            shown = (now - playing_since - stalled) * rate
            if shown > got:
                stalls, stalled = stalls + 1, stalled + (shown - got) / rate
            if not part or now - playing_since >= PLAY_SECONDS:
                break
            if got - shown > AHEAD_SECONDS * rate:
                time.sleep(0.05)
        connection.close()
        return (playing_since - started if playing_since else None), stalls, stalled


def percentile(values, p):
    """Over all that were asked: one that never came is worse than every one that did."""
    values = sorted(float("inf") if v is None else v for v in values)
    return values[min(len(values) - 1, int(p * len(values)))] * 1000 if values else None


def sitting(start, swarm, args, seed):
    child, target = start(swarm, args)
    url, add = target if isinstance(target, tuple) else (target, lambda: None)
    try:
        viewer = Viewer(url, swarm, random.Random(seed))
        began = time.perf_counter()
        add()
        before = time.perf_counter() - began
        cold = viewer.seek(0)
        result = {"first byte ms": (before + cold[0]) * 1000 if cold else None}
        kept = viewer.seek(0, keep=True)
        second = [x and x[0] for x in viewer.seeks(4)]
        result["second reader p50 ms"] = percentile(second, 0.5)
        if kept:
            kept.close()
        seeks = [x and x[1] for x in viewer.seeks(args.seeks)]
        result["seek 64 KiB p50 ms"] = percentile(seeks, 0.5)
        result["seek 64 KiB p95 ms"] = percentile(seeks, 0.95)
        if args.parallel:
            many = [x and x[0] for x in viewer.at_once(args.parallel)]
            result[f"{args.parallel} readers served"] = float(sum(x is not None for x in many))
            result[f"{args.parallel} readers p95 ms"] = percentile(many, 0.95)
        if args.play_rate:
            first_picture, stalls, stalled = viewer.play(args.play_rate << 10)
            result["playback starts ms"] = first_picture and first_picture * 1000
            result["stalls"], result["stalled s"] = float(stalls), stalled
        return result
    finally:
        swarm.end(child)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--rqbit")
    ap.add_argument("--seeders", type=int, default=8)
    ap.add_argument("--rate", type=int, default=512)
    ap.add_argument("--size", type=int, default=1024)
    ap.add_argument("--seeks", type=int, default=10)
    ap.add_argument("--parallel", type=int, default=64)
    ap.add_argument("--play-rate", type=int, default=0, help="KiB/s; half of what the swarm delivers when 0")
    ap.add_argument("--with-staller", action="store_true", help="one seeder more that stops uploading without a word")
    ap.add_argument("--runs", type=int, default=3)
    args = ap.parse_args()
    args.play_rate = args.play_rate or args.seeders * args.rate // 2

    servers = {"swarmgate": swarmgate}
    if args.rqbit:
        servers["rqbit"] = rqbit
    results = {name: [] for name in servers}
    with Swarm(args.size, args.seeders, args.rate, args.with_staller) as swarm:
        for run in range(args.runs):
            for name, start in servers.items():
                results[name].append(sitting(start, swarm, args, seed=run))
                print(f"run {run + 1}  {name:10} {json.dumps({k: v and round(v, 1) for k, v in results[name][-1].items()})}", flush=True)
    print(f"\nmedians of {args.runs} sittings, {args.size} MiB, {args.seeders} seeders of {args.rate or 'unlimited'} KiB/s each")
    rows = []
    for key in results["swarmgate"][0]:
        values = [median([r[key] for r in results[name]]) for name in servers]
        ratio = values[0] / values[1] if len(values) > 1 and values[0] is not None and values[1] else None
        rows.append([key, *values, ratio])
    table(["", *servers, "ours / theirs"] if args.rqbit else ["", *servers, ""], rows)


main()
