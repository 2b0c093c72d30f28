#!/usr/bin/env python3
"""One whole torrent from one libtorrent seeder: `swarmgate get` beside rqbit, libtorrent and aria2.

  download.py --swarmgate BIN [--rqbit BIN] [--aria2 BIN] [--size MIB] [--runs N]

Every program gets the same magnet (tracker and peer address in it) and an empty folder. Programs alternate, so that a
slow minute of the machine falls on all of them. Quotes medians and our ratio to the best of the others.
"""
import argparse
import filecmp
import os
import shutil
import signal
import sys
import threading
import time

from loopback import LT_PEER, RUN_LIMIT_SECONDS, Swarm, free_port, gateway_env, median, table


def commands(args):
    """Name → function of (magnet, folder) that gives a command and its environment."""
    found = {"swarmgate": lambda m, d: ([args.swarmgate, "--data-dir", d / "data", "get", m, "-o", d], gateway_env())}
    if args.rqbit:
        found["rqbit"] = lambda m, d: (
            [args.rqbit, "--disable-dht", "--disable-dht-persistence", "--disable-lsd", "--disable-upnp-port-forward",
             "--ipv4-only", "--listen-ip", "127.0.0.1", "--listen-port", str(free_port()),
             "download", "--disable-http-api", "--exit-on-finish", "-o", d, m], None)
    found["libtorrent"] = lambda m, d: (
        [sys.executable, LT_PEER, "--magnet", m, "--save", d, "--port", str(free_port()), "--exit-when-done", "--quiet"], None)
    if args.aria2:
        found["aria2"] = lambda m, d: (
            [args.aria2, "--no-conf", "--enable-dht=false", "--bt-enable-lpd=false", "--interface=127.0.0.1",
             f"--listen-port={free_port()}", "--seed-time=0", "--file-allocation=none", "--summary-interval=0",
             f"--dir={d}", m], None)
    return found


def measure(swarm, name, make):
    """Runs one download; returns (wall seconds, CPU seconds, peak MiB), or None when it failed."""
    folder = swarm.scratch(name)
    command, env = make(swarm.magnet(), folder)
    read_end, write_end = os.pipe()
    started = time.perf_counter()
    # A pipe that stays open as standard input: some of these programs end when theirs closes.
    child = swarm.start(name, command, stdin=read_end, env=env)
    watchdog = threading.Timer(RUN_LIMIT_SECONDS, lambda: child.send_signal(signal.SIGKILL))
    watchdog.start()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    watchdog.cancel()
    os.close(read_end)
    os.close(write_end)
    child.returncode = os.waitstatus_to_exitcode(status)
    swarm.children.remove(child)
    exact = child.returncode == 0 and any(filecmp.cmp(f, swarm.file, shallow=False) for f in folder.rglob("payload.bin"))
    shutil.rmtree(folder)
    if not exact:
        print(f"{name}: FAILED with {child.returncode}:\n{swarm.log_tail(name)}", flush=True)
        return None
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--rqbit")
    ap.add_argument("--aria2")
    ap.add_argument("--size", type=int, default=1024)
    ap.add_argument("--runs", type=int, default=3)
    args = ap.parse_args()

    with Swarm(args.size) as swarm:
        programs = commands(args)
        results = {name: [] for name in programs}
        for run in range(args.runs):
            for name, make in programs.items():
                if (result := measure(swarm, name, make)) is None:
                    continue
                results[name].append(result)
                print(f"run {run + 1}  {name:12} {result[0]:7.2f} s  {result[1]:6.2f} CPU-s  {result[2]:6.0f} MiB", flush=True)
    medians = {name: [median([r[i] for r in rows]) for i in range(3)] for name, rows in results.items()}
    print(f"\nmedians of {args.runs} runs, {args.size} MiB, one seeder; x = our median / theirs")
    ours = medians["swarmgate"]
    ratio = lambda a, b: a / b if a and b else None
    table(["program", "wall s", "x", "CPU s/GiB", "x", "peak MiB", "MiB/s"],
          [[name, wall, ratio(ours[0], wall), cpu and cpu * 1024 / args.size, ratio(ours[1], cpu), mem,
            ratio(args.size, wall)] for name, (wall, cpu, mem) in medians.items()])
    sys.exit(0 if ours[0] else 1)


main()
