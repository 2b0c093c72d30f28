"""Whole downloads by one program or another, run to their end and measured: what the benches of torrents share."""
import filecmp
import os
import shutil
import signal
import sys
import threading
import time

from loopback import LT_PEER, RUN_LIMIT_SECONDS, free_port, gateway_env


def swarmgate(binary, magnet, **options):
    """`swarmgate get` with some options, as `gateway_env` takes them."""
    return lambda folder: ([binary, "--data-dir", folder / "data", "get", magnet, "-o", folder], gateway_env(**options))


def rqbit(binary, wanted, *options, peers=(), port=None, stay=False):
    """rqbit's stateless download, with options of its own; `stay` has it seed when it has all."""
    first = [binary, "--disable-dht", "--disable-dht-persistence", "--disable-lsd", "--disable-upnp-port-forward",
             "--ipv4-only", "--listen-ip", "127.0.0.1", *options]
    then = ["download", "--disable-http-api", "--overwrite", *([] if stay else ["--exit-on-finish"]),
            *(["--initial-peers", ",".join(peers)] if peers else [])]
    return lambda folder: ([*first, "--listen-port", port or free_port(), *then, "-o", folder, wanted], None)


def libtorrent(wanted, *options, peers=()):
    """libtorrent, with options of `lt_peer.py`; `wanted` is a magnet or the path of a torrent."""
    kind = "--magnet" if str(wanted).startswith("magnet:") else "--torrent"
    named = [text for peer in peers for text in ("--peer", peer)]
    return lambda folder: ([sys.executable, LT_PEER, kind, wanted, "--save", folder, "--port", free_port(),
                            "--exit-when-done", "--quiet", *named, *options], None)


def aria2(binary, magnet):
    return lambda folder: ([binary, "--no-conf", "--enable-dht=false", "--bt-enable-lpd=false", "--interface=127.0.0.1",
                            f"--listen-port={free_port()}", "--seed-time=0", "--file-allocation=none",
                            "--summary-interval=0", f"--dir={folder}", magnet], None)


def finish(swarm, name, make):
    """Runs one download into an empty folder; returns (wall seconds, CPU seconds, peak MiB), or None when it failed."""
    folder = swarm.scratch(name)
    command, env = make(folder)
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
