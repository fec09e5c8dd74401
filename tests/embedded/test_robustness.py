"""Clusters that start at the same time, and again and again: they do not meet, and nothing is left of them."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clusters.api import ClusterSpec, NodeSpec
from clusters.embedded import backend
from clusters.embedded.backend import EmbeddedCluster
from clusters.process import run
from tests.conftest import Kubectl, Launcher, silent

pytestmark = pytest.mark.cluster
ONE_NODE = ClusterSpec(nodes=(NodeSpec("only"),))
ROOT = Path(__file__).parents[2]


def test_clusters_that_start_at_once_are_wholly_apart(launcher: Launcher) -> None:
    def start(name: str) -> EmbeddedCluster:
        # Detached, as it would otherwise end with the thread.
        return backend.start(
            name,
            ONE_NODE,
            programs=launcher.programs,
            images=launcher.images,
            env=launcher.env,
            progress=silent,
            detached=True,
        )

    with ThreadPoolExecutor() as pool:
        clusters = list(pool.map(start, ("left", "right")))
    try:
        left, right = map(Kubectl, clusters)
        assert left("config", "view", "-o", "jsonpath={..server}") != right(
            "config", "view", "-o", "jsonpath={..server}"
        )
        left("create", "configmap", "mine")
        assert "mine" not in right("get", "configmaps", "-o", "name")
        clusters[0].lose("only")
        clusters[1].check()
        assert right("get", "--raw", "/readyz") == "ok"
    finally:
        for cluster in clusters:
            cluster.stop()


def test_nothing_is_left_of_clusters_that_come_and_go(machine: None, programs: Path) -> None:
    said = run([sys.executable, "-m", "benchmarks.up_down", "--runs", "4"], env=os.environ, cwd=ROOT, seconds=240)
    assert said.splitlines()[-1] == "left behind: nothing"
