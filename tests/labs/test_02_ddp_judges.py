"""What the judges of lab 02 make of small facts: each verdict, its words and its hint, and the numbers it asks for."""

import random
from typing import Any

import msgspec
import pytest

from ddp_lab import judges
from ddp_lab.events import Event, Kind, Story
from ddp_lab.gpu_facts import GpuTraining, flops_per_sample
from ddp_lab.gpus import finished, rate
from ddp_lab.runs import endurance
from graders.errors import SubmissionError
from graders.gpu_scrape import Activity
from graders.judging import Asked, load
from tests.labs.facts_02_ddp import FACTS, FAILURES, LAB, TURNS

JUDGES = judges.JUDGES


def test_every_check_has_a_judge() -> None:
    assert list(JUDGES) == [check.id for check in LAB.checks] == list(FACTS) != []
    assert load(LAB) is JUDGES
    assert len({judge.format for judge in JUDGES.values()}) == len(JUDGES)


@pytest.mark.parametrize("check", FACTS)
def test_what_does_what_is_asked_passes(check: str) -> None:
    asked = Asked(LAB.thresholds["L1"].__getitem__)

    found = JUDGES[check].judge(msgspec.json.encode(FACTS[check]), asked)

    assert (found.verdict, found.hint) == ("passed", None)
    assert set(JUDGES[check].effort) <= LAB.thresholds["L1"].keys() - asked.numbers.keys()


@pytest.mark.parametrize("check", FACTS)
def test_hints_are_those_of_lab_toml(check: str) -> None:
    spec = LAB.check(check)
    assert spec is not None
    assert {hint for name, *_, hint, _ in FAILURES.values() if name == check and hint} == spec.hints.keys()


@pytest.mark.parametrize("name", FAILURES)
def test_what_falls_short_is_told_with_its_hint(name: str) -> None:
    check, facts, verdict, hint, observed = FAILURES[name]

    found = JUDGES[check].judge(msgspec.json.encode(facts), LAB.thresholds["L1"].__getitem__)

    assert (found.verdict, found.hint, found.observed) == (verdict, hint, observed)


def test_what_gpus_did_is_told_and_judged() -> None:
    gpu = GpuTraining(
        samples_per_second=200_000.0,
        flops_per_sample=9.6e7,
        ranks=2,
        activity=Activity(utilisation=90.0, used_gib=1.0, tensor=None, sm=0.8),
        all_reduce_bytes=2**26,
        all_reduce_seconds=0.03,
    )
    threshold = LAB.thresholds["L3"].__getitem__
    facts = msgspec.structs.replace(TURNS, gpu=gpu)

    found = JUDGES["scaling"].judge(msgspec.json.encode(facts), threshold)

    assert (found.verdict, found.observed.partition("; ")[2]) == (
        "passed",
        "200000 samples/s, 32% of a GPU's peak; GPUs 90 % busy, SMs 80% of the time; an all-reduce alone at 2.24 GB/s, "
        "72% of the link",
    )
    idle = msgspec.structs.replace(
        gpu,
        samples_per_second=1e6,
        activity=Activity(utilisation=5.0, used_gib=1.0, tensor=0.0, sm=None),
        all_reduce_seconds=0.3,
    )
    found = JUDGES["scaling"].judge(msgspec.json.encode(msgspec.structs.replace(facts, gpu=idle)), threshold)
    assert (found.verdict, found.hint) == ("failed", "slow")
    assert idle.shortfalls(threshold) == [
        "they were 5 % busy, where 70 % are the goal",
        "model FLOPs utilisation was 158%, where 15% to 100 % can be",
        "the link's share was 7%, where 50% to 100 % can be",
    ]
    assert "GPUs 5 % busy, tensor cores 0% of the time" in found.observed


def test_flops_are_those_of_the_layers() -> None:
    job = endurance(random.Random(1), ranks=2).job
    assert flops_per_sample(job) == 6 * (16 * 4000 + 4000 * 4000 + 4000 * 16) - 2 * 16 * 4000


def test_the_speed_of_a_training_is_that_between_its_reports() -> None:
    def event(kind: Kind, t: float, rank: int, step: int, **more: Any) -> Event:
        return Event(n=0, t=t, kind=kind, ip="", rank=rank, step=step, **more)

    joined = [event("join", 0.0, rank, -1) for rank in range(2)]
    steps = [
        each
        for step in range(4)
        for rank in range(2)
        for each in (
            event("batch", float(step), rank, step, indices=(1, 2, 3)),
            event("report", step + 0.5 + rank / 4, rank, step, loss=0.5),
        )
    ]
    story = Story([*joined, *steps, event("report", 4.0, 0, 4, loss=0.5)])
    assert finished(story) == 4
    assert rate(story, 1) == 6.0
    with pytest.raises(
        SubmissionError, match=r"^a training of larger layers did no step after the 3\.; look at its log$"
    ):
        rate(story, 3)


def test_every_level_has_every_number() -> None:
    numbers = {level: set(numbers) for level, numbers in LAB.thresholds.items()}
    assert numbers["L1"] - numbers["L3"] == set()
    assert all(name.startswith("gpu_") for name in numbers["L3"] - numbers["L1"])
