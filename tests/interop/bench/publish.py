#!/usr/bin/env python3
"""A folder published from one read, beside sha1sum and sha256sum of the same data, run at the same time.

  publish.py --swarmgate BIN [--size MIB] [--runs N] [--torrent hybrid|v1]

What is published as a v1 torrent is hashed with SHA-1 for the torrent and with SHA-256 for the DAG, so the two programs
together do what one `swarmgate publish --torrent v1` does; a hybrid's Merkle trees are SHA-256 once more. Both kinds are
measured, in turns, unless one is named. Said are times, bytes read beside bytes there, and the most memory. Then one run
is killed half-way and gone on with.
"""
import argparse
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

from loopback import MIB, Sitting, gateway_env, median, table

FILES = 40


def fill(folder, size_mib):
    """Files of uneven lengths, some in folders, that together have the size."""
    rest, rng = size_mib * MIB, random.Random(7)
    block = random.Random(8).randbytes(16 * MIB)
    for number in range(FILES):
        share = rest if number == FILES - 1 else min(rest, int(size_mib * MIB / FILES * rng.uniform(0.2, 1.8)))
        path = folder / f"part {number % 4}" / f"film {number}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as out:
            left = share
            while left > 0:
                # No two blocks alike, or the cache would find pieces that it has.
                chunk = number.to_bytes(8, "big") + left.to_bytes(8, "big") + block[16:]
                out.write(chunk[:left])
                left -= min(left, len(chunk))
        rest -= share


class Watch(threading.Thread):
    """Notes the most memory and the bytes read of a process, as long as it runs."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.read = pid, 0, 0
        self.start()

    def run(self):
        while True:
            try:
                status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
                self.peak = max(self.peak, *(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line))
                io = pathlib.Path(f"/proc/{self.pid}/io").read_text()
                self.read = max(self.read, int(io.split()[1]))
            except (OSError, TypeError, ValueError):
                return
            time.sleep(0.02)


def publish(sitting, binary, folder, cache, kind):
    command = [binary, "--data-dir", cache, "publish", folder, "--json", "--torrent", kind]
    return sitting.start("publish", command, env=gateway_env())


class Runs:
    """What the runs of one kind of torrent took."""

    def __init__(self, kind):
        self.kind, self.times, self.peaks, self.reads = kind, [], [], []

    def run(self, sitting, binary, folder, there, number):
        begun = time.monotonic()
        child = publish(sitting, binary, folder, sitting.scratch(f"cache-{self.kind}-{number}"), self.kind)
        watch = Watch(child.pid)
        assert child.wait() == 0, sitting.log_tail("publish")
        self.times.append(time.monotonic() - begun)
        self.peaks.append(watch.peak / 1024)
        self.reads.append(watch.read / there)


def both_sums(folder):
    files = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    begun = time.monotonic()
    sums = [subprocess.Popen([tool, *files], stdout=subprocess.DEVNULL) for tool in ("sha1sum", "sha256sum")]
    for one in sums:
        assert one.wait() == 0
    return time.monotonic() - begun


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--size", type=int, default=10240)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--torrent", choices=["hybrid", "v1"])
    args, _ = ap.parse_known_args()

    with Sitting() as sitting:
        folder = sitting.scratch("folder")
        folder.mkdir(exist_ok=True)
        fill(folder, args.size)
        there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        kinds, theirs = [Runs(kind) for kind in ("hybrid", "v1") if args.torrent in (kind, None)], []
        for number in range(args.runs):
            theirs.append(both_sums(folder))
            for kind in kinds:
                kind.run(sitting, args.swarmgate, folder, there, number)

        def rate(times):
            return f"{there / median(times) / MIB:.0f}"

        rows = [
            [f"publish --torrent {kind.kind}", median(kind.times), rate(kind.times), f"{max(kind.peaks):.0f}", f"{max(kind.reads):.3f}"]
            for kind in kinds
        ]
        rows.append(["sha1sum and sha256sum", median(theirs), rate(theirs), None, "2"])
        table(["", "s", "MiB/s", "MiB at most", "bytes read / bytes"], rows)
        for kind in kinds:
            print(f"ratio of times, {kind.kind}: {median(kind.times) / median(theirs):.2f}")
        if len(kinds) == 2:
            print(f"hybrid beside v1: {median(kinds[0].times) / median(kinds[1].times):.2f}")

        cache, first = sitting.scratch("cache-killed"), kinds[0]
        child = publish(sitting, args.swarmgate, folder, cache, first.kind)
        time.sleep(median(first.times) / 2)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        begun = time.monotonic()
        child = publish(sitting, args.swarmgate, folder, cache, first.kind)
        watch = Watch(child.pid)
        assert child.wait() == 0, sitting.log_tail("publish")
        took = time.monotonic() - begun
        print(f"{first.kind}, killed half-way and gone on with: {took:.1f} s, {watch.read / there:.2f} of the bytes read")


if __name__ == "__main__":
    main()
