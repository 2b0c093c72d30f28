#!/usr/bin/env python3
"""One whole torrent over each way to a peer: TCP, uTP, and TCP encrypted; ours beside libtorrent's, both directions.

  transports.py --swarmgate BIN [--size MIB] [--runs N] [--ways tcp,utp,rc4]

`down`: a libtorrent seeder, and who fetches is `swarmgate get` or libtorrent. `up`: libtorrent fetches, and who seeds is
a gateway that has all of it or libtorrent. libtorrent is told to know one way only. Programs alternate, so that a slow
minute of the machine falls on all of them. CPU is that of the program compared alone. Quotes medians and our ratio.
"""
import argparse
import filecmp
import os
import shutil
import signal
import sys
import threading
import time
import urllib.request

from loopback import LT_PEER, RUN_LIMIT_SECONDS, Swarm, cpu_seconds, free_port, gateway_env, median, start_gateway, table

# libtorrent's policies: 0 forced, 1 enabled, 2 disabled. Its levels: 1 the clear, 2 RC4, 3 both.
LIBTORRENT = {
    "tcp": {"out_enc_policy": 2, "in_enc_policy": 2},
    "utp": {"enable_incoming_tcp": 0, "enable_outgoing_tcp": 0, "enable_incoming_utp": 1, "enable_outgoing_utp": 1,
            "out_enc_policy": 2, "in_enc_policy": 2},
    "rc4": {"out_enc_policy": 0, "in_enc_policy": 0, "allowed_enc_level": 2},
}
OURS = {
    "tcp": {"BITTORRENT__UTP": "false", "BITTORRENT__ENCRYPTION": "off"},
    "utp": {"BITTORRENT__ENCRYPTION": "off"},
    "rc4": {"BITTORRENT__UTP": "false", "BITTORRENT__ENCRYPTION": "require"},
}


def settings(way):
    return [text for name, value in LIBTORRENT[way].items() for text in ("--set", f"{name}={value}")]


def finish(swarm, name, command, env=None):
    """Runs a download to its end; returns (wall seconds, CPU seconds, whether it is exact)."""
    folder = swarm.scratch(name)
    read_end, write_end = os.pipe()
    started = time.perf_counter()
    child = swarm.start(name, command(folder), stdin=read_end, env=env)
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
    if not exact:
        print(f"{name}: FAILED with {child.returncode}:\n{swarm.log_tail(name)}", flush=True)
    shutil.rmtree(folder)
    return wall, usage.ru_utime + usage.ru_stime, exact


def libtorrent_fetches(swarm, way, peer):
    command = lambda d: [sys.executable, LT_PEER, "--torrent", swarm.torrent, "--save", d, "--port", free_port(),
                         "--exit-when-done", "--quiet", "--peer", peer, *settings(way)]
    return finish(swarm, "libtorrent", command)


def we_fetch(swarm, way, binary, peer):
    magnet = f"magnet:?xt=urn:btih:{swarm.infohash}&x.pe={peer}"
    command = lambda d: [binary, "--data-dir", d / "data", "get", magnet, "-o", d]
    return finish(swarm, "swarmgate", command, gateway_env(**OURS[way]))


def we_seed(swarm, way, binary, port):
    """A gateway that has all of it; returns its process."""
    child, base = start_gateway(swarm, binary, BITTORRENT__LISTEN_PORT=str(port), **OURS[way])
    url = f"{base}/magnet?xt=urn:btih:{swarm.infohash}&x.pe={swarm.peers[0]}"
    with urllib.request.urlopen(url, timeout=RUN_LIMIT_SECONDS) as answer:
        while answer.read(1 << 20):
            pass
    return child


def up(swarm, way, seeder, peer):
    before = cpu_seconds(seeder.pid)
    wall, _, exact = libtorrent_fetches(swarm, way, peer)
    return wall, cpu_seconds(seeder.pid) - before, exact


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--size", type=int, default=256)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--ways", default="tcp,utp,rc4")
    args = ap.parse_args()

    rows, failed = [], False
    for way in args.ways.split(","):
        with Swarm(args.size, seeders=0) as swarm:
            swarm.peers = [swarm._seeder(settings(way))]
            theirs = swarm.children[-1]
            port = free_port()
            ours = we_seed(swarm, way, args.swarmgate, port)
            runs = {
                ("down", "swarmgate"): lambda: we_fetch(swarm, way, args.swarmgate, swarm.peers[0]),
                ("down", "libtorrent"): lambda: libtorrent_fetches(swarm, way, swarm.peers[0]),
                ("up", "swarmgate"): lambda: up(swarm, way, ours, f"127.0.0.1:{port}"),
                ("up", "libtorrent"): lambda: up(swarm, way, theirs, swarm.peers[0]),
            }
            results = {key: [] for key in runs}
            for run in range(args.runs):
                for key, make in runs.items():
                    wall, cpu, exact = make()
                    failed |= not exact
                    if exact:
                        results[key].append((wall, cpu))
                    print(f"run {run + 1}  {way:4} {key[0]:5} {key[1]:11} {wall:7.2f} s  {cpu:6.2f} CPU-s", flush=True)
        for direction in ("down", "up"):
            walls, cpus = ([median([r[i] for r in results[direction, who]]) for who in ("swarmgate", "libtorrent")]
                           for i in (0, 1))
            ratio = lambda pair: pair[0] / pair[1] if all(pair) else None
            rows.append([f"{way} {direction}", *walls, ratio(walls), *(c and c * 1024 / args.size for c in cpus), ratio(cpus)])
    print(f"\nmedians of {args.runs} runs, {args.size} MiB; x = ours / libtorrent's")
    table(["way", "our wall s", "theirs", "x", "our CPU s/GiB", "theirs", "x"], rows)
    sys.exit(1 if failed else 0)


main()
