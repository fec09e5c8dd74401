"""Clusters that start at the same time, again and again, or with too few processes: nothing is left of them."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clusters.api import ClusterSpec, NodeSpec
from clusters.embedded import backend
from clusters.embedded.backend import EmbeddedCluster
from clusters.process import CommandFailed, run
from clusters.wait import until
from tests.conftest import Kubectl, Launcher, processes_with, silent
from tests.patience import PATIENCE

pytestmark = [pytest.mark.cluster, pytest.mark.alone]
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
    said = run([sys.executable, "-m", "benchmarks.up_down", "--runs", "3"], env=os.environ, cwd=ROOT, seconds=240)
    assert said.splitlines()[-1] == "left behind: nothing"


@pytest.fixture
def crowded() -> Iterator[Path]:
    """A cgroup in which there may be 60 processes and threads."""
    group = Path(f"/sys/fs/cgroup/pids/gpulab-test-{os.getpid()}")
    if not os.access(group.parent, os.W_OK):
        pytest.skip("needs a version 1 cgroup for pids that this user may write")
    group.mkdir()
    (group / "pids.max").write_text("60")
    yield group
    until(lambda: (group / "tasks").read_text(), lambda left: not left, what="the last process to go", seconds=PATIENCE)
    group.rmdir()


def test_a_machine_without_processes_left_says_so_and_the_next_start_is_well(
    crowded: Path, programs: Path, tmp_path: Path
) -> None:
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    gpulab = str(Path(sys.executable).with_name("gpulab"))
    inside = ["sh", "-c", f'echo 0 > {crowded}/cgroup.procs && exec "$@"', "sh", gpulab]
    with pytest.raises(CommandFailed) as caught:
        run([*inside, "up"], env=env, seconds=PATIENCE)
    assert "gpulab: the cluster did not start" in caught.value.output
    assert "the machine allows no more processes (ulimit -u, or pids.max of the control group)" in caught.value.output
    assert processes_with(f"{tmp_path}/") == []
    (crowded / "pids.max").write_text("max")
    run([*inside, "up"], env=env, seconds=PATIENCE)
    run([gpulab, "down"], env=env, seconds=PATIENCE)
