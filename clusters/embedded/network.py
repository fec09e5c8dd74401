"""Addresses inside a holder, and the device that carries them.

Place: holder.py calls `set_up` once, fleet.py changes nodes' addresses; controlplane.py and node.py read the addresses.
Limits: IPv4; all nodes share one network namespace and have an address each; there is no way out to the host's networks
or the internet.
"""

from pathlib import Path

from clusters.process import run

API = "172.30.0.254"
"""Address of the control plane: API server, CoreDNS, metrics-server."""

API_PORT = 6443
METRICS_PORT = 4443
"""Of metrics-server, on the same address."""

SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
"""The API server's own Service: the first address of SERVICES (Kubernetes decides that)."""

DNS_SERVICE = "10.96.0.10"
NODES = "172.30.0.0/24"
PODS = "10.244.0.0/16"
DOMAIN = "cluster.local"
MOST_NODES = 250


def node_address(index: int) -> str:
    """Address of the node with that index, counted from 1."""
    return f"172.30.0.{index}"


def pod_network(index: int) -> str:
    """Pod network of the node with that index, counted from 1."""
    return f"10.244.{index}.0/24"


def add_node(index: int) -> None:
    """Gives the node with that index its address."""
    run(["ip", "addr", "replace", f"{node_address(index)}/32", "dev", "nodes"])


def remove_node(index: int) -> None:
    """From now on nothing answers at the address of the node with that index."""
    run(["ip", "addr", "del", f"{node_address(index)}/32", "dev", "nodes"])


def set_up(nodes: int) -> None:
    """Brings up loopback and the device with the addresses of the control plane and of `nodes` nodes.

    A bridge without ports stands in for a dummy device, which some kernels lack. The default route leads nowhere; the
    kernel wants one before it forwards to Service addresses.
    """
    addresses = [f"addr add {node_address(index)}/32 dev nodes" for index in range(1, nodes + 1)]
    lines = [
        "link set lo up",
        "link add nodes type bridge",
        "link set nodes up",
        f"addr add {API}/{NODES.partition('/')[2]} dev nodes",
        "route add default dev nodes",
        *addresses,
    ]
    run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
