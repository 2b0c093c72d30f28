#!/usr/bin/env python3
"""IPFS content that a gateway holds, over HTTP: wrk on ours and on Kubo's gateway with the same content.

  ipfs_cached.py --swarmgate BIN --wrk BIN --kubo BIN [--size MIB] [--seconds S] [--runs N]

A raw block, a small file, and ranges of 1 MiB at random offsets of a large one, with 1 and 64 connections. Servers
alternate; requests and bytes a second. Repositories and caches are in memory where the machine has such a folder.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import urllib.request

from kubo import CHUNK_BYTES, Kubo
from loopback import MIB, Sitting, median, start_gateway, table

CONNECTIONS = (1, 64)
SMALL_BYTES = 4096
UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
IN_MEMORY = pathlib.Path("/dev/shm")

RANGES_LUA = """
local size, span = %d, %d
request = function()
  local first = math.random(0, size - span)
  return wrk.format("GET", nil, { ["Range"] = "bytes=" .. first .. "-" .. (first + span - 1) })
end
"""


def fetch(url):
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.read()


def measure(wrk, url, connections, seconds, script):
    """Requests a second and MiB a second; None when wrk says nothing of them."""
    command = [wrk, f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-s", str(script)] if script else []
    said = subprocess.run(command + [url], capture_output=True, text=True, timeout=seconds + 60).stdout
    if found := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", said):
        print(f"{url}, {connections} connections: {found.group(0)}", flush=True)
    requests = re.search(r"Requests/sec:\s+([\d.]+)", said)
    rate = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?B)", said)
    return requests and rate and (float(requests.group(1)), float(rate.group(1)) * UNITS[rate.group(2)] / MIB)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--wrk", required=True)
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
        _, ours = start_gateway(sitting, args.swarmgate, IPFS__BOOTSTRAP=kubo.multiaddr(), **options)
        for cid, file in ((large_cid, large), (small_cid, small), (f"{block_cid}?format=raw", block)):
            for base in (ours, kubo.gateway):
                assert fetch(f"{base}/ipfs/{cid}") == file.read_bytes(), f"{base}/ipfs/{cid} is something else"
        lua = sitting.dir / "ranges.lua"
        lua.write_text(RANGES_LUA % (args.size * MIB, MIB))
        for what, path, script in (
            (f"raw block of {CHUNK_BYTES >> 10} KiB", f"{block_cid}?format=raw", None),
            (f"file of {SMALL_BYTES >> 10} KiB", small_cid, None),
            (f"1 MiB ranges of {args.size} MiB", large_cid, lua),
        ):
            for connections in CONNECTIONS:
                found = {ours: [], kubo.gateway: []}
                for _ in range(args.runs):
                    for base, results in found.items():
                        results.append(measure(args.wrk, f"{base}/ipfs/{path}", connections, args.seconds, script))
                medians = [median([r and r[i] for r in results]) for results in found.values() for i in (0, 1)]
                ratio = medians[0] / medians[2] if medians[0] and medians[2] else None
                rows.append([f"{what}, {connections} connections", *medians, ratio])
                print(rows[-1], flush=True)
    print(f"\nmedians of {args.runs}; ours first, then Kubo's gateway")
    table(["", "requests/s", "MiB/s", "requests/s", "MiB/s", "ours / theirs"], rows)
    sys.exit(0 if all(row[1] for row in rows) else 1)


main()
