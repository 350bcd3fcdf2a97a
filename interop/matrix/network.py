"""Hosts with public addresses and NATs between them: network namespaces on one bridge, without a way
out. They need root, `ip` and `nft`."""

import os
import subprocess

# Whoever was not sent to does not get in, and is not refused either: a reset would end a dial.
RULES = """
table ip t {
  chain post { type nat hook postrouting priority 100
    oifname wan masquerade
  }
  chain forw { type filter hook forward priority 0; policy drop
    iifname wan ct state established,related accept
    iifname lan accept
  }
  chain inp { type filter hook input priority 0; policy drop
    iifname lan accept
    ct state established,related accept
  }
}
"""


def is_allowed():
    """Whether namespaces can be made here."""
    try:
        tried = subprocess.run(["unshare", "--net", "nft", "list", "tables"], capture_output=True)
    except OSError:
        return False
    return os.geteuid() == 0 and tried.returncode == 0


class Host:
    """A namespace, there until it is ended."""

    def __init__(self):
        words = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo && exec cat"]
        self.holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.holder.stdout.read(1) != b"\n":
            raise OSError("no network namespaces")

    def words(self, *program):
        """The command that runs a program in it."""
        return ["nsenter", f"--target={self.holder.pid}", "--net", *program]

    def run(self, script):
        subprocess.run(self.words("sh", "-e", "-c", script), check=True, timeout=30)

    def end(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdin.close()
        self.holder.stdout.close()


class Lab:
    """The bridge and all hosts, while it is entered."""

    def __enter__(self):
        self.hosts = []
        self.bridge = self._host()
        self.bridge.run("ip link add br0 type bridge && ip link set br0 up")
        return self

    def __exit__(self, *_):
        for host in self.hosts:
            host.end()

    def _host(self):
        self.hosts.append(Host())
        return self.hosts[-1]

    def host(self, address):
        """A host with `address` and its prefix length on the bridge."""
        host, number = self._host(), len(self.hosts)
        self.bridge.run(
            f"ip link add c{number} type veth peer name wan netns {host.holder.pid}\n"
            f"ip link set c{number} master br0 up"
        )
        host.run(f"ip addr add {address} dev wan\nip link set wan up")
        return host

    def behind_nat(self, address, net):
        """A host behind a router that has `address` on the bridge."""
        router, inside = self.host(address), self._host()
        router.run(
            f"ip link add lan type veth peer name eth0 netns {inside.holder.pid}\n"
            f"ip addr add 192.168.{net}.1/24 dev lan\n"
            "ip link set lan up\n"
            "sysctl -qw net.ipv4.ip_forward=1\n"
            f"nft -f - <<'RULES'{RULES}RULES"
        )
        inside.run(
            f"ip addr add 192.168.{net}.2/24 dev eth0\n"
            "ip link set eth0 up\n"
            f"ip route add default via 192.168.{net}.1"
        )
        return inside
