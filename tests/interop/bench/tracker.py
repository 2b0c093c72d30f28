#!/usr/bin/env python3
"""The tracker at /announce beside npm's bittorrent-tracker, under the same load.

  tracker.py --swarmgate BIN --node BIN --node-modules DIR --load BIN
             [--clients N] [--offers N ...] [--seconds S] [--runs N]

Clients announce again as soon as they have their reply, with as many offers as said: one table for each number. Each
tracker has one core from its start, the load another; trackers alternate. The load's share of its core is told too: where
it is near 100 %, the load is what was measured, and the tracker can do more.
"""
import argparse
import contextlib
import json
import os
import pathlib
import resource
import subprocess
import time

from loopback import Swarm, cpu_seconds, median, start_gateway, table

PEERS = pathlib.Path(__file__).resolve().parents[2] / "peers"
SWARMS = 50
TRACKER_CORE, LOAD_CORE = 0, 1


@contextlib.contextmanager
def on_core(core):
    """What is started within has one core, and knows it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start_ours(swarm, args):
    child, base = start_gateway(
        swarm,
        args.swarmgate,
        WEBTORRENT__TRACKER_ALLOW="any",
        WEBTORRENT__TRACKER_SOCKETS_PER_IP=str(args.clients),
        WEBTORRENT__TRACKER_MESSAGES_PER_SECOND="1000000",
    )
    return child, base.replace("http", "ws", 1) + "/announce"


def start_npm(swarm, args):
    command = [args.node, "--import", PEERS / "packages.mjs", PEERS / "tracker.mjs", "quiet"]
    env = os.environ | {"SWARMGATE_NODE_MODULES": args.node_modules}
    child = swarm.start("npm", command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return child, json.loads(child.stdout.readline())["url"]


def ended_children_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(args, offers, child, url):
    before = time.monotonic(), cpu_seconds(child.pid), ended_children_cpu_seconds()
    command = [args.load, url, args.clients, SWARMS, offers, args.seconds]
    with on_core(LOAD_CORE):
        said = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    after = time.monotonic(), cpu_seconds(child.pid), ended_children_cpu_seconds()
    if said.returncode:
        raise SystemExit(f"the load on {url} failed: {said.stderr[-500:]}")
    result = json.loads(said.stdout)
    took, tracker, load = (late - early for early, late in zip(before, after))
    result |= {"cpu_us": tracker * 1e6 / result["announces"], "tracker": 100 * tracker / took, "load": 100 * load / took}
    return result


def compare(swarm, args, offers):
    results = {"swarmgate": [], "bittorrent-tracker": []}
    for _ in range(args.runs):
        for name, start in (("swarmgate", start_ours), ("bittorrent-tracker", start_npm)):
            with on_core(TRACKER_CORE):
                child, url = start(swarm, args)
            results[name].append(measure(args, offers, child, url))
            swarm.end(child)
    print(f"{offers} offers an announce, {args.clients} clients, medians of {args.runs}", flush=True)
    keys = ("announces_per_second", "offers", "p50_ms", "p99_ms", "cpu_us", "tracker", "load")
    middle = {name: {key: median([run[key] for run in runs]) for key in keys} for name, runs in results.items()}
    head = ["tracker", "announces/s", "offers relayed", "p50 ms", "p99 ms", "CPU us an announce", "its core %", "load's core %"]
    table(head, [[name] + [f"{values[key]:.1f}" for key in keys] for name, values in middle.items()])
    ours, theirs = middle.values()
    print("announces/s, ratio of medians: %.1f" % (ours["announces_per_second"] / theirs["announces_per_second"]), end="")
    print("; of CPU an announce: %.1f\n" % (theirs["cpu_us"] / ours["cpu_us"]), flush=True)


def main():
    ap = argparse.ArgumentParser()
    for program in ("swarmgate", "node", "node-modules", "load"):
        ap.add_argument(f"--{program}", required=True)
    ap.add_argument("--clients", type=int, default=1000)
    ap.add_argument("--offers", type=int, nargs="+", default=[0, 2, 5])
    ap.add_argument("--seconds", type=int, default=10)
    ap.add_argument("--runs", type=int, default=3)
    args = ap.parse_args()
    with Swarm(1, seeders=0) as swarm:
        for offers in args.offers:
            compare(swarm, args, offers)


main()
