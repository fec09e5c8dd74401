"""What lab 02 does where GPUs compute, without any: where trainings run, and what is made of them."""

import json
import random
from types import SimpleNamespace
from typing import Any

import pytest

import ddp_spec
from ddp_lab.bench import Bench
from ddp_lab.runs import RunSpec, proof
from tests.labs.facts_02_ddp import LAB


class Kept:
    """A record that holds what it is given."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.facts: list[dict[str, Any]] = []

    def write(self, kind: str, **more: Any) -> None:
        self.facts.append({"kind": kind, **more})

    def keep(self, name: str, content: bytes) -> None:
        self.files[name] = content


def bench_at(level: str, gpus: str) -> tuple[Bench, list[dict[str, Any]], Kept]:
    """A bench of a cluster of that level with such GPUs, the runs that it makes, and its record."""
    runs: list[dict[str, Any]] = []
    nothing: Any = SimpleNamespace(namespace="none", install=lambda *_: None)
    cluster: Any = SimpleNamespace(traits=SimpleNamespace(level=level, gpus=gpus))
    record: Any = Kept()
    values: dict[str, dict[str, Any]] = {"submission": {}, "lab": {}}
    bench = Bench(nothing, nothing, cluster, record, LAB.folder, values, "")
    control: Any = SimpleNamespace(
        wait=lambda _: None, create=lambda _, spec: runs.append(json.loads(json.dumps(spec.encoded())))
    )
    bench.control = control
    return bench, runs, record


def spec() -> RunSpec:
    return proof(random.Random(1))


@pytest.mark.parametrize(
    ("level", "gpus", "told"),
    [
        ("L3", "real", ("cuda", "nccl")),
        ("L3", "simulated", ("cpu", "gloo")),
        ("L1", "real", ("cpu", "gloo")),
        ("L1", "simulated", ("cpu", "gloo")),
        ("L2", "none", ("cpu", "gloo")),
    ],
)
def test_all_trainings_compute_on_gpus_at_l3_and_nowhere_else(level: str, gpus: str, told: tuple[str, str]) -> None:
    bench, runs, _ = bench_at(level, gpus)

    bench.launch("theirs", spec(), print)
    bench.launch_own("ours", spec(), print, ranks=2)

    jobs = [ddp_spec.RunSpec.read(each).job for each in runs]
    assert [(job.device, job.backend) for job in jobs] == [told, told]
    assert [(each.job.device, each.job.backend) for each in bench.specs.values()] == [told, told]
    assert bench.on_gpus == (told[0] == "cuda")
