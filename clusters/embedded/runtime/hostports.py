"""Ports of a node that lead to its pods (hostPort), as nftables rules in the network that all nodes share.

Place: `sandbox.py`, for pods that ask. Limits: IPv4. A port without hostIP is one of the node's address; the loopback
address is the same for all nodes, so there the first pod that asks for a port on 127.0.0.1 has it.
"""

import contextlib
import ipaddress
from collections.abc import Iterable

from clusters import process
from clusters.embedded.protos import Message
from clusters.embedded.runtime.errors import Refused

_PROTOCOLS = ("tcp", "udp", "sctp")  # Protocol of the CRI
_EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104 - what a pod asks with


def wanted(mappings: Iterable[Message]) -> list[Message]:
    """Those of a pod's port mappings that are ports of the node."""
    return [mapping for mapping in mappings if mapping.host_port]


def rules(pod: str, address: str, node: str, mappings: Iterable[Message]) -> str:
    """A table for nft(8).

    Args:
        pod: the pod sandbox's id.
        address: the pod's address.
        node: the node's address.
        mappings: from `wanted`.

    Raises:
        Refused: a hostIP is no IPv4 address.
    """
    lines = [
        f"ip daddr {_address(mapping, node)} "
        f"{_PROTOCOLS[mapping.protocol]} dport {mapping.host_port} dnat to {address}:{mapping.container_port}"
        for mapping in mappings
    ]
    # A pod that asks at its own port would get an answer from itself, which it did not ask.
    back = f"ip saddr {{ {address}, 127.0.0.0/8 }} ip daddr {address} ct status dnat masquerade"
    chains = [
        ("prerouting", "type nat hook prerouting priority -105", lines),
        ("output", "type nat hook output priority -105", lines),
        ("postrouting", "type nat hook postrouting priority 95", [back]),
    ]
    body = "".join(f" chain {name} {{ {kind}; {'; '.join(each)}; }}\n" for name, kind, each in chains)
    return f"table ip {_tables(node)}{pod[:16]} {{\n{body}}}\n"


def open_(pod: str, address: str, node: str, mappings: Iterable[Message], *, nft: str) -> None:
    """Puts a pod's rules in force.

    Raises:
        Refused: a hostIP is no IPv4 address.
        CommandFailed: the kernel refused; nothing is left behind.
    """
    process.run([nft, "-f", "-"], stdin=rules(pod, address, node, mappings))


def close(pod: str, node: str, *, nft: str) -> None:
    """Removes a pod's rules; a pod without is no error."""
    with contextlib.suppress(process.CommandFailed):
        process.run([nft, "delete", "table", "ip", f"{_tables(node)}{pod[:16]}"])


def clear(node: str, *, nft: str) -> None:
    """Removes the rules of all pods of the node with that address, for a runtime that begins and has none."""
    names = [line.split()[-1] for line in process.run([nft, "list", "tables", "ip"]).splitlines()]
    for name in names:
        if name.startswith(_tables(node)):
            process.run([nft, "delete", "table", "ip", name])


def _address(mapping: Message, node: str) -> str:
    if mapping.host_ip in _EVERYWHERE:
        return node
    try:
        return str(ipaddress.IPv4Address(mapping.host_ip))
    except ValueError as error:
        raise Refused(
            f"the pod asks for port {mapping.host_port} of its node at hostIP {mapping.host_ip!r}; an embedded "
            "cluster has only IPv4 addresses: give one, or leave hostIP out for the node's own"
        ) from error


def _tables(node: str) -> str:
    """How the names of the tables of a node's pods begin: all nodes share one network."""
    return f"hostport_{node.replace('.', '_')}_"
