#!/usr/bin/env python3
"""What libtorrent's loader makes of a .torrent file.

  lt_check.py FILE.torrent

Prints {"v1": hex or "", "v2": hex or "", "pieces": N, "files": [[path, length, offset, is padding], …]}; a file that it
refuses is an exception.
"""
import json
import sys

import libtorrent as lt

loaded = lt.torrent_info(sys.argv[1])
hashes, files = loaded.info_hashes(), loaded.files()
print(
    json.dumps(
        {
            "v1": str(hashes.v1) if hashes.has_v1() else "",
            "v2": str(hashes.v2) if hashes.has_v2() else "",
            "pieces": loaded.num_pieces(),
            "files": [
                [
                    files.file_path(index),
                    files.file_size(index),
                    files.file_offset(index),
                    bool(files.file_flags(index) & lt.file_flags_t.flag_pad_file),
                ]
                for index in range(files.num_files())
            ],
        }
    )
)
