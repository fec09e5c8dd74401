"""A cluster with GPUs of every kind: partitions, shared ones, failing ones."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from clusters.api import ElasticNodes, SimulatedGpus
from clusters.embedded.backend import EmbeddedCluster
from clusters.process import CommandFailed, run
from graders.gpu_recorder import GpuRecorder
from graders.gpu_telemetry import Look, decode
from graders.html.devices import devices_of
from graders.record import Record
from tests.conftest import Kubectl, Launcher
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster

SPEC = """
nodes:
  - name: plain
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
    assert isinstance(cluster, SimulatedGpus)
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


def telemetry(cluster: EmbeddedCluster, kubectl: Kubectl, node: str, pod: str) -> dict[str, dict[str, float]]:
    """The values of each metric of the devices that a pod holds, by device id, as a scraper in the cluster sees."""
    lines = run(cluster.enter([sys.executable, "-c", scrape(kubectl, node)]), seconds=PATIENCE).splitlines()
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        if f'pod="{pod}"' in line:
            assert 'namespace="default"' in line
            assert 'container="main"' in line
            assert 'simulated="true"' in line
            name, labels, value = re.fullmatch(r"(\w+){(.*)} (.*)", line).groups()  # type: ignore[union-attr]
            key = re.search(r'GPU_I_ID="(\d+)"', labels) or re.search(r'UUID="([^"]+)"', labels)
            assert key
            found.setdefault(key[1], {})[name] = float(value)
    return found


def scrape(kubectl: Kubectl, node: str) -> str:
    """A Python program that prints a node's telemetry."""
    addresses = kubectl.get("node", node)["status"]["addresses"]
    address = next(each["address"] for each in addresses if each["type"] == "InternalIP")
    return f"import urllib.request as u; print(u.urlopen('http://{address}:9400/metrics', timeout=10).read().decode())"


@pytest.mark.alone
def test_telemetry_follows_the_work_of_who_holds_a_device(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=pod("works", "whole", "nvidia.com/gpu", command="while :; do :; done"))
    kubectl("apply", "-f", "-", stdin=pod("rests", "whole", "nvidia.com/gpu"))
    (working,), (resting,) = devices(kubectl, "works"), devices(kubectl, "rests")
    busy = kubectl.wait_for(
        lambda: telemetry(cluster, kubectl, "whole", "works").get(working, {}),
        lambda found: found.get("DCGM_FI_DEV_GPU_UTIL", 0) > 20 and found["DCGM_FI_PROF_SM_ACTIVE"] > 0.1,
        "the device of the busy pod to work",
    )
    idle = telemetry(cluster, kubectl, "whole", "rests")[resting]
    assert idle["DCGM_FI_DEV_GPU_UTIL"] < 10
    assert busy["DCGM_FI_DEV_POWER_USAGE"] > idle["DCGM_FI_DEV_POWER_USAGE"] > 0
    assert busy["DCGM_FI_DEV_SM_CLOCK"] > idle["DCGM_FI_DEV_SM_CLOCK"]
    assert idle["DCGM_FI_DEV_FB_USED"] + idle["DCGM_FI_DEV_FB_FREE"] == pytest.approx(46068, abs=1)
    kubectl("delete", "pod", "works", "rests", "--wait=false")
    kubectl.wait_for(
        lambda: telemetry(cluster, kubectl, "whole", "works"), lambda found: not found, "the free device to name nobody"
    )


