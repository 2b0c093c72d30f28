#!/usr/bin/env python3
"""What many items and many peers cost a gateway: memory and CPU of its process, while nothing is fetched.

  scale.py --swarmgate BIN [--items N] [--peers N] [--seconds S]

Items are added one by one, and the gateway is started anew with them. Peers dial it, all of one torrent of which it has
nothing; each tells of a piece each second and wants what there is. CPU is in percent of a core.
"""
import argparse
import asyncio
import hashlib
import http.client
import json
import os
import time
import urllib.parse
import urllib.request

import libtorrent as lt

from loopback import Sitting, cpu_seconds, free_port, resident_mib, start_gateway, table

# Start-up, and what the kernel gives back late, are over by then.
SETTLE_SECONDS = 3
# Enough to tell of for longer than a measurement.
PIECES = 1024
INTERESTED, HAVE, HAVE_NONE = 2, 4, 15
# Extensions (BEP 10) are not spoken of; the fast messages (BEP 6) are.
RESERVED = bytes([0, 0, 0, 0, 0, 0, 0, 4])


def torrent(name, length, piece_length):
    """(infohash, the .torrent): hashes of nothing, since nothing is fetched."""
    pieces = hashlib.sha1(name.encode()).digest() * -(-length // piece_length)
    info = {b"length": length, b"name": name.encode(), b"piece length": piece_length, b"pieces": pieces}
    return hashlib.sha1(lt.bencode(info)).digest(), lt.bencode({b"info": info})


def add(connection, encoded):
    connection.request("POST", "/api/v1/items", encoded, {"Content-Type": "application/x-bittorrent"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 201, answer.status


def idling(pid, seconds):
    """(MiB resident, percent of a core) while nothing is asked."""
    time.sleep(SETTLE_SECONDS)
    before, since = cpu_seconds(pid), time.perf_counter()
    time.sleep(seconds)
    return resident_mib(pid), 100 * (cpu_seconds(pid) - before) / (time.perf_counter() - since)


def items(sitting, args):
    data = sitting.scratch("items")
    child, base = start_gateway(sitting, args.swarmgate, data)
    rows = [["none", *idling(child.pid, args.seconds), None, None]]
    connection = http.client.HTTPConnection(urllib.parse.urlparse(base).netloc)
    for number in range(args.items):
        add(connection, torrent(f"film {number}.mkv", 64, 16 << 10)[1])
    sitting.end(child)

    started = time.perf_counter()
    child, base = start_gateway(sitting, args.swarmgate, data)
    start = time.perf_counter() - started
    resident, cpu = idling(child.pid, args.seconds)
    asked = time.perf_counter()
    with urllib.request.urlopen(base + "/api/v1/items", timeout=60) as answer:
        count = answer.read().count(b'"infohash"')
    listing = time.perf_counter() - asked
    assert count >= args.items, count
    sitting.end(child)
    return rows + [[str(args.items), resident, cpu, start, listing]]


async def greeted(port, infohash):
    """A peer that has shaken hands."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x13BitTorrent protocol" + RESERVED + infohash + os.urandom(20))
    await reader.readexactly(68)
    return reader, writer


async def chatter(reader, writer, pieces):
    """What it does then, until it is cancelled."""
    writer.write(bytes([0, 0, 0, 1, HAVE_NONE, 0, 0, 0, 1, INTERESTED]))
    reading = asyncio.create_task(drain(reader))
    for piece in range(pieces):
        await asyncio.sleep(1)
        writer.write(bytes([0, 0, 0, 5, HAVE]) + piece.to_bytes(4, "big"))
    await reading


async def drain(reader):
    while await reader.read(65536):
        pass


async def peers(sitting, args):
    port = free_port()
    limits = {f"BITTORRENT__{name}": str(args.peers) for name in ("MAX_PEERS", "MAX_PEERS_PER_TORRENT")}
    child, base = start_gateway(sitting, args.swarmgate, BITTORRENT__LISTEN_PORT=str(port), **limits)
    infohash, encoded = torrent("film.mkv", PIECES << 16, 1 << 16)
    add(http.client.HTTPConnection(urllib.parse.urlparse(base).netloc), encoded)
    alone = await asyncio.to_thread(idling, child.pid, args.seconds)
    # One after the other: only so many may be at the door at a time.
    talking = [asyncio.create_task(chatter(*await greeted(port, infohash), PIECES)) for _ in range(args.peers)]
    while (count := await asyncio.to_thread(connected, base, infohash)) < args.peers:
        assert not any(task.done() for task in talking), f"{count} peers, and some have gone"
        await asyncio.sleep(0.2)
    among = await asyncio.to_thread(idling, child.pid, args.seconds)
    assert await asyncio.to_thread(connected, base, infohash) == args.peers, "all of them stayed"
    for task in talking:
        task.cancel()
    await asyncio.gather(*talking, return_exceptions=True)
    sitting.end(child)
    return [["none", *alone], [str(args.peers), *among]]


def connected(base, infohash):
    with urllib.request.urlopen(f"{base}/api/v1/items/{infohash.hex()}", timeout=10) as answer:
        return json.load(answer)["peers"]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--items", type=int, default=10_000)
    ap.add_argument("--peers", type=int, default=500)
    ap.add_argument("--seconds", type=int, default=30)
    args = ap.parse_args()

    with Sitting() as sitting:
        table(["idle items", "MiB", "CPU %", "start s", "list s"], items(sitting, args))
        print()
        table(["peers", "MiB", "CPU %"], asyncio.run(peers(sitting, args)))


main()
