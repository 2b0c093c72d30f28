#!/usr/bin/env python3
"""The tracker at /announce beside npm's bittorrent-tracker, under the same load.

  tracker.py --swarmgate BIN --node BIN --node-modules DIR --load BIN [--clients N] [--offers N] [--seconds S] [--runs N]

Clients announce again as soon as they have their reply. Each tracker has one core, the load another; trackers alternate.
"""
import argparse
import json
import os
import pathlib
import subprocess

from loopback import Swarm, median, start_gateway, table

PEERS = pathlib.Path(__file__).resolve().parents[2] / "peers"
SWARMS = 50


def on_core(core):
    return lambda: os.sched_setaffinity(0, {core})


def start_ours(swarm, args):
    child, base = start_gateway(
        swarm,
        args.swarmgate,
        WEBTORRENT__TRACKER_ALLOW="any",
        WEBTORRENT__TRACKER_SOCKETS_PER_IP=str(args.clients),
        WEBTORRENT__TRACKER_MESSAGES_PER_SECOND="1000000",
    )
    for task in pathlib.Path(f"/proc/{child.pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {0})
    return child, base.replace("http", "ws", 1) + "/announce"


def start_npm(swarm, args):
    command = [args.node, "--import", PEERS / "packages.mjs", PEERS / "tracker.mjs"]
    env = os.environ | {"SWARMGATE_NODE_MODULES": args.node_modules}
    child = swarm.start("npm", command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=on_core(0))
    url = json.loads(child.stdout.readline())["url"]
    # It tells of each announce, which nobody needs here and which would stop it once the pipe is full.
    subprocess.Popen(["cat"], stdin=child.stdout, stdout=subprocess.DEVNULL)
    return child, url


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(args, child, url):
    before = cpu_seconds(child.pid)
    command = [args.load, url, args.clients, SWARMS, args.offers, args.seconds]
    said = subprocess.run(list(map(str, command)), capture_output=True, text=True, preexec_fn=on_core(1))
    if said.returncode:
        raise SystemExit(f"the load on {url} failed: {said.stderr[-500:]}")
    result = json.loads(said.stdout)
    result["cpu_us"] = (cpu_seconds(child.pid) - before) * 1e6 / (result["announces_per_second"] * args.seconds)
    return result


def main():
    ap = argparse.ArgumentParser()
    for program in ("swarmgate", "node", "node-modules", "load"):
        ap.add_argument(f"--{program}", required=True)
    ap.add_argument("--clients", type=int, default=1000)
    ap.add_argument("--offers", type=int, default=2)
    ap.add_argument("--seconds", type=int, default=10)
    ap.add_argument("--runs", type=int, default=3)
    args = ap.parse_args()
    results = {"swarmgate": [], "bittorrent-tracker": []}
    with Swarm(1, seeders=0) as swarm:
        for _ in range(args.runs):
            for name, start in (("swarmgate", start_ours), ("bittorrent-tracker", start_npm)):
                child, url = start(swarm, args)
                results[name].append(measure(args, child, url))
                swarm.end(child)
    rows = [
        [name] + [f"{median([run[key] for run in runs]):.1f}" for key in ("announces_per_second", "p50_ms", "p99_ms", "cpu_us")]
        for name, runs in results.items()
    ]
    table(["tracker", "announces/s", "p50 ms", "p99 ms", "CPU us an announce"], rows)
    ours, theirs = (median([run["announces_per_second"] for run in results[name]]) for name in results)
    print(f"announces/s, ratio of medians: {ours / theirs:.1f}")


main()
