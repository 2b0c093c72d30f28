#!/usr/bin/env python3
"""What a gateway costs before anybody asks it for anything: its size without symbols, the time from its start until
/readyz says yes, and its memory after a rest.

  start.py --swarmgate BIN [--runs N] [--rest S]

Each run starts with a cache of its own. Ends with 1 when the median of a figure is beyond its bound.
"""
import argparse
import shutil
import subprocess
import sys
import time

from loopback import MIB, Sitting, median, resident_mib, start_gateway, table

SIZE_MIB = 40
READY_SECONDS = 1
IDLE_MIB = 40


def stripped(sitting, binary):
    """A copy as packages have it."""
    copy = sitting.dir / "swarmgate"
    shutil.copy(binary, copy)
    try:
        subprocess.run(["strip", copy], check=True)
    except FileNotFoundError:
        sys.exit("there is no `strip`, which takes symbols out of programs; Debian has it in binutils")
    return copy


def started(sitting, binary, rest):
    """(seconds until ready, MiB after a rest)"""
    data = sitting.scratch("gateway")
    since = time.perf_counter()
    child, _ = start_gateway(sitting, binary, data)
    ready = time.perf_counter() - since
    time.sleep(rest)
    resident = resident_mib(child.pid)
    sitting.end(child)
    return ready, resident


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--runs", type=int, default=5)
    ap.add_argument("--rest", type=int, default=10)
    args, _ = ap.parse_known_args()

    with Sitting() as sitting:
        binary = stripped(sitting, args.swarmgate)
        runs = [started(sitting, binary, args.rest) for _ in range(args.runs)]
        ready, resident = zip(*runs)
        figures = [
            ["size without symbols, MiB", binary.stat().st_size / MIB, SIZE_MIB],
            ["ready after, s", median(ready), READY_SECONDS],
            [f"resident after {args.rest} s, MiB", median(resident), IDLE_MIB],
        ]
        table(["", "seen", "at most"], figures)
        beyond = [name for name, seen, bound in figures if seen > bound]
    if beyond:
        sys.exit("beyond its bound: " + "; ".join(beyond))


if __name__ == "__main__":
    main()
