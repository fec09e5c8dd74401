"""What the judges of lab 02 make of small facts beyond what test_judges.py asks of every lab's."""

import random

import msgspec
import pytest

from ddp_lab import judges
from ddp_lab.gpu_facts import GpuTraining, flops_per_sample
from ddp_lab.proof_facts import OneRun, Replica, unreported
from ddp_lab.runs import endurance
from graders.gpu_scrape import Activity
from graders.judging import Facts
from graders.rubric import Finding
from tests.labs.facts_02_ddp import LAB, SEEN, TURN, TURNS, but, member

JUDGES = judges.JUDGES
TRAINED = GpuTraining(
    samples_per_second=280_000.0,  # a step of 32768 samples in 117 ms: 28.8 ms of an all-reduce, 88 ms of a GPU
    flops_per_sample=9.66e7,
    ranks=2,
    activity=Activity(utilisation=90.0, used_gib=1.0, tensor=None, sm=0.8),
    all_reduce_bytes=2**26,
    all_reduce_seconds=0.03,
    error=7e-5,
)


def judged(check: str, facts: Facts) -> Finding:
    """By the numbers of lab.toml at L1."""
    return JUDGES[check].judge(msgspec.json.encode(facts), LAB.thresholds["L1"].__getitem__)


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (0, "the Job is complete, and none of 30 steps was reported"),
        (29, "the Job is complete, and the last step that was reported is the 29. of 30"),
    ],
)
def test_a_job_that_is_complete_without_its_steps_has_failed(done: int, said: str) -> None:
    found = judged("run_completes", unreported(done, 30, ("pods/events.jsonl",)))

    assert (found.verdict, found.observed, found.hint) == ("failed", said, "silent")
    assert found.evidence == ("pods/events.jsonl",)


@pytest.mark.parametrize(
    ("backends", "said"),
    [
        (("nccl", "nccl"), " that talks by nccl"),
        (("nccl", "gloo"), " that talks by gloo and nccl"),
        ((None, None), ""),
    ],
)
def test_how_ranks_talk_is_told(backends: tuple[str | None, ...], said: str) -> None:
    members = tuple(member(rank, backend=each) for rank, each in enumerate(backends))

    found = JUDGES["one_run"].judge(msgspec.json.encode(OneRun(members=members)), LAB.thresholds["L1"].__getitem__)

    assert (found.verdict, found.observed) == ("passed", f"2 pods on 2 nodes are one world{said}")


@pytest.mark.parametrize(
    ("seen", "right"),
    [
        (SEEN, 2),
        (SEEN[:1], 1),
        ((SEEN[0], msgspec.structs.replace(SEEN[1], error=0.5)), 1),
        ((SEEN[0], msgspec.structs.replace(SEEN[1], digests=("b", "c"))), 1),
        ((SEEN[0], msgspec.structs.replace(SEEN[0], step=9)), 1),
        ((SEEN[0], msgspec.structs.replace(SEEN[1], digests=("b",))), 1),
        ((), 0),
    ],
    ids=["as asked", "once", "wrong", "apart", "frozen", "of one rank", "never"],
)
def test_replicas_are_worth_the_steps_after_which_they_were_right(seen: tuple[Replica, ...], right: int) -> None:
    found = judged("replicas_agree", but("replicas_agree", seen=seen))
    assert (found.value, found.n, found.verdict) == (right, 2, "passed" if right == 2 else "failed")


@pytest.mark.parametrize(("slow", "hint"), [(3, None), (6, "slow")], ids=["above the goal", "below"])
def test_an_undecided_speed_is_called_slow_only_below_the_goal(slow: int, hint: str | None) -> None:
    ratios = [0.6] * slow + [1.0] * (9 - slow)
    ours = [msgspec.structs.replace(TURN["submission"], seconds=0.6 / each) for each in ratios]
    found = judged("scaling", but("scaling", turns=tuple({**TURN, "submission": each} for each in ours)))
    assert (found.verdict, found.hint) == ("inconclusive", hint)


