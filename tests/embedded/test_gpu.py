"""Simulated devices and the labels of their node."""

import re

import pytest

from clusters.api import SpecError
from clusters.embedded import gpu


def test_devices_have_ids_of_their_own_that_repeat() -> None:
    first, again, other = (
        gpu.devices("a", "NVIDIA-L4", 2),
        gpu.devices("a", "NVIDIA-L4", 2),
        gpu.devices("b", "NVIDIA-L4", 1),
    )
    assert first == again
    ids = {device.id for device in (*first, *other)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in ids)
    assert (first[0].memory_mib, first[0].simulated) == (23034, True)


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(SpecError) as caught:
        gpu.devices("a", "GTX-1080", 1)
    assert str(caught.value) == (
        "node 'a' asks for GPUs of the model 'GTX-1080', which is not known; known are: Tesla-T4, "
        "Tesla-V100-SXM2-16GB, NVIDIA-A10G, NVIDIA-L4, NVIDIA-L40S, NVIDIA-A100-SXM4-40GB, NVIDIA-A100-SXM4-80GB, "
        "NVIDIA-H100-80GB-HBM3, NVIDIA-H200, NVIDIA-B200"
    )


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_device_is_refused(count: int) -> None:
    with pytest.raises(SpecError) as caught:
        gpu.devices("a", "NVIDIA-L4", count)
    assert str(caught.value) == f"node 'a' asks for {count} GPUs; ask for at least 1, or leave `gpus` out"


def test_labels_are_those_of_gpu_feature_discovery_and_say_simulated() -> None:
    assert gpu.node_labels(gpu.devices("a", "NVIDIA-H100-80GB-HBM3", 4)) == {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.family": "hopper",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mps.capable": "false",
        "nvidia.com/vgpu.present": "false",
        "gpulab/simulated": "true",
    }


def test_a_real_device_is_not_marked_simulated_and_unknown_facts_are_left_out() -> None:
    labels = gpu.node_labels([gpu.Device("GPU-1", "NVIDIA-NEWEST", 1000, simulated=False)])
    assert "gpulab/simulated" not in labels
    assert "nvidia.com/gpu.family" not in labels


def test_a_node_without_devices_has_no_labels() -> None:
    assert gpu.node_labels(()) == {}


def test_labels_are_valid_in_kubernetes() -> None:
    value = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
    for model in gpu.MODELS:
        assert all(value.fullmatch(each) for each in gpu.node_labels(gpu.devices("a", model, 1)).values())
