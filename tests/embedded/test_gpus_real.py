"""A cluster on a machine with a GPU: a container computes on it, and telemetry shows it. `pytest -m gpu` runs these."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from clusters.embedded.backend import EmbeddedCluster
from clusters.embedded.gpu.devices import Device
from clusters.process import run
from tests.conftest import Kubectl, Launcher
from tests.patience import PATIENCE

pytestmark = [pytest.mark.cluster, pytest.mark.gpu]

SPEC = """
nodes:
  - name: real
    gpus: {model: NVIDIA-L4, count: 1, source: real}
  - name: unreal
    gpus: {model: NVIDIA-L4, count: 1, source: simulated}
"""

# A context, a GiB of memory that is written over and over, and no library but the driver's own.
PROGRAM = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    assert status == 0, f"{name} answers {status}"
call("cuInit", 0)
count = ctypes.c_int()
call("cuDeviceGetCount", ctypes.byref(count))
device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
call("cuDeviceGet", ctypes.byref(device), 0)
uuid = (ctypes.c_ubyte * 16)()
call("cuDeviceGetUuid", uuid, device)
call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(1 << 30))
print(count.value, bytes(uuid).hex(), flush=True)
while True:
    call("cuMemsetD8_v2", memory, 1, ctypes.c_size_t(1 << 30))
    call("cuCtxSynchronize")
"""


@pytest.fixture(scope="module")
def cluster(real_gpus: tuple[Device, ...], launcher: Launcher) -> Iterator[EmbeddedCluster]:
    if not any(device.partition is None for device in real_gpus):
        pytest.skip("MIG is on for every GPU of this machine, and these tests ask for a whole one")
    running = launcher.start("gpus-real", text=SPEC)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def kubectl(cluster: EmbeddedCluster) -> Kubectl:
    return Kubectl(cluster)


def metrics(cluster: EmbeddedCluster, kubectl: Kubectl, node: str) -> list[str]:
    address = kubectl.get("node", node)["status"]["addresses"][0]["address"]
    code = f"import urllib.request as u; print(u.urlopen('http://{address}:9400/metrics', timeout=10).read().decode())"
    lines = run(cluster.enter([sys.executable, "-c", code]), seconds=PATIENCE).splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_the_real_gpu_is_used_first_and_its_node_says_so(
    real_gpus: tuple[Device, ...], cluster: EmbeddedCluster, kubectl: Kubectl
) -> None:
    labels = {node["metadata"]["name"]: node["metadata"]["labels"] for node in kubectl.get("nodes")}
    first = next(device for device in real_gpus if device.partition is None)
    assert labels["real"]["nvidia.com/gpu.product"] == first.product
    assert "gpulab/simulated" not in labels["real"]
    assert labels["unreal"]["gpulab/simulated"] == "true"
    assert cluster.traits.gpus == "simulated"  # as long as any is


def test_a_container_computes_on_its_gpu_and_telemetry_names_it(
    real_gpus: tuple[Device, ...], cluster: EmbeddedCluster, kubectl: Kubectl
) -> None:
    container: dict[str, Any] = {
        "name": "main",
        "image": "python:3.12",
        "command": ["python3", "-c", PROGRAM],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    spec = {"containers": [container], "nodeSelector": {"kubernetes.io/hostname": "real"}, "restartPolicy": "Never"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "computes"}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    kubectl.phase("computes", "Running")
    count, uuid = kubectl.wait_for(lambda: kubectl("logs", "computes").split(), bool, "the program to begin")
    assert count == "1"  # whatever the machine has, it sees its own
    assert uuid in {device.id.removeprefix("GPU-").replace("-", "") for device in real_gpus}

    def used() -> list[float]:
        lines = metrics(cluster, kubectl, "real")
        mine = [line for line in lines if line.startswith("DCGM_FI_DEV_FB_USED{") and 'pod="computes"' in line]
        return [float(line.rpartition(" ")[2]) for line in mine]

    kubectl.wait_for(used, lambda found: bool(found) and found[0] >= 1024, "the memory of the program to be seen")
    busy = [line for line in metrics(cluster, kubectl, "real") if line.startswith("DCGM_FI_DEV_GPU_UTIL{")]
    assert all("simulated" not in line for line in busy)
    assert float(busy[0].rpartition(" ")[2]) > 0
    kubectl("delete", "pod", "computes")


def test_a_container_without_a_gpu_reaches_none(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    container = {"name": "main", "image": "python:3.12", "command": ["sh", "-c", "ls /dev | grep nvidia; true"]}
    spec = {"containers": [container], "nodeSelector": {"kubernetes.io/hostname": "real"}, "restartPolicy": "Never"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "without"}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    kubectl.phase("without", "Succeeded")
    assert kubectl("logs", "without") == ""
    kubectl("delete", "pod", "without")