def test_weights_that_leap_have_not_been_trained() -> None:
    found = judged("scaling", but("scaling", leap=4000.0))
    assert (found.verdict, found.hint) == ("failed", "work")
    assert found.observed.startswith(
        "between two turns weights went 4e+03 times as far as in one that was computed again; 1.00 times"
    )
    assert judged("scaling", but("scaling", leap=1.02)).verdict == "passed"


def test_what_gpus_did_is_told_and_judged() -> None:
    threshold = LAB.thresholds["L3"].__getitem__
    facts = msgspec.structs.replace(TURNS, gpu=TRAINED)

    found = JUDGES["scaling"].judge(msgspec.json.encode(facts), threshold)

    assert (found.verdict, found.observed.partition("; ")[2]) == (
        "passed",
        "280000 samples/s, 45% of a GPU's peak; GPUs 90 % busy, SMs 80% of the time; an all-reduce alone at 2.24 GB/s, "
        "72% of the link",
    )
    idle = msgspec.structs.replace(
        TRAINED,
        samples_per_second=1e6,
        activity=Activity(utilisation=5.0, used_gib=1.0, tensor=0.0, sm=None),
    )
    found = JUDGES["scaling"].judge(msgspec.json.encode(msgspec.structs.replace(facts, gpu=idle)), threshold)
    assert (found.verdict, found.hint) == ("failed", "slow")
    assert idle.shortfalls(threshold) == [
        "they were 5 % busy, where 70 % are the goal",
        "model FLOPs utilisation was 159%, where 25% to 100 % can be",
    ]
    assert "GPUs 5 % busy, tensor cores 0% of the time" in found.observed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (0.5, "weights are off by 0.5 of their change in a step, so the work was not done"),
        (None, "in a step that was drawn not each sample was read once, or ranks hold different weights"),
        (float("inf"), "in a step that was drawn not each sample was read once, or ranks hold different weights"),
    ],
)
def test_a_fast_training_that_does_not_do_its_work_is_none(error: float | None, said: str) -> None:
    facts = msgspec.structs.replace(TURNS, gpu=msgspec.structs.replace(TRAINED, error=error))

    found = JUDGES["scaling"].judge(msgspec.json.encode(facts), LAB.thresholds["L3"].__getitem__)

    assert (found.verdict, found.hint, found.observed.partition(";")[0]) == ("failed", "work", said)


def test_a_link_that_the_lab_was_given_is_told_and_judges_nobody() -> None:
    slow = msgspec.structs.replace(TRAINED, all_reduce_seconds=0.3)

    assert slow.shortfalls(LAB.thresholds["L3"].__getitem__) == []
    assert slow.words(LAB.thresholds["L3"].__getitem__).endswith("; an all-reduce alone at 0.22 GB/s, 7% of the link")


def test_goals_for_gpus_can_be_met_and_tell_a_mistake() -> None:
    threshold, spec = LAB.thresholds["L3"].__getitem__, endurance(random.Random(1), ranks=2)
    peak, link = threshold("gpu_peak_tflops") * 1e12, threshold("gpu_link_gbs") * 1e9
    work, sent = flops_per_sample(spec.job) * spec.job.batch / 2, spec.job.gradient_bytes
    assert (round(work / 1e9), round(sent / 1e5)) == (1583, 645)

    def mfu(share_of_peak: float, share_of_link: float, sends: int = 1) -> float:
        return work / peak / (work / peak / share_of_peak + sends * sent / (link * share_of_link))

    assert round(mfu(0.6, threshold("gpu_link_share")), 2) == 0.41
    assert mfu(1.0, 1.0, sends=spec.job.micro_batches) < threshold("gpu_mfu") < mfu(0.35, threshold("gpu_link_share"))


def test_flops_are_those_of_the_layers() -> None:
    job = endurance(random.Random(1), ranks=2).job
    assert flops_per_sample(job) == 6 * (16 * 4000 + 4000 * 4000 + 4000 * 16) - 2 * 16 * 4000


def test_every_level_has_every_number() -> None:
    numbers = {level: set(numbers) for level, numbers in LAB.thresholds.items()}
    assert numbers["L1"] - numbers["L3"] == set()
    assert all(name.startswith("gpu_") for name in numbers["L3"] - numbers["L1"])
