"""A cluster with GPUs of every kind: partitions, shared ones, failing ones."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from clusters.embedded.backend import EmbeddedCluster
from tests.conftest import Kubectl, Launcher

pytestmark = pytest.mark.cluster

SPEC = """
nodes:
  - name: mig
    gpus: {model: NVIDIA-H100-80GB-HBM3, count: 1, mig: {profile: 1g.10gb, count: 3}, source: simulated}
  - name: shared
    gpus: {model: NVIDIA-L4, count: 1, replicas: 3, source: simulated}
  - name: whole
    gpus: {model: NVIDIA-L40S, count: 2, source: simulated}
"""


@pytest.fixture(scope="module")
def cluster(launcher: Launcher) -> Iterator[EmbeddedCluster]:
    running = launcher.start("gpus", text=SPEC)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def kubectl(cluster: EmbeddedCluster) -> Kubectl:
    return Kubectl(cluster)


def pod(name: str, node: str, resource: str, count: int = 1, command: str = "sleep 600") -> str:
    container = {
        "name": "main",
        "image": "python:3.12",
        "command": ["sh", "-c", f"echo $NVIDIA_VISIBLE_DEVICES; {command}"],
        "resources": {"limits": {resource: str(count)}},
    }
    spec: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def devices(kubectl: Kubectl, name: str) -> list[str]:
    """What the pod sees in NVIDIA_VISIBLE_DEVICES."""
    kubectl.phase(name, "Running")
    said = kubectl.wait_for(lambda: kubectl("logs", name).strip(), bool, f"{name} to tell its devices")
    return str(said).split(",")


def offered(kubectl: Kubectl, node: str, resource: str) -> tuple[str, str]:
    status = kubectl.get("node", node)["status"]
    return status["capacity"][resource], status["allocatable"][resource]


def test_partitions_are_given_to_one_pod_each(kubectl: Kubectl) -> None:
    resource = "nvidia.com/mig-1g.10gb"
    assert offered(kubectl, "mig", resource) == ("3", "3")
    assert "nvidia.com/gpu" not in kubectl.get("node", "mig")["status"]["capacity"]
    for name in ("part-0", "part-1"):
        kubectl("apply", "-f", "-", stdin=pod(name, "mig", resource))
    given = [devices(kubectl, name) for name in ("part-0", "part-1")]
    assert len({each for (each,) in given}) == 2
    assert all(each.startswith("MIG-") for (each,) in given)
    kubectl("apply", "-f", "-", stdin=pod("part-2", "mig", resource, 2))
    waits = kubectl.wait_for(
        lambda: kubectl.get("pod", "part-2")["status"].get("conditions"), bool, "the scheduler to look at part-2"
    )
    assert "Insufficient nvidia.com/mig-1g.10gb" in waits[0]["message"]
    kubectl("delete", "pods", "part-0", "part-1", "part-2", "--wait=false")


def test_a_shared_gpu_is_given_to_several_pods(kubectl: Kubectl) -> None:
    assert offered(kubectl, "shared", "nvidia.com/gpu") == ("3", "3")
    names = ["shares-0", "shares-1", "shares-2"]
    for name in names:
        kubectl("apply", "-f", "-", stdin=pod(name, "shared", "nvidia.com/gpu"))
    given = {tuple(devices(kubectl, name)) for name in names}
    assert len(given) == 1
    kubectl("delete", "pods", *names, "--wait=false")


def test_a_failing_gpu_is_taken_out_and_comes_back(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=pod("holds", "whole", "nvidia.com/gpu", 2))
    assert len(devices(kubectl, "holds")) == 2
    cluster.fail_gpu("whole", 1, 31)  # a program's error, which changes nothing
    cluster.fail_gpu("whole", 1, 79)
    kubectl.wait_for(
        lambda: offered(kubectl, "whole", "nvidia.com/gpu"), lambda found: found == ("2", "1"), "one GPU to be left"
    )
    assert health(kubectl, "holds", "Unhealthy") == ["Healthy", "Unhealthy"]
    assert kubectl.get("pod", "holds")["status"]["phase"] == "Running"  # the kubelet leaves it alone
    cluster.heal_gpu("whole", 1)
    kubectl.wait_for(
        lambda: offered(kubectl, "whole", "nvidia.com/gpu"), lambda found: found == ("2", "2"), "both GPUs to be back"
    )
    kubectl.wait_for(lambda: health(kubectl, "holds", "Healthy"), lambda found: set(found) == {"Healthy"}, "health")
    kubectl("delete", "pod", "holds", "--wait=false")


def health(kubectl: Kubectl, name: str, wanted: str) -> list[str]:
    """The health of a pod's devices, by pod status, once one is as wanted."""

    def look() -> list[str]:
        status = kubectl.get("pod", name)["status"]["containerStatuses"][0]
        resources = status.get("allocatedResourcesStatus", [{"resources": []}])[0]["resources"]
        return sorted(each["health"] for each in resources)

    return list(kubectl.wait_for(look, lambda found: wanted in found, f"a device of {name} to be {wanted}"))
