"""`gpulab node`: what each command asks of the cluster and says then, on a cluster that only listens."""

from typing import Any

import pytest

import gpulab
from clusters import backends
from clusters.api import NodeSpec, Taint


class Listening:
    """Stands in for a cluster whose nodes come and go."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def add_node(self, node: NodeSpec) -> None:
        self.heard.append(("add", node))

    def drain(self, node: str, *, seconds: float, progress: object) -> None:
        self.heard.append(("drain", node, seconds))

    def lose(self, node: str) -> None:
        self.heard.append(("lose", node))

    def spot_notice(self, node: str, seconds: float) -> None:
        self.heard.append(("spot notice", node, seconds))

    def heal(self, node: str) -> None:
        self.heard.append(("heal", node))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Listening:
    listening = Listening()
    monkeypatch.setattr(backends, "find", lambda *_: listening)
    return listening


SPOT = NodeSpec("a", {"kind": "late"}, (Taint("gpu", "NoSchedule", "yes"),), capacity_type="spot")


@pytest.mark.parametrize(
    ("words", "heard", "said"),
    [
        ("add a", ("add", NodeSpec("a")), "The node 'a' is Ready.\n"),
        ("add a --label kind=late --taint gpu=yes:NoSchedule --spot", ("add", SPOT), "The node 'a' is Ready.\n"),
        (
            "drain a",
            ("drain", "a", 60),
            "The node 'a' is drained; `gpulab node heal a` takes the cordon away.\n",
        ),
        (
            "drain a --timeout 1.5",
            ("drain", "a", 1.5),
            "The node 'a' is drained; `gpulab node heal a` takes the cordon away.\n",
        ),
        ("lose a", ("lose", "a"), "The node 'a' is lost; `gpulab node heal a` brings it back.\n"),
        ("spot-notice a", ("spot notice", "a", 120), "The node 'a' has its notice and is lost in 120 s.\n"),
        (
            "spot-notice a --seconds 2.5",
            ("spot notice", "a", 2.5),
            "The node 'a' has its notice and is lost in 2.5 s.\n",
        ),
        ("heal a", ("heal", "a"), "The node 'a' is Ready.\n"),
    ],
)
def test_it_does_what_was_asked_and_says_so(
    cluster: Listening, capsys: pytest.CaptureFixture[str], words: str, heard: tuple[Any, ...], said: str
) -> None:
    assert gpulab.main(["node", *words.split()]) == 0
    assert (cluster.heard, capsys.readouterr().out) == ([heard], said)


def test_a_wrong_label_is_told_whether_or_not_a_cluster_runs(
    cluster: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpulab.main(["node", "add", "a", "--label", "kind"]) == 2
    assert cluster.heard == []
    assert capsys.readouterr().err.startswith("gpulab: ")
