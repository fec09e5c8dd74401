"""Nodes that come and go, where that cannot be done: what is refused, and what the kernel or a node does not do."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from clusters.api import ClusterError, SpecError
from clusters.embedded import fleet
from clusters.embedded.fleet import Fleet
from clusters.wait import WaitTimeout


@pytest.mark.parametrize(
    ("lost", "notice", "seconds", "said"),
    [
        (False, None, -1.0, "asked for a spot notice of -1 s; it has 0 to 86400"),
        (False, None, 90000.0, "asked for a spot notice of 90000 s; it has 0 to 86400"),
        (True, None, 5.0, "the node 'a' is lost, so it can be told nothing; `gpulab node heal a` is first"),
        (False, object(), 5.0, "the node 'a' has a spot notice already; `gpulab node heal a` takes it back"),
    ],
)
def test_a_spot_notice_that_cannot_be_given(lost: bool, notice: object, seconds: float, said: str) -> None:
    nodes: Any = SimpleNamespace(_find=lambda name: SimpleNamespace(lost=lost, notice=notice))
    with pytest.raises(SpecError) as caught:
        Fleet._may_be_told(nodes, "a", seconds)
    assert str(caught.value) == said


def test_a_node_that_does_not_get_ready_is_told_with_its_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "until", Mock(side_effect=WaitTimeout("waited 60 s for the node 'a' to be Ready")))
    with pytest.raises(ClusterError) as caught:
        fleet._await_ready(Mock(), "a", datetime.now(UTC))
    assert str(caught.value) == (
        "waited 60 s for the node 'a' to be Ready; its logs are in the cluster's folder, in nodes/a"
    )


def test_a_lost_node_that_the_kernel_keeps_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "until", Mock(side_effect=WaitTimeout("waited 10 s")))
    with pytest.raises(ClusterError) as caught:
        fleet._await_end("a", [(1, 2)])
    assert str(caught.value) == "asked to lose the node 'a', but the kernel keeps some of it: waited 10 s"
