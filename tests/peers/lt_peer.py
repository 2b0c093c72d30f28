#!/usr/bin/env python3
"""One libtorrent peer on loopback, for interop stories and benches.

  lt_peer.py --torrent FILE | --magnet URI   --save DIR --port P [--seed] [--peer HOST:PORT ...]
             [--host IP] [--rate KIB_PER_S] [--stall-after KIB] [--exit-when-done] [--quiet] [--set NAME=VALUE ...]

Prints one JSON object a line: {"event":"listening","port":P}, then a "progress" whenever something changed,
"metadata" once a magnet's info arrived, "done" when every piece is there. Ends when its standard input closes,
so a parent that dies takes it along.
"""
import argparse
import json
import sys
import threading
import time

import libtorrent as lt

from loopback_session import session as loopback_session

TICK_SECONDS = 0.05


def parameters(args):
    if args.magnet:
        p = lt.parse_magnet_uri(args.magnet)
    else:
        p = lt.add_torrent_params()
        p.ti = lt.torrent_info(args.torrent)
    p.save_path = args.save
    p.flags &= ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
    if args.seed:
        p.flags |= lt.torrent_flags.seed_mode
    if "pex=0" in args.set:
        p.flags |= lt.torrent_flags.disable_pex
    return p


def setting(name, value):
    return bool(int(value)) if name.startswith(("enable_", "close_", "prefer_")) else int(value)


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def main():
    ap = argparse.ArgumentParser()
    what = ap.add_mutually_exclusive_group(required=True)
    what.add_argument("--torrent")
    what.add_argument("--magnet")
    ap.add_argument("--save", required=True)
    ap.add_argument("--host", default="127.0.0.1")
    ap.add_argument("--port", type=int, required=True)
    ap.add_argument("--seed", action="store_true", help="the payload is complete in --save: do not hash it again")
    ap.add_argument("--peer", action="append", default=[])
    ap.add_argument("--rate", type=int, default=0, help="upload limit in KiB/s")
    ap.add_argument("--stall-after", type=int, default=0, help="stop uploading, silently, after so many KiB")
    ap.add_argument("--exit-when-done", action="store_true")
    ap.add_argument("--quiet", action="store_true", help="no progress lines, for when this peer is what is measured")
    ap.add_argument("--set", action="append", default=[],
                    help="a setting of the session: a number, switches are 0 and 1; pex=0 is the torrent's")
    args = ap.parse_args()

    settings = {name: setting(name, value) for name, value in (text.split("=") for text in args.set) if name != "pex"}
    listen = f"{args.host}:{args.port}"
    session = loopback_session(args.port, connection_speed=100, alert_mask=0, listen_interfaces=listen, **settings)
    handle = session.add_torrent(parameters(args))
    if args.rate:
        # A session's limit spares peers on loopback; a torrent's does not.
        handle.set_upload_limit(args.rate << 10)
    for peer in args.peer:
        host, _, port = peer.rpartition(":")
        handle.connect_peer((host, int(port)))
    say("listening", port=session.listen_port())

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    last, had_metadata, done = None, bool(args.torrent), False
    while not ended.wait(TICK_SECONDS):
        s = handle.status()
        now = (str(s.state), s.total_done, s.total_payload_upload, s.num_peers)
        if now != last and not args.quiet:
            say("progress", state=now[0], have=now[1], uploaded=now[2], peers=now[3], error=s.errc.message() if s.errc.value() else "")
            last = now
        if not had_metadata and s.has_metadata:
            had_metadata = True
            say("metadata", name=s.name)
        if args.stall_after and s.total_payload_upload >= args.stall_after << 10:
            handle.set_upload_limit(1)
        if not done and s.is_seeding:
            done = True
            say("done", have=s.total_done)
            if args.exit_when_done:
                return


main()
