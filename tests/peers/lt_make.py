#!/usr/bin/env python3
"""Makes a v2 or hybrid torrent (BEP 52) of a file or folder with libtorrent.

  lt_make.py PATH OUT.torrent --kind v2|hybrid --piece-length BYTES

Prints {"v1": hex or "", "v2": hex}.
"""
import argparse
import json
import os
import sys

import libtorrent as lt


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("path")
    ap.add_argument("out")
    ap.add_argument("--kind", choices=["v2", "hybrid"], required=True)
    ap.add_argument("--piece-length", type=int, required=True)
    args = ap.parse_args()

    files = lt.file_storage()
    lt.add_files(files, args.path)
    torrent = lt.create_torrent(files, args.piece_length, lt.create_torrent.v2_only if args.kind == "v2" else 0)
    lt.set_piece_hashes(torrent, os.path.dirname(args.path))
    encoded = lt.bencode(torrent.generate())
    with open(args.out, "wb") as out:
        out.write(encoded)
    hashes = lt.torrent_info(encoded).info_hashes()
    print(json.dumps({"v1": str(hashes.v1) if hashes.has_v1() else "", "v2": str(hashes.v2)}))


sys.exit(main())
