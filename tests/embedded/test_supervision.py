"""Any process of a cluster is killed, and the cluster goes on; on a cluster of this module's own."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.embedded.backend import EmbeddedCluster
from clusters.process import CommandFailed, descendants
from clusters.wait import until
from tests.conftest import Kubectl, Launcher, command_of
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster
ONE_NODE = "nodes: [{name: only, gpus: {model: NVIDIA-L4, count: 1, source: simulated}}]"
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: lasting}
spec:
  containers:
    - {name: main, image: busybox, command: [sleep, "600"]}
"""
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "coredns",
    "volume-provisioner",
    "metrics-server",
)


@pytest.fixture(scope="module")
def cluster(launcher: Launcher) -> Iterator[EmbeddedCluster]:
    cluster = launcher.start("mended", text=ONE_NODE)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def kubectl(cluster: EmbeddedCluster) -> Kubectl:
    kubectl = Kubectl(cluster)
    kubectl("create", "-f", "-", stdin=PODS)
    kubectl.phase("lasting", "Running")
    return kubectl


def running(cluster: EmbeddedCluster, name: str) -> list[int]:
    """Process ids of a component of the cluster."""
    found = []
    for pid in descendants(cluster.holder):
        words = command_of(pid).split(b"\0")
        if Path(words[0].decode()).name == name or name.encode() in words:
            found.append(pid)
    return found


def one(cluster: EmbeddedCluster, name: str) -> int:
    (pid,) = until(
        lambda: running(cluster, name), lambda found: len(found) == 1, what=f"{name} to run", seconds=PATIENCE
    )
    return pid


def kill(cluster: EmbeddedCluster, name: str) -> None:
    """Kills a component and waits until another runs in its place."""
    before = one(cluster, name)
    os.kill(before, signal.SIGKILL)
    until(
        lambda: running(cluster, name),
        lambda now: bool(now) and before not in now,
        what=f"{name} to return",
        seconds=PATIENCE,
    )


def answers(kubectl: Kubectl) -> str:
    try:
        return kubectl("get", "--raw", "/readyz")
    except CommandFailed as error:
        return str(error)


def test_every_program_of_the_control_plane_is_started_again(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    for name in COMPONENTS:
        kill(cluster, name)
    until(lambda: answers(kubectl), lambda said: said == "ok", what="the API server to be ready", seconds=PATIENCE)
    kubectl("create", "deployment", "after", "--image=busybox", "--", "sleep", "600")
    kubectl("rollout", "status", "deployment/after", f"--timeout={PATIENCE:g}s")
    # metrics-server ends by itself, and is started once more, where it is back before the API server answers.
    assert [each.name for each in cluster.restarts() if each.status == -signal.SIGKILL] == list(COMPONENTS)
    cluster.check()


def test_pods_live_on_while_their_kubelet_is_killed(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    before = kubectl.get("pod", "lasting")["status"]["containerStatuses"][0]
    kill(cluster, "kubelet")
    kubectl("create", "deployment", "then", "--image=busybox", "--", "sleep", "600")
    kubectl("rollout", "status", "deployment/then", f"--timeout={PATIENCE:g}s")
    assert kubectl.get("pod", "lasting")["status"]["containerStatuses"][0]["containerID"] == before["containerID"]
    assert cluster.restarts()[-1].name == "kubelet of node only"


def test_a_killed_runtime_takes_its_containers_along_and_the_kubelet_starts_them_again(
    cluster: EmbeddedCluster, kubectl: Kubectl
) -> None:
    before = kubectl.get("pod", "lasting")["status"]["containerStatuses"][0]
    kill(cluster, "clusters.embedded.node")
    kubectl.wait_for(
        lambda: kubectl.get("pod", "lasting")["status"]["containerStatuses"][0],
        lambda now: now["restartCount"] > before["restartCount"] and "running" in now["state"],
        "the container to be started again",
    )
    assert cluster.restarts()[-1].name == "node only"
    gpus = kubectl.get("node", "only")["status"]["allocatable"]
    kubectl.wait_for(
        lambda: kubectl.get("node", "only")["status"]["allocatable"],
        lambda now: now["nvidia.com/gpu"] == "1",
        f"the GPU to be offered again, not {gpus}",
    )
