"""A pod's network: a namespace with one address, joined to the node by a pair of virtual Ethernet devices.

Place: `sandbox.py` attaches and detaches pods. Limits: IPv4, one address per pod, no network policies.

All nodes of a cluster share the holder's namespace, so a pod is a /32 route there and needs no bridge. In the pod
everything goes to 169.254.1.1, which nobody has: a permanent neighbour entry gives it the Ethernet address that every
node-side device has, so no proxy_arp and no sysctl of the node is needed.
"""

import asyncio
import contextlib
import ipaddress
import json

from clusters import process
from clusters.embedded.runtime.errors import Exhausted

_GATEWAY, _GATEWAY_MAC = "169.254.1.1", "ee:ee:ee:ee:ee:ee"
SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0"}
"""What containerd sets in each pod's network: programs bind port 80 without a capability."""


class Addresses:
    """The pod addresses of one node, from its pod network without the first two and the last."""

    def __init__(self, pods: str) -> None:
        """Args: the network, as in "10.244.1.0/24"."""
        self._network = ipaddress.IPv4Network(pods)
        self._taken: set[int] = set()

    def take(self) -> str:
        """The lowest free address.

        Raises:
            Exhausted: all are in use.
        """
        first, last = int(self._network.network_address) + 2, int(self._network.broadcast_address)
        for number in range(first, last):
            if number not in self._taken:
                self._taken.add(number)
                return str(ipaddress.IPv4Address(number))
        raise Exhausted(
            f"all {last - first} pod addresses of this node ({self._network}) are in use; "
            "delete pods or add a node to cluster.yaml"
        )

    def give_back(self, address: str) -> None:
        """Frees an address; one that is free already stays so."""
        self._taken.discard(int(ipaddress.IPv4Address(address)))


def attach(pod: str, address: str, process_id: int, *, ip: str) -> None:
    """Joins the network namespace of a process to the node: devices and the route to the pod.

    Raises:
        CommandFailed: the kernel refused; nothing is left behind.
    """
    process.run([ip, "-batch", "-"], stdin=node_side(pod, address, process_id))


async def detach(pod: str, *, ip: str) -> None:
    """Removes the pod's devices, and with them its route; what is not there is no error."""
    with contextlib.suppress(process.CommandFailed):
        await asyncio.to_thread(process.run, [ip, "link", "del", device(pod)])


def clear(pods: str, *, ip: str) -> None:
    """Removes the devices of a node's pods, for a runtime that begins and has none; what is not there is no error.

    A pod's namespace outlives its processes while the kernel keeps a connection of theirs that the other side does not
    read, and with it the device and the route to an address that the next pod gets.

    Args:
        pods: the node's pod network, as in "10.244.1.0/24".
        ip: path of the program.
    """
    routes = json.loads(process.run([ip, "-json", "route", "show", "root", pods]) or "[]")
    for name in {route["dev"] for route in routes}:
        with contextlib.suppress(process.CommandFailed):
            process.run([ip, "link", "del", name])


def node_side(pod: str, address: str, process_id: int) -> str:
    """Commands for `ip -batch` in the node's namespace, the pod's being that of a process."""
    return (
        f"link add {device(pod)} address {_GATEWAY_MAC} type veth peer name eth0 netns {process_id}\n"
        f"link set {device(pod)} up\n"
        f"route add {address}/32 dev {device(pod)}\n"
    )


def pod_side(address: str) -> str:
    """Commands for `ip -batch` in the pod's namespace."""
    return (
        "link set lo up\n"
        f"address add {address}/32 dev eth0\n"
        "link set eth0 up\n"
        f"neighbour add {_GATEWAY} lladdr {_GATEWAY_MAC} dev eth0 nud permanent\n"
        f"route add {_GATEWAY} dev eth0 scope link\n"
        f"route add default via {_GATEWAY}\n"
    )


def device(pod: str) -> str:
    """The node's end of a pod's pair of devices."""
    return f"veth{pod[:11]}"  # 15 characters are the kernel's limit
