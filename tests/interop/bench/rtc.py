#!/usr/bin/env python3
"""A whole torrent over WebRTC, from one seeder that is already there: which pair of programs carries it how fast.

  rtc.py --node NODE --node-modules DIR [--swarmgate BIN] [--chromium BIN] [--size MIB] [--page-size MIB] [--runs N]
         [--only SEEDER-LEECH ...]

Peers meet through npm's tracker, by infohash alone. The clock starts when the second is told to join: connecting and
the metadata are in it. With us, joining is a viewer's request for the whole, whose answer is read; the others check what
they have got when the clock has stopped. CPU time is that of both ends, browser and all, over the same time. Pairs
alternate, so that a slow minute of the machine falls on all of them; medians are quoted.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import urllib.request

import libtorrent as lt
from loopback import RUN_LIMIT_SECONDS, Swarm, median, start_gateway, table

PEERS = pathlib.Path(__file__).resolve().parent.parent.parent / "peers"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Program:
    """One program of tests/peers: commands in, events out; ended by closing its input."""

    def __init__(self, swarm, args, name):
        self.name = name
        env = {**os.environ, "SWARMGATE_NODE_MODULES": args.node_modules, "TMPDIR": str(swarm.scratch(name))}
        if args.chromium:
            env["SWARMGATE_CHROMIUM"] = args.chromium
        script = PEERS / name
        interpreter = [sys.executable] if script.suffix == ".py" else [args.node, "--import", PEERS / "packages.mjs"]
        self.child = swarm.start(name, [*interpreter, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.swarm = swarm
        self.watchdog = threading.Timer(RUN_LIMIT_SECONDS, self.child.kill)
        self.watchdog.start()
        self.ready = self.wait("ready")

    def tell(self, **command):
        self.child.stdin.write(json.dumps(command).encode() + b"\n")
        self.child.stdin.flush()

    def wait(self, event, peer=None):
        for line in self.child.stdout:
            told = json.loads(line)
            if told["event"] == "error":
                sys.exit(f"{self.name}: {told}")
            if told["event"] == event and told.get("peer") == peer:
                return told
        sys.exit(f"{self.name} ended:\n{self.swarm.log_tail(self.name)}")

    def cpu_seconds(self):
        return sum(cpu_seconds(pid) for pid in family(self.child.pid))

    def end(self):
        self.watchdog.cancel()
        self.child.stdin.close()
        self.child.wait()
        self.swarm.children.remove(self.child)


class Gateway:
    """Ours, whose viewer is this script."""

    def __init__(self, swarm, args, tracker):
        self.swarm = swarm
        self.child, self.base = start_gateway(swarm, args.swarmgate, WEBTORRENT__TRACKERS=json.dumps([tracker]))

    def seed(self, tracker):
        """Fetches all from a TCP peer, which then goes; by then the tracker knows, whose other clients are not there yet."""
        peer = self.swarm.seeder([])
        self.read(f"&x.pe={peer}")
        self.swarm.end(self.swarm.children[-1])
        tracker.wait("peers")

    def download(self, _tracker):
        return self.read("")

    def read(self, hints):
        """Returns what a program of tests/peers says when it is done."""
        started = time.perf_counter()
        whole, first = hashlib.sha256(), None
        with urllib.request.urlopen(f"{self.base}/magnet?xt=urn:btih:{self.swarm.infohash}{hints}", timeout=60) as answer:
            while chunk := answer.read1(1 << 20):
                first = first or time.perf_counter() - started
                whole.update(chunk)
        total = time.perf_counter() - started
        return {"first_byte_ms": first * 1000, "total_ms": total * 1000, "sha256": whole.hexdigest()}

    def cpu_seconds(self):
        return sum(cpu_seconds(pid) for pid in family(self.child.pid))

    def end(self):
        self.swarm.end(self.child)


class Peer:
    """A peer in a program of tests/peers; pages of one browser tell themselves apart by `at`."""

    def __init__(self, program, **at):
        self.program, self.at, self.swarm = program, at, program.swarm

    def seed(self, tracker):
        files = {"torrent": str(self.swarm.torrent), "files": [str(self.swarm.file)], "save": str(self.swarm.seed_dir)}
        self.tell("seed", trackers=[tracker.ready["url"]], **files)
        self.program.wait("seeding", **self.at)

    def download(self, tracker):
        magnet = f"magnet:?xt=urn:btih:{self.swarm.infohash}"
        save = str(self.swarm.scratch("fetched"))
        self.tell("download", magnet=magnet, save=save, trackers=[tracker.ready["url"]])
        return self.program.wait("done", **self.at)

    def tell(self, do, **command):
        self.program.tell(do=do, key=self.swarm.infohash, **command, **self.at)


def stat(pid):
    """The fields of /proc/PID/stat after the name, which may hold anything; none when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def family(root):
    """A process and all that descend from it."""
    parents = {int(p.name): int(s[1]) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and (s := stat(p.name))}
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu_seconds(pid):
    fields = stat(pid)
    return sum(map(int, fields[11:13])) / TICKS_PER_SECOND if fields else 0.0


