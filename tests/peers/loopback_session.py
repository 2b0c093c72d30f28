"""libtorrent on a machine that has nothing but loopback: the settings that its programs here have in common."""
import libtorrent as lt


def session(port, **more):
    """A session that listens on a loopback port (0: one of the kernel's choice) and contacts nobody unasked."""
    return lt.session({**SETTINGS, "listen_interfaces": f"127.0.0.1:{port}", **more})


SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    # A tracker on loopback is refused otherwise, and so is a second peer of the same address.
    "ssrf_mitigation": False,
    "allow_multiple_connections_per_ip": True,
    # By default a public server is asked for this machine's address.
    "webtorrent_stun_server": "",
    "rate_limit_ip_overhead": False,
    "min_reconnect_time": 1,
    # Who may upload is decided anew each so many seconds; 15 is a long time in a story.
    "unchoke_interval": 1,
}
