#!/usr/bin/env python3
"""A file from Kubo over Bitswap, read over HTTP: our gateway beside Kubo's own, in one sitting.

  ipfs.py --swarmgate BIN --relay BIN --kubo BIN [--size MIB] [--delay MS] [--providers N] [--runs N]

The whole file and 1 MB in the middle; from one provider, direct and with a delay each way, and from several with the delay.
The delay is that of a relay before each provider: a way that is long, and neither narrow nor lossy. Whoever fetches is
fresh each time and connected before the clock starts; the two alternate. All repositories and caches are in memory where
the machine has such a folder, or its disk would be measured.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time
import urllib.request

from kubo import Kubo
from loopback import MIB, Sitting, cpu_seconds, median, peak_mib, start_gateway, table

IN_MEMORY = pathlib.Path("/dev/shm")
RANGE_BYTES = 1_000_000
CONNECTED_WITHIN_SECONDS = 30


class Providers:
    """Daemons with the same content, each of which can also be reached by a long way."""

    def __init__(self, sitting, args):
        self.file = sitting.payload("payload.bin", args.size)
        self.daemons = [Kubo(sitting, args.kubo, f"provider-{n}") for n in range(args.providers)]
        (self.cid,) = {daemon.add(self.file) for daemon in self.daemons}
        upstreams = [f"127.0.0.1:{daemon.swarm}" for daemon in self.daemons]
        relay = sitting.start("relay", [args.relay, args.delay, *upstreams], stdout=subprocess.PIPE)
        self.far_ports = json.loads(relay.stdout.readline())

    def multiaddrs(self, count, far):
        ports = self.far_ports if far else [None] * count
        return [daemon.multiaddr(port) for daemon, port in zip(self.daemons[:count], ports)]

    def bytes_sent(self):
        return sum(daemon.bytes_sent() for daemon in self.daemons)

    def wait_for_a_peer(self, count):
        deadline = time.monotonic() + CONNECTED_WITHIN_SECONDS
        while not all(daemon.peers() for daemon in self.daemons[:count]):
            assert time.monotonic() < deadline, "nobody connects to the providers"
            time.sleep(0.05)

    def wait_for_none(self):
        """Providers notice the end of a connection in their own time."""
        deadline = time.monotonic() + CONNECTED_WITHIN_SECONDS
        while any(daemon.peers() for daemon in self.daemons):
            assert time.monotonic() < deadline, "the peer of the last measurement is still connected"
            time.sleep(0.05)


def start_ours(sitting, args, multiaddrs):
    return start_gateway(sitting, args.swarmgate, IPFS__BOOTSTRAP=",".join(multiaddrs))


def start_kubo(sitting, args, multiaddrs):
    kubo = Kubo(sitting, args.kubo, "fetcher")
    for multiaddr in multiaddrs:
        kubo.rpc("swarm/connect", arg=multiaddr)
    return kubo.child, kubo.gateway


def read(url, file, first, last):
    """Reads and compares; returns seconds to the first byte and to the last."""
    request = urllib.request.Request(url)
    if last is not None:
        request.add_header("Range", f"bytes={first}-{last}")
    left = (last + 1 if last is not None else file.stat().st_size) - first
    started, first_byte = time.perf_counter(), None
    with urllib.request.urlopen(request, timeout=120) as answer, open(file, "rb") as expected:
        expected.seek(first)
        while part := answer.read1(MIB):
            first_byte = first_byte or time.perf_counter() - started
            assert part == expected.read(len(part)), "the bytes differ from the payload's"
            left -= len(part)
    assert left == 0, f"{left} bytes are missing"
    return first_byte, time.perf_counter() - started


def measure(sitting, args, providers, start, count, far, first, last):
    child, base = start(sitting, args, providers.multiaddrs(count, far))
    try:
        providers.wait_for_a_peer(count)
        sent, cpu = providers.bytes_sent(), cpu_seconds(child.pid)
        first_byte, total = read(f"{base}/ipfs/{providers.cid}", providers.file, first, last)
        cpu = cpu_seconds(child.pid) - cpu
        rss = peak_mib(child.pid)
        # Some of it is counted, and arrives, a moment later.
        time.sleep(0.5)
        sent = providers.bytes_sent() - sent
    finally:
        sitting.end(child)
        providers.wait_for_none()
    length = (last + 1 if last is not None else providers.file.stat().st_size) - first
    return {"rate": length / total / 1e6, "first": first_byte * 1e3, "total": total * 1e3, "cpu": cpu, "rss": rss,
            "sent": sent / length}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--relay", required=True)
    ap.add_argument("--kubo", required=True)
    ap.add_argument("--size", type=int, default=100)
    ap.add_argument("--delay", type=int, default=25)
    ap.add_argument("--providers", type=int, default=4)
    ap.add_argument("--runs", type=int, default=3)
    args = ap.parse_args()

    middle = args.size * MIB // 2 + 12_345
    whole, part = (0, None), (middle, middle + RANGE_BYTES - 1)
    far = f"{args.delay} ms each way"
    scenarios = [
        ("whole, direct", 1, False, whole),
        (f"whole, {far}", 1, True, whole),
        (f"whole, {far}, {args.providers} providers", args.providers, True, whole),
        ("1 MB, direct", 1, False, part),
        (f"1 MB, {far}", 1, True, part),
    ]
    rows = []
    with Sitting(below=IN_MEMORY if IN_MEMORY.is_dir() else None) as sitting:
        providers = Providers(sitting, args)
        fetchers = {"swarmgate": start_ours, "kubo": start_kubo}
        for what, count, is_far, (first, last) in scenarios:
            results = {name: [] for name in fetchers}
            for run in range(args.runs):
                for name, start in fetchers.items():
                    result = measure(sitting, args, providers, start, count, is_far, first, last)
                    results[name].append(result)
                    print(f"{what:36} run {run + 1}  {name:10} {result['rate']:7.1f} MB/s  first byte {result['first']:6.0f} ms"
                          f"  {result['cpu']:5.2f} CPU-s  {result['rss']:5.0f} MiB  sent {result['sent']:.2f} x", flush=True)
            best = {name: {key: median([r[key] for r in found]) for key in found[0]} for name, found in results.items()}
            ours, theirs = best["swarmgate"], best["kubo"]
            for name, values in best.items():
                rows.append([what, name, values["rate"], ours["rate"] / theirs["rate"] if name == "swarmgate" else None,
                             values["total"], values["first"], values["cpu"], values["rss"], values["sent"]])
    print(f"\nmedians of {args.runs}, {args.size} MiB; x = our rate / Kubo's; sent = bytes of the providers / bytes asked for")
    table(["", "", "MB/s", "x", "ms", "first byte ms", "CPU s", "peak MiB", "sent"], rows)
    rates = {row[0]: row[2] for row in rows if row[1] == "swarmgate"}
    print(f"{args.providers} providers / one, {far}: {rates[scenarios[2][0]] / rates[scenarios[1][0]]:.2f}")
    sys.exit(0)


main()
