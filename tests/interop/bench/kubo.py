"""Kubo on loopback, which knows nobody until it is connected: a provider of content, or one that fetches it."""
import json
import os
import subprocess
import urllib.parse
import urllib.request

from loopback import free_port, wait_for_http

CHUNK_BYTES = 256 << 10
ADD = ["add", "-Q", "-r", "--cid-version=1", "--raw-leaves", f"--chunker=size-{CHUNK_BYTES}", "--max-file-links=174"]


class Kubo:
    def __init__(self, sitting, program, name):
        self.program = program
        self.repo = sitting.scratch(name)
        self.swarm, self.gateway_port, self.rpc_port = free_port(), free_port(), free_port()
        self.env = os.environ | {"IPFS_PATH": str(self.repo), "IPFS_TELEMETRY": "off", "HOME": str(self.repo)}
        self.cli("init", "--profile=test", "--empty-repo")
        self._configure()
        self.child = sitting.start(name, [program, "daemon"], env=self.env)
        self.gateway = f"http://127.0.0.1:{self.gateway_port}"
        # The empty block, which everybody has.
        wait_for_http(self.child, f"{self.gateway}/ipfs/bafkqaaa", lambda: sitting.log_tail(name), seconds=30)
        self.id = self.rpc("id")["ID"]

    def _configure(self):
        path = self.repo / "config"
        config = json.loads(path.read_text())
        config["Addresses"].update(
            Swarm=[f"/ip4/127.0.0.1/tcp/{self.swarm}"],
            Gateway=f"/ip4/127.0.0.1/tcp/{self.gateway_port}",
            API=f"/ip4/127.0.0.1/tcp/{self.rpc_port}",
        )
        config["Bootstrap"] = []
        config["Routing"]["Type"] = "none"
        config["AutoNAT"]["ServiceMode"] = "disabled"
        config.setdefault("Provide", {})["Enabled"] = False
        config["Swarm"].update(
            RelayClient={"Enabled": False}, RelayService={"Enabled": False}, EnableHolePunching=False
        )
        config["Version"]["SwarmCheckEnabled"] = False
        path.write_text(json.dumps(config))

    def cli(self, *args):
        command = [str(self.program), *map(str, args)]
        done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0, f"ipfs {args}: {done.returncode}"
        return done.stdout.strip()

    def rpc(self, command, **arguments):
        url = f"http://127.0.0.1:{self.rpc_port}/api/v0/{command}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def add(self, path):
        return self.cli(*ADD, path).splitlines()[-1]

    def multiaddr(self, port=None):
        """Where peers reach it: at its own port, or at that of a relay before it."""
        return f"/ip4/127.0.0.1/tcp/{port or self.swarm}/p2p/{self.id}"

    def peers(self):
        return self.rpc("swarm/peers")["Peers"] or []

    def bytes_sent(self):
        return self.rpc("bitswap/stat")["DataSent"]
