"""The checks of 03_vllm: two releases of the same chart side by side, the starter's values and the submission's.

Place: `pytest labs/03_vllm` and `gpulab grade 03_vllm`; what each check does is in the package vllm_lab. Limits: on CPU
the two servers share the machine, so only one of them is under load at a time.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import kubernetes
import pytest

from clusters.api import Charts, Cluster, Progress
from graders.check import Check
from graders.lab import Lab
from graders.pods import Pods
from graders.record import Record
from graders.submission import Submission, parse_values
from vllm_lab import availability, caches, counters, performance, start
from vllm_lab.bench import CHART, Bench
from vllm_lab.sides import chart_values

LEVEL_VALUES = {"L1": "values-cpu.yaml", "L3": "values-gpu.yaml"}
"""What all servers have: at L1 GPUs are simulated and the engine computes on processors."""


@pytest.fixture(scope="module")
def values(lab: Lab, submission: Submission, cluster: Cluster) -> dict[str, dict[str, Any]]:
    """The chart's values of both sides."""
    level, folder = cluster.traits.level, lab.folder.parents[1] / "charts" / CHART
    defaults, given = (parse_values((folder / name).read_text(), name) for name in ("values.yaml", LEVEL_VALUES[level]))
    own = {
        "baseline": parse_values((lab.folder / "starter" / "values.yaml").read_text(), "values.yaml"),
        "submission": submission.values(),
    }
    return {
        side: chart_values(defaults, given, mine, lambda name: lab.threshold(level, name)) for side, mine in own.items()
    }


@pytest.fixture(scope="module")
def bench(
    charts: Charts,
    kube: kubernetes.client.ApiClient,
    cluster: Cluster,
    values: dict[str, dict[str, Any]],
    record: Record,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    """Both sides, which start when they are first needed."""
    pods = Pods(kubernetes.client.CoreV1Api(kube))
    with contextlib.ExitStack() as stack:
        yield Bench(charts, pods, cluster, record, tmp_path_factory.mktemp("load"), values, stack)


def test_resources_within_budget(check: Check, submission: Submission, values: dict[str, dict[str, Any]]) -> None:
    """Anyone can be fast with more machines, or with another model: the values have to do it with what is given."""
    check.measure(lambda _: start.budget(submission.values(), values["submission"]))


def test_server_comes_up(check: Check, bench: Bench, progress: Progress) -> None:
    """Kubernetes sends users to pods that are ready, and to no others."""
    check.measure(lambda _: start.comes_up(bench, progress))


def test_streams_are_correct(check: Check, bench: Bench, progress: Progress) -> None:
    """A client counts on every stream: the tokens it asked for, why it ended, what it cost, and a proper end."""
    check.measure(lambda number: performance.streams(check, bench, progress, number))


def test_counters_agree(check: Check, bench: Bench, progress: Progress) -> None:
    """Who runs a server sees its metrics only: they have to be true, and to tell late requests from others."""
    check.measure(lambda number: counters.agree(check, bench, progress, number))


def test_throughput(check: Check, bench: Bench, progress: Progress) -> None:
    """A GPU is paid by the hour: what counts is how many tokens of all users together come out of it."""
    check.measure(lambda number: performance.throughput(check, bench, progress, number))


def test_service_level_objective(check: Check, bench: Bench, progress: Progress) -> None:
    """Users do not see averages: each request should begin soon and flow, also while others are being served."""
    check.measure(lambda number: performance.service_level(check, bench, progress, number))


def test_highest_load(check: Check, bench: Bench, progress: Progress) -> None:
    """How many replicas a service needs follows from the load up to which one of them holds its objective."""
    check.measure(lambda number: performance.highest_load(check, bench, progress, number))


def test_kv_cache(check: Check, bench: Bench, progress: Progress) -> None:
    """A sequence that loses its place in the KV cache is computed again from its beginning, and its user waits."""
    check.measure(lambda number: caches.pressure(check, bench, progress, number))


def test_prefix_cache(check: Check, bench: Bench, progress: Progress) -> None:
    """Chats and agents send the same beginning again and again: computing it once saves most of the wait."""
    check.measure(lambda number: caches.prefix(check, bench, progress, number))


def test_rolling_upgrade(check: Check, bench: Bench, progress: Progress) -> None:
    """Servers are upgraded while people use them, and nobody should notice."""
    check.measure(lambda number: availability.upgrade(check, bench, progress, number))


def test_replica_loss(check: Check, bench: Bench, progress: Progress) -> None:
    """Machines fail without notice: what was under way there is lost, and everything else should go on."""
    check.measure(lambda number: availability.loss(check, bench, progress, number))
