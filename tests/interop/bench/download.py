#!/usr/bin/env python3
"""One whole torrent from one libtorrent seeder: `swarmgate get` beside rqbit, libtorrent and aria2.

  download.py --swarmgate BIN [--rqbit BIN] [--aria2 BIN] [--size MIB] [--runs N]

Every program gets the same magnet (tracker and peer address in it) and an empty folder. Programs alternate, so that a
slow minute of the machine falls on all of them. Quotes medians and our ratio to the best of the others.
"""
import argparse
import sys

import downloads
from loopback import Swarm, median, ratio, table


def programs(args, magnet):
    found = {"swarmgate": downloads.swarmgate(args.swarmgate, magnet)}
    if args.rqbit:
        found["rqbit"] = downloads.rqbit(args.rqbit, magnet)
    found["libtorrent"] = downloads.libtorrent(magnet)
    if args.aria2:
        found["aria2"] = downloads.aria2(args.aria2, magnet)
    return found


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--rqbit")
    ap.add_argument("--aria2")
    ap.add_argument("--size", type=int, default=1024)
    ap.add_argument("--runs", type=int, default=3)
    args = ap.parse_args()

    with Swarm(args.size) as swarm:
        runs = programs(args, swarm.magnet())
        results = {name: [] for name in runs}
        for run in range(args.runs):
            for name, make in runs.items():
                if (result := downloads.finish(swarm, name, make)) is None:
                    continue
                results[name].append(result)
                print(f"run {run + 1}  {name:12} {result[0]:7.2f} s  {result[1]:6.2f} CPU-s  {result[2]:6.0f} MiB", flush=True)
    medians = {name: [median([r[i] for r in rows]) for i in range(3)] for name, rows in results.items()}
    print(f"\nmedians of {args.runs} runs, {args.size} MiB, one seeder; x = our median / theirs")
    ours = medians["swarmgate"]
    table(["program", "wall s", "x", "CPU s/GiB", "x", "peak MiB", "MiB/s"],
          [[name, wall, ratio(ours[0], wall), cpu and cpu * 1024 / args.size, ratio(ours[1], cpu), mem,
            ratio(args.size, wall)] for name, (wall, cpu, mem) in medians.items()])
    sys.exit(0 if ours[0] else 1)


main()
