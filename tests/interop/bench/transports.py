#!/usr/bin/env python3
"""One whole torrent over each way to a peer: TCP, uTP, and TCP encrypted (MSE); ours beside libtorrent's and rqbit's.

  transports.py --swarmgate BIN [--rqbit BIN] [--size MIB] [--runs N] [--ways tcp,utp,mse]

`down`: a libtorrent seeder, and who fetches is `swarmgate get`, libtorrent or rqbit. `up`: libtorrent fetches, and who
seeds is a gateway that has all of it, libtorrent or rqbit, which knows no encryption. Each is told to know one way only.
Programs alternate, so that a slow minute of the machine falls on all of them. CPU is that of the program compared alone.
Quotes medians and our ratios.
"""
import argparse
import os
import sys
import time
import urllib.request

import downloads
from loopback import RUN_LIMIT_SECONDS, Swarm, cpu_seconds, free_port, median, ratio, start_gateway, table

# libtorrent's policies: 0 forced, 1 enabled, 2 disabled. Its levels: 1 the clear, 2 RC4, 3 both.
LIBTORRENT = {
    "tcp": {"out_enc_policy": 2, "in_enc_policy": 2},
    "utp": {"enable_incoming_tcp": 0, "enable_outgoing_tcp": 0, "enable_incoming_utp": 1, "enable_outgoing_utp": 1,
            "out_enc_policy": 2, "in_enc_policy": 2},
    "mse": {"out_enc_policy": 0, "in_enc_policy": 0, "allowed_enc_level": 2},
}
OURS = {
    "tcp": {"BITTORRENT__UTP": "false", "BITTORRENT__ENCRYPTION": "off"},
    "utp": {"BITTORRENT__ENCRYPTION": "off"},
    "mse": {"BITTORRENT__UTP": "false", "BITTORRENT__ENCRYPTION": "require"},
}
RQBIT = {
    "tcp": [],
    "utp": ["--experimental-enable-utp-listen", "--disable-tcp-listen", "--disable-tcp-connect"],
}
# rqbit hashes a GiB in a few seconds before it serves it.
CHECKED_WITHIN_SECONDS = 60


class Way:
    """One way to a peer, with a seeder of each program on it."""

    def __init__(self, swarm, name, args):
        self.swarm, self.name, self.args = swarm, name, args
        self.settings = [text for key, value in LIBTORRENT[name].items() for text in ("--set", f"{key}={value}")]
        peer = swarm.seeder(self.settings)
        self.seeders = {"libtorrent": (swarm.children[-1], peer)}
        self.seeders["swarmgate"] = self.gateway(peer)
        if args.rqbit and name in RQBIT:
            self.seeders["rqbit"] = self.rqbit()

    def gateway(self, peer):
        """A gateway that has all of it."""
        port = free_port()
        child, base = start_gateway(self.swarm, self.args.swarmgate, BITTORRENT__LISTEN_PORT=str(port), **OURS[self.name])
        url = f"{base}/magnet?xt=urn:btih:{self.swarm.infohash}&x.pe={peer}"
        with urllib.request.urlopen(url, timeout=RUN_LIMIT_SECONDS) as answer:
            while answer.read(1 << 20):
                pass
        return child, f"127.0.0.1:{port}"

    def rqbit(self):
        port = free_port()
        make = downloads.rqbit(self.args.rqbit, self.swarm.torrent, *RQBIT[self.name], port=port, stay=True)
        child = self.swarm.start("rqbit-seeder", make(self.swarm.seed_dir)[0])
        deadline = time.monotonic() + CHECKED_WITHIN_SECONDS
        while "Initial check results" not in self.swarm.log_tail("rqbit-seeder"):
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"rqbit does not seed:\n{self.swarm.log_tail('rqbit-seeder')}")
            time.sleep(0.05)
        return child, f"127.0.0.1:{port}"

    def down(self, who):
        """(wall seconds, CPU seconds) of a download by a program, or None."""
        peer = self.seeders["libtorrent"][1]
        make = {
            "swarmgate": lambda: downloads.swarmgate(self.args.swarmgate, f"{self.magnet()}&x.pe={peer}", **OURS[self.name]),
            "libtorrent": lambda: downloads.libtorrent(self.magnet(), *self.settings, peers=[peer]),
            "rqbit": lambda: downloads.rqbit(self.args.rqbit, self.magnet(), *RQBIT[self.name], peers=[peer]),
        }[who]()
        result = downloads.finish(self.swarm, who, make)
        return result and result[:2]

    def up(self, who):
        """The same of a download by libtorrent from a program, with the CPU of the latter."""
        child, peer = self.seeders[who]
        make = downloads.libtorrent(self.magnet(), *self.settings, peers=[peer])
        # Each seeder has a copy of its own: the first fetch brings it from the disk.
        downloads.finish(self.swarm, f"from-{who}", make)
        before = cpu_seconds(child.pid)
        result = downloads.finish(self.swarm, f"from-{who}", make)
        return result and (result[0], cpu_seconds(child.pid) - before)

    def magnet(self):
        """Without the tracker, which would tell of all the seeders."""
        return f"magnet:?xt=urn:btih:{self.swarm.infohash}"

    def measure(self):
        """A row of the table a direction, and whether each run went well."""
        who = sorted(self.seeders, key=["swarmgate", "libtorrent", "rqbit"].index)
        results = {(direction, name): [] for direction in ("down", "up") for name in who}
        for run in range(self.args.runs):
            for (direction, name), rows in results.items():
                # What the one before wrote is not on the time of the next.
                os.sync()
                if (result := getattr(self, direction)(name)) is None:
                    continue
                rows.append(result)
                wall, cpu = result
                print(f"run {run + 1}  {self.name:4} {direction:5} {name:11} {wall:7.2f} s  {cpu:6.2f} CPU-s", flush=True)
        well = all(len(rows) == self.args.runs for rows in results.values())
        return [self.row(direction, results) for direction in ("down", "up")], well

    def row(self, direction, results):
        def compared(column, scale):
            of = lambda name: median([row[column] * scale for row in results.get((direction, name), [])])
            ours = of("swarmgate")
            return [ours, *(cell for name in ("libtorrent", "rqbit") for cell in (of(name), ratio(ours, of(name))))]

        return [f"{self.name} {direction}", *compared(0, 1), *compared(1, 1024 / self.args.size)]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--rqbit")
    ap.add_argument("--size", type=int, default=1024)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--ways", default="tcp,utp,mse")
    args = ap.parse_args()

    rows, all_well = [], True
    for name in args.ways.split(","):
        with Swarm(args.size, seeders=0) as swarm:
            measured, well = Way(swarm, name, args).measure()
            rows += measured
            all_well &= well
    print(f"\nmedians of {args.runs} runs, {args.size} MiB; x = ours / theirs; CPU in s/GiB")
    compared = ["libtorrent", "x", "rqbit", "x"]
    table(["way", "our wall s", *compared, "our CPU", *compared], rows)
    sys.exit(0 if all_well else 1)


main()
