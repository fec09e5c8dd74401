"""What a drain says when it cannot be done, with a kubectl that only talks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from clusters.api import Cluster, ClusterError, SpecError
from clusters.drain import drain


@dataclass
class FakeCluster:
    """Where a cluster's programs and kubeconfig are."""

    programs: Path
    kubeconfig: Path


def cluster(tmp_path: Path, script: str) -> Cluster:
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return cast(Cluster, FakeCluster(tmp_path, tmp_path / "kubeconfig"))


def refused(tmp_path: Path, script: str, kind: type[ClusterError] = ClusterError) -> tuple[str, list[str]]:
    said: list[str] = []
    with pytest.raises(kind) as caught:
        drain(cluster(tmp_path, script), "a", seconds=30, progress=said.append)
    return str(caught.value), said


def test_a_drain_tells_what_is_evicted(tmp_path: Path) -> None:
    said: list[str] = []
    drain(cluster(tmp_path, 'echo "$@" > "$0.argv"; echo evicting pod x/y'), "a", seconds=30, progress=said.append)
    assert said == ["evicting pod x/y"]
    argv = (tmp_path / "kubectl.argv").read_text()
    assert argv == (
        f"--kubeconfig={tmp_path}/kubeconfig drain a --ignore-daemonsets --delete-emptydir-data --timeout=30s\n"
    )


def test_a_budget_is_named_with_the_pods_that_it_holds(tmp_path: Path) -> None:
    line = (
        'error when evicting pods/"y" -n "x" (will retry after 5s): Cannot evict pod as it would violate the '
        "pod\\'s disruption budget."
    ).replace("\\'", "'")
    assert refused(tmp_path, f"cat <<'EOF'\n{line}\nEOF\nexit 1") == (
        "asked to drain the node 'a' within 30 s, but a PodDisruptionBudget holds back the eviction of x/y; the node "
        "stays cordoned; let more replicas run elsewhere, change the budget, or give it longer",
        ["waiting for the budget that holds x/y"],
    )


def test_other_trouble_is_told_in_kubectls_words(tmp_path: Path) -> None:
    text = "error: cannot delete Pods that declare no controller (use --force to override): default/x"
    assert refused(tmp_path, f"echo '{text}'; exit 1") == (
        f"asked to drain the node 'a' within 30 s, but kubectl could not: {text}",
        [],
    )


def test_a_node_that_is_not_there_is_the_callers_mistake(tmp_path: Path) -> None:
    text = 'Error from server (NotFound): nodes "a" not found'
    assert refused(tmp_path, f"echo '{text}'; exit 1", SpecError) == (
        "asked to drain the node 'a', which is not there; `gpulab kubectl get nodes` lists them",
        [],
    )


def test_no_time_is_refused() -> None:
    nothing: Any = None
    with pytest.raises(SpecError) as caught:
        drain(nothing, "a", seconds=0, progress=nothing)
    assert str(caught.value) == "asked to drain the node 'a' within 0 s; give it more than 0"