class Bench:
    def __init__(self, args):
        self.args = args
        self.swarms = {}

    def swarm(self, size_mib):
        """A payload whose .torrent names no tracker, or some would meet over TCP."""
        if size_mib not in self.swarms:
            swarm = self.swarms[size_mib] = Swarm(size_mib, seeders=0)
            info = lt.bdecode(swarm.torrent.read_bytes())[b"info"]
            swarm.torrent.write_bytes(lt.bencode({b"info": info}))
            swarm.sha256 = hashlib.sha256(swarm.file.read_bytes()).hexdigest()
        return self.swarms[size_mib]

    def start(self, swarm, kind, tracker, programs):
        """A peer of a kind; pages share one browser. Its program is added to those that are running."""
        if kind == "swarmgate":
            programs.append(Gateway(swarm, self.args, tracker.ready["url"]))
            return programs[-1]
        if kind != "chromium":
            name = {"libtorrent": "libtorrent_webrtc.py", "node": "webtorrent_node.mjs"}[kind]
            programs.append(Program(swarm, self.args, name))
            return Peer(programs[-1])
        browser = next((p for p in programs if isinstance(p, Program) and p.name == "chromium.mjs"), None)
        if browser is None:
            browser = Program(swarm, self.args, "chromium.mjs")
            browser.pages = 0
            programs.append(browser)
        page = Peer(browser, peer=browser.pages)
        browser.pages += 1
        browser.tell(do="open", **page.at)
        browser.wait("opened", **page.at)
        return page

    def measure(self, seeder, leech, size_mib):
        """Returns (first byte s, whole s, CPU-s of both ends, how often libtorrent lost its connection)."""
        swarm, programs = self.swarm(size_mib), []
        tracker = Program(swarm, self.args, "tracker.mjs")
        giver, taker = (self.start(swarm, kind, tracker, programs) for kind in (seeder, leech))
        giver.seed(tracker)
        before = sum(p.cpu_seconds() for p in programs)
        done = taker.download(tracker)
        cpu = sum(p.cpu_seconds() for p in programs) - before
        if done["sha256"] != swarm.sha256:
            sys.exit(f"{seeder} to {leech}: what arrived is not what was sent")
        for program in [*programs, tracker]:
            program.end()
        for folder in swarm.dir.iterdir():
            if folder.is_dir() and folder != swarm.seed_dir:
                shutil.rmtree(folder, ignore_errors=True)
        return done["first_byte_ms"] / 1000, done["total_ms"] / 1000, cpu, done.get("lost", 0)

    def close(self):
        for swarm in self.swarms.values():
            swarm.__exit__()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--node", required=True)
    ap.add_argument("--node-modules", required=True)
    ap.add_argument("--swarmgate")
    ap.add_argument("--chromium")
    ap.add_argument("--size", type=int, default=256)
    ap.add_argument("--page-size", type=int, default=64)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--only", nargs="+", default=[])
    args = ap.parse_args()

    kinds = [kind for kind in ("swarmgate", "libtorrent", "chromium") if kind == "libtorrent" or getattr(args, kind)]
    size = lambda *pair: args.page_size if "chromium" in pair else args.size
    pairs = [(giver, taker, size(giver, taker)) for giver in kinds for taker in kinds]
    pairs = [pair for pair in pairs if not args.only or f"{pair[0]}-{pair[1]}" in args.only]
    bench, results = Bench(args), {pair: [] for pair in pairs}
    try:
        for run in range(args.runs):
            for pair in pairs:
                results[pair].append(bench.measure(*pair))
                first, whole, cpu, lost = results[pair][-1]
                label = f"{pair[0]} -> {pair[1]}"
                print(f"run {run + 1}  {label:24} first byte {first:5.2f} s  {whole:6.2f} s  {cpu:6.2f} CPU-s", end="")
                print(f"  connection lost {lost} x" if lost else "", flush=True)
    finally:
        bench.close()
    print(f"\nmedians of {args.runs} runs; MB = 10^6 bytes; CPU of both ends")
    rows = []
    for (seeder, leech, size), runs in results.items():
        first, whole, cpu = (median([run[i] for run in runs]) for i in range(3))
        lost = sum(run[3] for run in runs)
        megabytes = size * (1 << 20) / 1e6
        rows.append([f"{seeder} -> {leech}", size, first, whole, megabytes / whole, cpu / megabytes * 1000, lost])
    table(["pair", "MiB", "first byte s", "whole s", "MB/s", "CPU s/GB", "lost"], rows)


main()
