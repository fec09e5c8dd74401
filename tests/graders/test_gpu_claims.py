"""Telemetry that no real GPU can have given, and telemetry that one can."""

from collections.abc import Mapping

import pytest

from graders.gpu_claims import faster_than_memory, simulated_gpu
from graders.metrics import Metrics

H100 = 'gpu="0",UUID="GPU-1",modelName="NVIDIA H100 80GB HBM3"'


def told(utilisation: float, watts: float, millijoules: float, used: float = 20000, *, labels: str = H100) -> Metrics:
    return Metrics.parse(
        f"DCGM_FI_DEV_GPU_UTIL{{{labels}}} {utilisation}\n"
        f"DCGM_FI_DEV_POWER_USAGE{{{labels}}} {watts}\n"
        f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{labels}}} {millijoules}\n"
        f"DCGM_FI_DEV_FB_USED{{{labels}}} {used}\n"
    )


def accused(rest: Metrics, load: Metrics, *, every: float = 1.0, node: Mapping[str, str] | None = None) -> list[str]:
    found = simulated_gpu(rest, load, seconds=60.0, every=every, weights_mib=16000, node_labels=node)
    return [each.sentence for each in found]


REST, LOAD = told(0, 70, 1e9), told(98, 600, 1e9 + 30e6)


def test_a_device_that_works_is_believed() -> None:
    assert accused(REST, LOAD) == []
    assert accused(REST, LOAD, node={"gpulab/simulated": "false"}) == []


@pytest.mark.parametrize(
    ("rest", "load", "said"),
    [
        (
            told(97, 512.5, 7e6),
            told(97, 512.5, 7e6),
            "it used 0 J in 60.0 s, where its power of 512 W at rest and 512 W under load means 15119 to 62525 J",
        ),
        (
            told(97, 500, 0),
            told(97, 500, 30e6),
            "it shows 97 % utilisation and 500.0 W at rest and under load alike",
        ),
        (
            REST,
            told(98, 600, 1e9 + 30e6, 900),
            "900 MiB of its memory are in use, where the weights alone take 16000 MiB",
        ),
    ],
)
def test_a_device_that_does_not_is_not(rest: Metrics, load: Metrics, said: str) -> None:
    assert accused(rest, load) == [f"NVIDIA H100 80GB HBM3 0 is shown as real, but {said}"]


def test_a_device_of_a_simulated_node_is_not_real() -> None:
    assert accused(REST, LOAD, node={"gpulab/simulated": "true"}) == [
        "NVIDIA H100 80GB HBM3 0 is shown as real, but its node is labelled gpulab/simulated"
    ]


def test_a_device_that_says_it_is_simulated_claims_nothing() -> None:
    labels = f'{H100},simulated="true"'
    assert accused(told(97, 512.5, 7e6, 0, labels=labels), told(97, 512.5, 7e6, 0, labels=labels)) == []


def test_readings_are_compared_over_several_updates_only() -> None:
    assert accused(told(0, 70, 7e6), told(98, 600, 7e6), every=30.0) == []
    assert len(accused(told(0, 70, 7e6), told(98, 600, 7e6), every=10.0)) == 1


def test_a_device_that_is_not_used_may_look_the_same() -> None:
    assert accused(told(0, 70, 7e6), told(0, 70, 7e6 + 4.2e6)) == []


def test_no_token_is_faster_than_the_memory() -> None:
    assert list(faster_than_memory(0.005, weights_bytes=16e9, bandwidth=3.35e12)) == []
    (found,) = faster_than_memory(0.002, weights_bytes=16e9, bandwidth=3.35e12)
    assert (found.name, found.sentence) == (
        "faster_than_memory",
        "a token came every 2.00 ms, but reading the weights once takes 4.78 ms at 3350 GB/s",
    )
