"""What the benches share: a payload and its torrent, a tracker, seeders, programs that are measured and ended.

Everything is on 127.0.0.1 and below one temporary folder. Children are ended by their handle, nothing else is touched.
"""
import hashlib
import http.server
import json
import os
import pathlib
import random
import shutil
import socket
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import libtorrent as lt

MIB = 1 << 20
PIECE_BYTES = MIB
LT_PEER = pathlib.Path(__file__).resolve().parent.parent.parent / "peers/lt_peer.py"
# Nothing measured here takes longer; a program that does is ended and counted as failed.
RUN_LIMIT_SECONDS = 300


def free_port():
    """A port below the ephemeral range that is free for TCP and UDP right now."""
    while True:
        port = random.randrange(18_000, 32_000)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as s:
                    s.bind(("127.0.0.1", port))
            return port
        except OSError:
            continue


class Tracker(http.server.BaseHTTPRequestHandler):
    """BEP 3 with compact answers: everyone else of the swarm, on loopback."""

    protocol_version = "HTTP/1.1"
    swarms = {}

    def log_message(self, *_):
        pass

    def do_GET(self):
        fields = dict(kv.partition("=")[::2] for kv in urllib.parse.urlparse(self.path).query.split("&"))
        swarm = self.swarms.setdefault(urllib.parse.unquote_to_bytes(fields.get("info_hash", "")), set())
        port = int(fields.get("port") or 0)
        if fields.get("event") == "stopped":
            swarm.discard(port)
        elif port:
            swarm.add(port)
        peers = b"".join(socket.inet_aton("127.0.0.1") + p.to_bytes(2, "big") for p in swarm if p != port)
        body = lt.bencode({b"interval": 30, b"min interval": 2, b"peers": peers})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up in the middle of an answer is no news."""


class Sitting:
    """A temporary folder and the programs that were started for a bench; both are gone at its end."""

    def __init__(self, below=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="swarmgate-bench-", dir=below))
        self.children = []

    def start(self, name, command, **kwargs):
        """Starts a program that ends with the sitting at the latest."""
        log = open(self.dir / f"{name}.log", "ab")
        kwargs.setdefault("stdout", log)
        child = subprocess.Popen(list(map(str, command)), stderr=log, **kwargs)
        self.children.append(child)
        return child

    def end(self, child):
        """Asks first, so that a program with workers of its own can end them too."""
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self.children.remove(child)

    def scratch(self, name):
        return pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.dir))

    def log_tail(self, name):
        return (self.dir / f"{name}.log").read_bytes()[-2000:].decode(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in list(self.children):
            self.end(child)
        shutil.rmtree(self.dir, ignore_errors=True)

    def payload(self, name, size_mib):
        """A file of pseudo-random bytes that only its size decides."""
        rnd = random.Random(size_mib)
        path = self.dir / name
        path.parent.mkdir(exist_ok=True)
        with open(path, "wb") as f:
            for _ in range(size_mib):
                f.write(rnd.randbytes(MIB))
        return path


class Swarm(Sitting):
    """A payload of pseudo-random bytes, its torrent, a tracker and any number of libtorrent seeders."""

    def __init__(self, size_mib, seeders=1, rate_kib=0, staller=False):
        super().__init__()
        self.seed_dir = self.dir / "seed"
        self.size = size_mib * MIB
        self.file = self.payload("seed/payload.bin", size_mib)
        server = Server(("127.0.0.1", 0), Tracker)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.tracker = f"http://127.0.0.1:{server.server_address[1]}/announce"
        self._write_torrent()
        self.peers = [self.seeder(["--rate", str(rate_kib)]) for _ in range(seeders)]
        if staller:
            self.peers.append(self.seeder(["--rate", str(rate_kib), "--stall-after", "256"]))
        # The last seeder says "listening" before its announce has been answered.
        time.sleep(0.5)

    def _write_torrent(self):
        hashes = []
        with open(self.file, "rb") as f:
            while piece := f.read(PIECE_BYTES):
                hashes.append(hashlib.sha1(piece).digest())
        info = {b"length": self.size, b"name": b"payload.bin", b"piece length": PIECE_BYTES, b"pieces": b"".join(hashes)}
        self.infohash = hashlib.sha1(lt.bencode(info)).hexdigest()
        self.torrent = self.dir / "payload.torrent"
        self.torrent.write_bytes(lt.bencode({b"announce": self.tracker.encode(), b"info": info}))

    def seeder(self, options):
        """One more libtorrent seeder, with options of `lt_peer.py`; returns its address."""
        port = free_port()
        command = [sys.executable, str(LT_PEER), "--torrent", str(self.torrent), "--save", str(self.seed_dir), "--seed"]
        child = self.start("seeder", command + ["--port", str(port)] + options, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert json.loads(child.stdout.readline())["event"] == "listening"
        threading.Thread(target=lambda: [None for _ in child.stdout], daemon=True).start()
        return f"127.0.0.1:{port}"

    def magnet(self):
        hints = "".join(f"&x.pe={p}" for p in self.peers)
        return f"magnet:?xt=urn:btih:{self.infohash}&tr={urllib.parse.quote(self.tracker, safe='')}{hints}"


def gateway_env(**options):
    """The environment of a gateway that has loopback alone; `A__B=value` sets [a] b."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SWARMGATE_")}
    fixed = {
        "BITTORRENT__LISTEN_PORT": str(free_port()),
        "BITTORRENT__DHT": "false",
        "WEBTORRENT__LISTEN_IP": "127.0.0.1",
        "IPFS__LISTEN_IP": "127.0.0.1",
        "IPFS__LISTEN_PORT": "0",
        "NETWORK__ALLOW_PRIVATE": "true",
        "CACHE__MAX_SIZE": "64GiB",
        "CACHE__MIN_FREE": "0",
    }
    env.update({f"SWARMGATE_{k}": v for k, v in (fixed | options).items()})
    return env


def start_gateway(swarm, binary, data=None, **options):
    """A gateway, with an empty cache unless one is named; returns its process and its base URL."""
    port = free_port()
    data = data or swarm.scratch("gateway")
    command = [binary, "--data-dir", data, "serve", "--listen", f"127.0.0.1:{port}"]
    child = swarm.start("swarmgate", command, env=gateway_env(**options))
    base = f"http://127.0.0.1:{port}"
    wait_for_http(child, base + "/readyz", lambda: swarm.log_tail("swarmgate"))
    return child, base


def wait_for_http(child, url, log, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if child.poll() is not None:
            sys.exit(f"{url}: the server ended with {child.returncode}:\n{log()}")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{url}: no answer within {seconds} s:\n{log()}")


def cpu_seconds(pid):
    """What a process has used so far, its threads included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid):
    """The most memory that a process has had resident."""
    return _status_mib(pid, "VmHWM:")


def resident_mib(pid):
    """The memory that a process has resident."""
    return _status_mib(pid, "VmRSS:")


def _status_mib(pid, row):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(row))) / 1024


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def ratio(a, b):
    return a / b if a and b else None


def table(head, rows):
    """Prints rows under their heads, columns aligned; None is a dash."""
    cells = [[("-" if c is None else f"{c:.2f}" if isinstance(c, float) else str(c)) for c in r] for r in [head, *rows]]
    widths = [max(len(r[i]) for r in cells) for i in range(len(head))]
    for r in cells:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))), flush=True)
