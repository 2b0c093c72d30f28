#!/usr/bin/env python3
"""libtorrent as a peer of WebTorrent swarms, and over TCP: one session a process.

Spoken to as the programs beside it, in JSON lines: commands on standard input, events on standard output.

  seed      key, torrent, save, trackers            -> "seeding" once the trackers have answered
  download  key, torrent or magnet, save, trackers  -> "announced", "metadata", "progress" ..., "done" with the SHA-256
  limit     upload in bytes/s, -1 for none          -> "limited"; for every torrent
  connect   key, to: HOST:PORT                      by TCP
  status    key                                     -> "status"
  remove    key                                     -> "removed"

`save` is the folder with the content, or for it. Ends when its input does.
"""
import hashlib
import json
import queue
import sys
import threading
import time

import libtorrent as lt

from loopback_session import session as loopback_session

# Looked at this often until the first byte is there, and then less often, so as not to slow down what is measured.
EAGER_SECONDS = 0.005
TICK_SECONDS = 0.02
PROGRESS_EVERY_SECONDS = 0.1
# libtorrent loses a WebRTC connection now and then in the middle of a fast download, whoever sends, and would then wait
# for the tracker's next interval: minutes. The other side may take some 20 s to notice and to accept it again.
ALONE_SECONDS = 3

READ_BYTES = 1 << 20

ALERTS = (
    lt.alert.category_t.tracker_notification
    | lt.alert.category_t.storage_notification
    | lt.alert.category_t.error_notification
)


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Share:
    """One torrent, and what has been told of it."""

    def __init__(self, session, command, upload_limit):
        self.key = command["key"]
        self.seed = command["do"] == "seed"
        self.save = command["save"]
        self.started = time.monotonic()
        self.first_byte = None
        self.complete = None
        self.lost = 0
        self.alone_since = None
        self.told = set()
        self.last_progress = (None, 0.0)
        if "magnet" in command:
            p = lt.parse_magnet_uri(command["magnet"])
        else:
            p = lt.add_torrent_params()
            p.ti = lt.torrent_info(command["torrent"])
        p.save_path = self.save
        p.trackers = list(p.trackers) + command.get("trackers", [])
        p.flags &= ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
        if self.seed:
            p.flags |= lt.torrent_flags.seed_mode
        self.announced = not p.trackers
        self.handle = session.add_torrent(p)
        self.limit(upload_limit)

    def limit(self, upload):
        # A session's limit spares peers on loopback; a torrent's does not.
        self.handle.set_upload_limit(upload)

    def once(self, event, **fields):
        if event not in self.told:
            self.told.add(event)
            say(event, key=self.key, **fields)

    def milliseconds(self, moment):
        return round((moment - self.started) * 1000)

    def tick(self):
        """Tells what is new; returns whether the first byte is still awaited."""
        s = self.handle.status()
        now = time.monotonic()
        if self.first_byte is None and s.total_payload_download > 0:
            self.first_byte = now
        if self.announced:
            self.once("seeding" if self.seed else "announced")
        if not self.seed and s.has_metadata:
            self.once("metadata", name=s.name, after_ms=self.milliseconds(now))
        if not self.seed and s.is_seeding and self.complete is None:
            self.complete = now
            # What was written last may still be on its way to the disk; an alert says when it is there.
            self.handle.flush_cache()
        if not self.seed and self.complete is None and self.first_byte is not None:
            self.find_others(s.num_peers, now)
        news = (s.total_done, s.total_payload_upload, s.num_peers)
        if news != self.last_progress[0] and now - self.last_progress[1] >= PROGRESS_EVERY_SECONDS:
            self.last_progress = (news, now)
            say(**{**self.status(s), "event": "progress"})
        return not self.seed and self.first_byte is None

    def find_others(self, peers, now):
        if peers:
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = now
            self.lost += 1
            say("warning", key=self.key, message="all connections are lost")
        elif now - self.alone_since >= ALONE_SECONDS:
            self.alone_since = now
            self.handle.force_reannounce(0, -1, lt.reannounce_flags_t.ignore_min_interval)

    def status(self, s=None):
        s = s or self.handle.status()
        return {
            "event": "status",
            "key": self.key,
            "have": s.total_done,
            "received": s.total_payload_download,
            "uploaded": s.total_payload_upload,
            "done": s.is_seeding,
            "peers": [{"type": "bittorrent", "address": p.ip[0]} for p in self.handle.get_peer_info()],
        }

    def flushed(self):
        """Everything is on disk: reads it again, all files end to end."""
        if self.complete is None:
            return
        files = self.handle.torrent_file().layout()
        whole = hashlib.sha256()
        for index in range(files.num_files()):
            # Not every file that has no bytes is created.
            if files.file_size(index):
                with open(files.file_path(index, self.save), "rb") as file:
                    while chunk := file.read(READ_BYTES):
                        whole.update(chunk)
        first = self.milliseconds(self.first_byte or self.complete)
        total = self.milliseconds(self.complete)
        self.once("done", bytes=files.total_size(), sha256=whole.hexdigest(), first_byte_ms=first, total_ms=total, lost=self.lost)


class Peer:
    def __init__(self):
        self.session = loopback_session(0, alert_mask=ALERTS)
        self.shares = {}
        self.upload_limit = -1
        say("ready", port=self.session.listen_port(), version=lt.__version__)

    def obey(self, command):
        do, key = command["do"], command.get("key")
        if do in ("seed", "download"):
            self.shares[key] = Share(self.session, command, self.upload_limit)
        elif do == "limit":
            self.upload_limit = command["upload"]
            for share in self.shares.values():
                share.limit(self.upload_limit)
            say("limited")
        elif do == "connect":
            host, _, port = command["to"].rpartition(":")
            self.shares[key].handle.connect_peer((host, int(port)))
        elif do == "status":
            say(**self.shares[key].status())
        elif do == "remove":
            self.session.remove_torrent(self.shares.pop(key).handle)
            say("removed", key=key)
        else:
            raise ValueError(f"no such command: {do}")

    def alerts(self):
        for alert in self.session.pop_alerts():
            key = str(alert.handle.info_hash()) if isinstance(alert, lt.torrent_alert) else None
            if isinstance(alert, lt.tracker_reply_alert) and key in self.shares:
                self.shares[key].announced = True
            elif isinstance(alert, lt.cache_flushed_alert) and key in self.shares:
                self.shares[key].flushed()
            elif alert.category() & lt.alert.category_t.error_notification:
                say("warning", key=key, message=alert.message())

    def tick(self):
        """Returns how long to wait for the next look."""
        self.alerts()
        awaiting = [share.tick() for share in list(self.shares.values())]
        return EAGER_SECONDS if any(awaiting) else TICK_SECONDS


def lines(into):
    for line in sys.stdin:
        into.put(json.loads(line))
    into.put({"do": "quit"})


def main():
    commands = queue.Queue()
    threading.Thread(target=lines, args=[commands], daemon=True).start()
    peer = Peer()
    wait = TICK_SECONDS
    while True:
        try:
            command = commands.get(timeout=wait)
            if command["do"] == "quit":
                return
            try:
                peer.obey(command)
            except Exception as e:  # noqa: BLE001 - whatever it is, the test is to read it
                say("error", key=command.get("key"), message=repr(e))
        except queue.Empty:
            pass
        wait = peer.tick()


main()