def test_an_error_is_shown_with_the_pod_that_it_hits_and_a_lost_gpu_shows_nothing_else(
    cluster: EmbeddedCluster, kubectl: Kubectl
) -> None:
    kubectl("apply", "-f", "-", stdin=pod("hit", "mig", "nvidia.com/mig-1g.10gb"))
    assert len(devices(kubectl, "hit")) == 1
    cluster.fail_gpu("mig", 0, 31)
    (found,) = kubectl.wait_for(
        lambda: list(telemetry(cluster, kubectl, "mig", "hit").values()),
        lambda found: any(each["DCGM_FI_DEV_XID_ERRORS"] == 31 for each in found),
        "the error to be shown",
    )
    assert found["DCGM_EXP_XID_ERRORS_COUNT"] == 1
    assert "DCGM_FI_PROF_GR_ENGINE_ACTIVE" in found
    assert "DCGM_FI_DEV_GPU_UTIL" not in found  # not there for partitions
    cluster.fail_gpu("mig", 0, 79)
    kubectl.wait_for(
        lambda: list(telemetry(cluster, kubectl, "mig", "hit").values()),
        lambda found: [set(each) for each in found] == [{"DCGM_FI_DEV_XID_ERRORS", "DCGM_EXP_XID_ERRORS_COUNT"}],
        "the lost GPU to show its errors only",
    )
    cluster.heal_gpu("mig", 0)
    kubectl("delete", "pod", "hit", "--wait=false")


def test_a_pod_can_scrape_as_prometheus_does(kubectl: Kubectl) -> None:
    text = json.loads(pod("scrapes", "plain", "cpu", command="true"))
    text["spec"]["containers"][0]["command"] = ["python3", "-c", scrape(kubectl, "whole")]
    kubectl("apply", "-f", "-", stdin=json.dumps(text))
    kubectl.phase("scrapes", "Succeeded")
    assert 'DCGM_FI_DEV_POWER_USAGE{gpu="0",' in kubectl("logs", "scrapes")
    kubectl("delete", "pod", "scrapes", "--wait=false")


def test_nodes_without_gpus_serve_no_telemetry(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    address = kubectl.get("node", "plain")["status"]["addresses"][0]["address"]
    code = f"import socket; socket.create_connection(('{address}', 9400), 5)"
    with pytest.raises(CommandFailed) as caught:
        run(cluster.enter([sys.executable, "-c", code]), seconds=PATIENCE)
    assert "ConnectionRefusedError" in str(caught.value)


def test_a_run_records_who_held_which_device_and_a_node_that_is_lost_as_a_gap(
    cluster: EmbeddedCluster, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl("apply", "-f", "-", stdin=pod("recorded", "whole", "nvidia.com/gpu"))
    (held,) = devices(kubectl, "recorded")
    record = Record(tmp_path / "run")

    def looks(node: str) -> list[Look]:
        file = record.folder / "evidence/gpus.jsonl"
        return [look for look in decode(file.read_bytes()) if look.node == node] if file.is_file() else []

    assert isinstance(cluster, ElasticNodes)
    settings = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    settings.retries = False
    with (
        kubernetes.client.ApiClient(settings) as client,
        GpuRecorder(kubernetes.client.CoreV1Api(client), record, every=0.2),
    ):
        kubectl.wait_for(
            lambda: [gpu.held_by for look in looks("whole") for gpu in look.gpus if gpu.uuid == held],
            lambda found: ("default/recorded",) in found,
            "the recorder to see who holds the device",
        )
        kubectl.wait_for(lambda: looks("mig"), bool, "the partitions to be seen")
        cluster.lose("shared")
        kubectl.wait_for(lambda: looks("shared"), lambda found: found[-1].failure, "the lost node to be a gap")
        cluster.heal("shared")
        kubectl.wait_for(lambda: looks("shared"), lambda found: found[-1].gpus, "the node to be back")
    record.seal()
    found = devices_of(decode((record.folder / "evidence/gpus.jsonl").read_bytes()))
    assert [(each.node, each.gpu, each.simulated) for each in found] == [
        ("mig", "0", True),
        ("mig", "0", True),
        ("mig", "0", True),
        ("shared", "0", True),
        ("whole", "0", True),
        ("whole", "1", True),
    ]
    (gap,) = [each.gaps for each in found if each.node == "shared"]
    # A node that was just lost swallows what it is asked; once that is noticed, the API server says so at once.
    said = ("nothing came within 2 s", "503 Service Unavailable")
    assert gap[0].what in [f"its exporter did not answer: {words}" for words in said]
    (holder,) = [each.held for each in found if each.uuid == held]
    assert [span.what for span in holder] == ["default/recorded"]
    kubectl("delete", "pod", "recorded", "--wait=false")
