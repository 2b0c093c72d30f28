#!/usr/bin/env python3
"""Content that the gateway holds, over HTTP: wrk on it and on nginx with the same file.

  http_cached.py --swarmgate BIN --wrk BIN [--nginx BIN] [--size MIB] [--seconds S] [--runs N]

1, 64 and 512 connections, ranges of 1 MiB at random offsets and the whole file. Servers alternate; bytes a second.
"""
import argparse
import re
import subprocess
import sys
import urllib.request

from loopback import MIB, Swarm, free_port, median, start_gateway, table, wait_for_http

CONNECTIONS = (1, 64, 512)
UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}

RANGES_LUA = """
local size, span = %d, %d
request = function()
  local first = math.random(0, size - span)
  return wrk.format("GET", nil, { ["Range"] = "bytes=" .. first .. "-" .. (first + span - 1) })
end
"""

NGINX_CONF = """
worker_processes auto;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=2048; root {root}; }}
}}
"""


def start_nginx(swarm, nginx):
    folder, port = swarm.scratch("nginx"), free_port()
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF.format(dir=folder, port=port, root=swarm.seed_dir))
    for path in (swarm.dir, swarm.seed_dir):
        path.chmod(0o755)
    child = swarm.start("nginx", [nginx, "-c", conf, "-p", folder, "-g", "daemon off;"])
    url = f"http://127.0.0.1:{port}/payload.bin"
    wait_for_http(child, url, lambda: swarm.log_tail("nginx"))
    return url


def start_ours(swarm, binary):
    """A gateway that holds every byte: it fetches the film once, checked against the payload."""
    _, base = start_gateway(swarm, binary, SERVER__MAX_STREAMS="4096", SERVER__MAX_STREAMS_PER_CLIENT="4096")
    hints = "".join(f"&x.pe={p}" for p in swarm.peers)
    with urllib.request.urlopen(f"{base}/magnet?xt=urn:btih:{swarm.infohash}{hints}", timeout=120) as answer:
        with open(swarm.file, "rb") as f:
            while part := answer.read(MIB):
                assert part == f.read(len(part)), "the gateway's bytes differ from the payload's"
            assert not f.read(1), "the gateway's answer is short"
    return f"{base}/bt/{swarm.infohash}/payload.bin"


def measure(wrk, url, connections, seconds, script):
    command = [wrk, f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-s", str(script)] if script else []
    said = subprocess.run(command + [url], capture_output=True, text=True, timeout=seconds + 60).stdout
    if found := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", said):
        print(f"{url}, {connections} connections: {found.group(0)}", flush=True)
    rate = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?B)", said)
    return float(rate.group(1)) * UNITS[rate.group(2)] / MIB if rate else None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--swarmgate", required=True)
    ap.add_argument("--wrk", required=True)
    ap.add_argument("--nginx")
    ap.add_argument("--size", type=int, default=256)
    ap.add_argument("--seconds", type=int, default=10)
    ap.add_argument("--runs", type=int, default=3)
    args = ap.parse_args()

    with Swarm(args.size) as swarm:
        servers = {"swarmgate": start_ours(swarm, args.swarmgate)}
        if args.nginx:
            servers["nginx"] = start_nginx(swarm, args.nginx)
        lua = swarm.dir / "ranges.lua"
        lua.write_text(RANGES_LUA % (swarm.size, MIB))
        rows = []
        for what, script in (("1 MiB ranges", lua), ("whole file", None)):
            for connections in CONNECTIONS:
                rates = {name: [] for name in servers}
                for _ in range(args.runs):
                    for name, url in servers.items():
                        rates[name].append(measure(args.wrk, url, connections, args.seconds, script))
                values = [median(rates[name]) for name in servers]
                ratio = values[0] / values[1] if len(values) > 1 and values[0] and values[1] else None
                rows.append([f"{what}, {connections} connections", *values, ratio])
                print(f"{what}, {connections} connections: {dict(zip(servers, values))}", flush=True)
    print(f"\nmedians of {args.runs}, MiB/s")
    table(["", *servers, "ours / theirs"] if args.nginx else ["", *servers, ""], rows)
    sys.exit(0 if all(row[1] for row in rows) else 1)


main()
