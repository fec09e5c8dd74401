"""Pod addresses and the commands that make a pod's network."""

import pytest

from clusters.embedded.runtime.errors import Exhausted
from clusters.embedded.runtime.network import Addresses, node_side, pod_side


def test_the_lowest_free_address_is_taken() -> None:
    addresses = Addresses("10.244.1.0/24")
    assert [addresses.take() for _ in range(3)] == ["10.244.1.2", "10.244.1.3", "10.244.1.4"]
    for _ in range(2):
        addresses.give_back("10.244.1.3")
    assert [addresses.take() for _ in range(2)] == ["10.244.1.3", "10.244.1.5"]


def test_a_full_network_says_what_to_do() -> None:
    addresses = Addresses("10.0.0.0/29")
    taken = [addresses.take() for _ in range(5)]
    with pytest.raises(Exhausted) as caught:
        addresses.take()
    assert taken[-1] == "10.0.0.6"
    assert str(caught.value) == (
        "all 5 pod addresses of this node (10.0.0.0/29) are in use; delete pods or add a node to cluster.yaml"
    )


def test_the_commands_of_both_sides() -> None:
    assert node_side("0123456789abcdef", "10.244.1.2", 42).splitlines() == [
        "link add veth0123456789a address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns 42",
        "link set veth0123456789a up",
        "route add 10.244.1.2/32 dev veth0123456789a",
    ]
    assert pod_side("10.244.1.2").splitlines() == [
        "link set lo up",
        "address add 10.244.1.2/32 dev eth0",
        "link set eth0 up",
        "neighbour add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent",
        "route add 169.254.1.1 dev eth0 scope link",
        "route add default via 169.254.1.1",
    ]
