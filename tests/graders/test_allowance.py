"""What values may set and use: joined, refused by name, and counted."""

from typing import Any

import pytest

from graders.allowance import Use, layered, overdrawn, quantity, strangers, surge
from graders.errors import SubmissionError

FREE = [("replicaCount",), ("engine", "maxNumSeqs"), ("resources", "limits", "nvidia.com/gpu"), ("probes",)]
FIXED = {"cpu": {"threads": 1}, "env": {}, "engine": {"extraArgs": []}}


def test_the_later_layer_wins_value_by_value() -> None:
    below = {"engine": {"a": 1, "b": [1]}, "cpu": {"threads": 1}}

    assert layered(below, {"engine": {"b": [2], "c": None}}, {"cpu": 3}) == {
        "engine": {"a": 1, "b": [2], "c": None},
        "cpu": 3,
    }
    assert below == {"engine": {"a": 1, "b": [1]}, "cpu": {"threads": 1}}


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, []),
        ({"replicaCount": 2, "probes": {"readiness": {"path": "/x"}}}, []),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, []),
        ({"resources": {"limits": {"nvidia.com/mig-1g.10gb": 1}}}, ["resources.limits.nvidia.com/mig-1g.10gb"]),
        ({"engine": {"extraArgs": ["--port=9"], "maxNumSeqs": 4}}, ["engine.extraArgs"]),
        ({"engine": {"extraArgs": []}, "cpu": {"threads": 1}, "env": {}}, []),
        ({"cpu": {"threads": 2}}, ["cpu.threads"]),
        ({"env": {"A": "b"}, "sidecar": None}, ["env.A", "sidecar"]),
        ({"engine": None}, ["engine"]),
    ],
)
def test_what_is_not_the_learners_is_named(values: dict[str, Any], found: list[str]) -> None:
    assert strangers(values, FREE, FIXED) == found


def test_what_is_used_beyond_what_is_given_is_named() -> None:
    uses = [Use("replicas", 2, 2), Use("threads", 3, 1), Use("memory", float("inf"), 4)]

    assert overdrawn(uses) == uses[1:]


@pytest.mark.parametrize(("value", "number"), [("4Gi", 4 * 2**30), ("500m", 0.5), (2, 2.0), ("1.5", 1.5)])
def test_quantities_are_those_of_kubernetes(value: object, number: float) -> None:
    assert quantity(value, "resources.limits.memory") == number


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("4Gib", "'4Gib', which is no quantity such as 500m or 2Gi"),
        (None, "None, which is no quantity such as 500m or 2Gi"),
        ("-1", "'-1', where a quantity is a number from 0 on"),
    ],
)
def test_what_is_no_quantity_is_refused(value: object, said: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        quantity(value, "resources.limits.memory")
    assert str(caught.value) == f"resources.limits.memory is {said}; correct it"


@pytest.mark.parametrize(("most", "pods"), [(0, 0), (2, 2), ("0%", 0), ("25%", 1), ("50%", 2), ("100%", 3)])
def test_a_surge_in_percent_is_rounded_up(most: object, pods: int) -> None:
    assert surge(3, most, "rollout.maxSurge") == pods


@pytest.mark.parametrize("most", ["2", "many%", None, True, 1.5, "9" * 400 + "%", "9" * 5000 + "%", "٣%"])
def test_what_is_no_number_of_pods_is_refused(most: object) -> None:
    with pytest.raises(SubmissionError) as caught:
        surge(3, most, "rollout.maxSurge")
    assert str(caught.value) == (
        f"rollout.maxSurge is {most!r}, where a number of pods or a percentage such as 25% belongs; correct it"
    )
