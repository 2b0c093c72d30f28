#!/usr/bin/env python3
"""Many libtorrent DHT nodes on loopback, for interop stories.

  lt_dht.py --nodes N --bootstrap HOST:PORT

Takes one JSON object a line on its standard input and prints one a line:

  {"do":"announce","node":I,"infohash":HEX,"port":P}
  {"do":"get_peers","node":I,"infohash":HEX}          -> {"event":"peers","node":I,"infohash":HEX,"peers":["HOST:PORT",…]}
  {"do":"put_immutable","node":I,"text":TEXT}         -> {"event":"target","target":HEX}, then {"event":"put","nodes":K}
  {"do":"get_immutable","node":I,"target":HEX}        -> {"event":"item","target":HEX,"text":TEXT}
  {"do":"put_mutable","node":I,"private":HEX,"public":HEX,"text":TEXT,"salt":TEXT}  -> {"event":"put","nodes":K}
  {"do":"get_mutable","node":I,"public":HEX,"salt":TEXT} -> {"event":"item","public":HEX,"text":TEXT,"seq":N}

and {"event":"table","node":I,"nodes":K} whenever the size of a node's table has changed. Ends with its input.
"""
import argparse
import json
import sys
import threading
import time

import libtorrent as lt

from loopback_session import session

TICK_SECONDS = 0.02
STATS_SECONDS = 0.25
NODES_METRIC = lt.find_metric_idx("dht.dht_nodes")


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def node(bootstrap):
    """A node for which all others may have one address, and ask as often as a network in one process does."""
    return session(
        0,
        enable_dht=True,
        dht_bootstrap_nodes=bootstrap,
        dht_restrict_routing_ips=False,
        dht_restrict_search_ips=False,
        dht_enforce_node_id=False,
        dht_prefer_verified_node_ids=False,
        dht_ignore_dark_internet=False,
        dht_block_ratelimit=10_000,
        dht_upload_rate_limit=10_000_000,
        alert_mask=lt.alert.category_t.dht_notification
        | lt.alert.category_t.dht_operation_notification
        | lt.alert.category_t.stats_notification,
    )


def sha1(hex_digits):
    return lt.sha1_hash(bytes.fromhex(hex_digits))


def obey(nodes, line):
    wanted = json.loads(line)
    of = nodes[wanted["node"]]
    match wanted["do"]:
        case "announce":
            of.dht_announce(sha1(wanted["infohash"]), wanted["port"], 0)
        case "get_peers":
            of.dht_get_peers(sha1(wanted["infohash"]))
        case "put_immutable":
            say("target", target=str(of.dht_put_immutable_item(wanted["text"].encode())))
        case "get_immutable":
            of.dht_get_immutable_item(sha1(wanted["target"]))
        case "put_mutable":
            private, public = bytes.fromhex(wanted["private"]), bytes.fromhex(wanted["public"])
            of.dht_put_mutable_item(private, public, wanted["text"].encode(), wanted["salt"].encode())
        case "get_mutable":
            of.dht_get_mutable_item(bytes.fromhex(wanted["public"]), wanted["salt"].encode())


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def report(index, alert, tables):
    if isinstance(alert, lt.dht_get_peers_reply_alert):
        peers = [f"{host}:{port}" for host, port in alert.peers()]
        say("peers", node=index, infohash=str(alert.info_hash), peers=peers)
    elif isinstance(alert, lt.dht_immutable_item_alert):
        value = alert.item
        say("item", target=str(alert.target), text=text(value.get("value") if isinstance(value, dict) else value))
    elif isinstance(alert, lt.dht_mutable_item_alert):
        value = alert.item
        if isinstance(value, dict) and "value" in value:
            value = value["value"]
        say("item", public=bytes(alert.key).hex(), text=text(value), seq=alert.seq)
    elif isinstance(alert, lt.dht_put_alert):
        say("put", nodes=alert.num_success)
    elif isinstance(alert, lt.session_stats_alert):
        known = alert.values["dht.dht_nodes"] if isinstance(alert.values, dict) else alert.values[NODES_METRIC]
        if tables.get(index) != known:
            tables[index] = known
            say("table", node=index, nodes=known)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--bootstrap", required=True)
    args = parser.parse_args()
    nodes = [node(args.bootstrap) for _ in range(args.nodes)]
    lines, ended = [], threading.Event()

    def read():
        for line in sys.stdin:
            lines.append(line)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    say("listening", ports=[of.listen_port() for of in nodes])
    tables, asked = {}, 0.0
    while not ended.is_set():
        while lines:
            obey(nodes, lines.pop(0))
        if time.monotonic() - asked > STATS_SECONDS:
            asked = time.monotonic()
            for of in nodes:
                of.post_session_stats()
        for index, of in enumerate(nodes):
            for alert in of.pop_alerts():
                try:
                    report(index, alert, tables)
                except Exception as error:  # a story reads what went wrong rather than nothing
                    say("error", what=f"{type(alert).__name__}: {error}")
        time.sleep(TICK_SECONDS)


main()
