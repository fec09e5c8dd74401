"""Ports of a node that lead to pods: the rules, and connections through them."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from clusters.embedded.protos import Api
from clusters.embedded.runtime.hostports import rules, wanted
from clusters.wait import until
from tests.patience import PATIENCE

Node = Any  # the fixture `node` is conftest.Node; test modules cannot import from a conftest
SERVE = """import socket
server = socket.create_server(("", 80))
print("up", flush=True)
while True:
    connection, address = server.accept()
    connection.sendall(address[0].encode())
    connection.close()
"""


def test_the_rules_of_a_pod(cri: Api) -> None:
    mappings = [
        {"host_port": 8080, "container_port": 80},
        {"protocol": 1, "host_port": 53, "container_port": 5353, "host_ip": "127.0.0.1"},
        {"container_port": 90},
    ]
    config = cri.PodSandboxConfig(port_mappings=mappings)
    assert rules("0123456789abcdef0", "10.244.1.2", "172.30.0.1", wanted(config.port_mappings)).splitlines() == [
        "table ip hostport_172_30_0_1_0123456789abcdef {",
        " chain prerouting { type nat hook prerouting priority -105; ip daddr 172.30.0.1 tcp dport 8080 dnat to "
        "10.244.1.2:80; ip daddr 127.0.0.1 udp dport 53 dnat to 10.244.1.2:5353; }",
        " chain output { type nat hook output priority -105; ip daddr 172.30.0.1 tcp dport 8080 dnat to "
        "10.244.1.2:80; ip daddr 127.0.0.1 udp dport 53 dnat to 10.244.1.2:5353; }",
        " chain postrouting { type nat hook postrouting priority 95; ip saddr { 10.244.1.2, 127.0.0.0/8 } "
        "ip daddr 10.244.1.2 ct status dnat masquerade; }",
        "}",
    ]


def ask(address: str, port: int) -> list[str]:
    code = f"import socket; print(socket.create_connection(({address!r}, {port}), 5).recv(99).decode())"
    return ["/usr/bin/python3", "-c", code]


@pytest.mark.cluster
def test_a_port_of_the_node_leads_to_the_pod_until_it_is_gone(node: Node) -> None:
    ports = [{"host_port": 8080, "container_port": 80}]
    server = node.pod("port-server", port_mappings=ports)
    log = Path(node.status(node.start(server, ["/usr/bin/python3", "-c", SERVE])).log_path)
    until(log.read_text, lambda text: "up" in text, what="the server", seconds=PATIENCE, interval=0.002)
    client = node.pod("port-client")
    assert node.run(client, ask("172.30.0.1", 8080)) == f"{node.address(client)}\n"
    assert node.run(server, ask("172.30.0.1", 8080), name="itself") == "172.30.0.1\n"
    options = {"network": node.api.NODE, "pid": node.api.CONTAINER}
    on_node = node.pod("port-on-node", linux={"security_context": {"namespace_options": options}})
    assert node.run(on_node, ask("172.30.0.1", 8080), name="from-node") == "172.30.0.1\n"
    node.runtime.StopPodSandbox(node.api.StopPodSandboxRequest(pod_sandbox_id=server))
    assert "ConnectionRefusedError" in node.run(client, ask("172.30.0.1", 8080), name="late")


@pytest.mark.cluster
def test_the_protocol_decides_which_pod_a_port_leads_to(node: Node) -> None:
    serve = """import socket, threading
def datagrams():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", 80))
        print("up", flush=True)
        while True:
            _, address = server.recvfrom(99)
            server.sendto(b"datagram", address)
datagrams()
"""
    ports = [{"protocol": node.api.UDP, "host_port": 8080, "container_port": 80}]
    server = node.pod("datagrams", port_mappings=ports)
    log = Path(node.status(node.start(server, ["/usr/bin/python3", "-c", serve])).log_path)
    until(log.read_text, lambda text: "up" in text, what="the server", seconds=PATIENCE, interval=0.002)
    asks = (
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(5)\n"
        "s.connect(('172.30.0.1', 8080))\ns.send(b'x')\nprint(s.recv(99).decode())"
    )
    options = {"network": node.api.NODE, "pid": node.api.CONTAINER}
    on_node = node.pod("asks-on-node", linux={"security_context": {"namespace_options": options}})
    assert node.run(on_node, ["/usr/bin/python3", "-c", asks]) == "datagram\n"
    assert node.run(node.pod("asks-datagrams"), ["/usr/bin/python3", "-c", asks]) == "datagram\n"


@pytest.mark.cluster
def test_an_address_that_is_none_is_refused_and_leaves_no_pod(node: Node) -> None:
    before = sorted((node.folder / "shm").iterdir())
    ports = [{"host_port": 8080, "container_port": 80, "host_ip": "::1; drop"}]
    with pytest.raises(grpc.RpcError) as caught:
        node.pod("refused-port", port_mappings=ports)
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "the pod asks for port 8080 of its node at hostIP '::1; drop'; an embedded cluster has only IPv4 addresses: "
        "give one, or leave hostIP out for the node's own",
    )
    assert sorted((node.folder / "shm").iterdir()) == before
