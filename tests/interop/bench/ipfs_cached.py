#!/usr/bin/env python3
"""IPFS content that a gateway holds, over HTTP: ours and Kubo's gateway with the same content, under the same load.

  ipfs_cached.py --swarmgate BIN --load BIN --kubo BIN [--size MIB] [--seconds S] [--runs N]

A raw block, a small file, and ranges of 1 MiB at random offsets of a large one, with 1 and 64 connections. Servers
alternate. Besides requests and bytes a second, which the load has a part in where it has to share the cores, it is said
what a request has cost the server: its own CPU time, whoever waits for whom. Repositories and caches are in memory where
the machine has such a folder.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import urllib.request

from kubo import CHUNK_BYTES, Kubo
from loopback import MIB, Sitting, cpu_seconds, median, peak_mib, start_gateway, table

CONNECTIONS = (1, 64)
SMALL_BYTES = 4096
IN_MEMORY = pathlib.Path("/dev/shm")


def fetch(url):
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.read()


def measure(load, child, url, connections, seconds, ranges):
    """Requests a second, MiB a second, and microseconds of the server's CPU a request; None when the load failed."""
    before = cpu_seconds(child.pid)
    command = [load, url, str(connections), str(seconds), *map(str, ranges)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    spent = cpu_seconds(child.pid) - before
    if done.returncode != 0:
        print(f"{url}, {connections} connections: {done.stderr.strip()}", flush=True)
        return None
    said = json.loads(done.stdout)
    if said["refused"]:
        print(f"{url}, {connections} connections: {said['refused']} requests were refused", flush=True)
    rate = said["answers_per_second"]
    return rate, said["bytes_per_second"] / MIB, spent / max(1, said["answers"]) * 1e6


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--load", required=True)
    ap.add_argument("--kubo", required=True)
    ap.add_argument("--size", type=int, default=256)
    ap.add_argument("--seconds", type=int, default=10)
    ap.add_argument("--runs", type=int, default=3)
    args = ap.parse_args()

    rows = []
    with Sitting(below=IN_MEMORY if IN_MEMORY.is_dir() else None) as sitting:
        kubo = Kubo(sitting, args.kubo, "kubo")
        large, small = sitting.payload("large.bin", args.size), sitting.dir / "small.bin"
        small.write_bytes(large.read_bytes()[:SMALL_BYTES])
        large_cid, small_cid = kubo.add(large), kubo.add(small)
        block = sitting.dir / "block.bin"
        block.write_bytes(large.read_bytes()[:CHUNK_BYTES])
        # A file of one leaf is that leaf.
        block_cid = kubo.add(block)
        options = {"SERVER__MAX_STREAMS": "4096", "SERVER__MAX_STREAMS_PER_CLIENT": "4096"}
        child, ours = start_gateway(sitting, args.swarmgate, IPFS__BOOTSTRAP=kubo.multiaddr(), **options)
        servers = {ours: child, kubo.gateway: kubo.child}
        for cid, file in ((large_cid, large), (small_cid, small), (f"{block_cid}?format=raw", block)):
            for base in servers:
                assert fetch(f"{base}/ipfs/{cid}") == file.read_bytes(), f"{base}/ipfs/{cid} is something else"
        for what, path, ranges in (
            (f"raw block of {CHUNK_BYTES >> 10} KiB", f"{block_cid}?format=raw", ()),
            (f"file of {SMALL_BYTES >> 10} KiB", small_cid, ()),
            (f"1 MiB ranges of {args.size} MiB", large_cid, (args.size * MIB, MIB)),
        ):
            for connections in CONNECTIONS:
                found = {base: [] for base in servers}
                for _ in range(args.runs):
                    for base, results in found.items():
                        url = f"{base}/ipfs/{path}"
                        results.append(measure(args.load, servers[base], url, connections, args.seconds, ranges))
                us, them = ([median([r and r[i] for r in results]) for i in range(3)] for results in found.values())
                ratio = us[0] / them[0] if us[0] and them[0] else None
                saved = them[2] / us[2] if us[2] and them[2] else None
                rows.append([f"{what}, {connections} connections", *us, *them, ratio, saved])
                print(rows[-1], flush=True)
        print(f"\nmost memory: ours {peak_mib(child.pid):.0f} MiB, Kubo {peak_mib(kubo.child.pid):.0f} MiB")
    print(f"medians of {args.runs}; ours first, then Kubo's gateway; CPU in microseconds of the server a request")
    each = ["requests/s", "MiB/s", "CPU"]
    table(["", *each, *each, "requests, ours / theirs", "CPU, theirs / ours"], rows)
    sys.exit(0 if all(row[1] for row in rows) else 1)


main()
