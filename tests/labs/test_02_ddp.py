"""Lab 02's own arithmetic: the ledger's story, the sizes of its runs, chart values, and what is computed again."""

import random
from typing import Any

import msgspec
import numpy as np
import pytest

from ddp_lab import replay
from ddp_lab.aftermath import loss_of
from ddp_lab.events import Story
from ddp_lab.gpus import WARM_UP
from ddp_lab.proof import epochs_read, samples_read
from ddp_lab.proof_facts import judge_samples
from ddp_lab.runs import FAULTS, JobSpec, RunSpec, drill, endurance, proof, recovery, scaling
from ddp_lab.scaling_facts import LEAP, ideal_bytes
from ddp_lab.sides import chart_values, uses
from ddp_lab.start import budget
from graders.budget import judge_budget
from graders.errors import SubmissionError
from tests.labs.facts_02_ddp import LAB

THRESHOLDS = LAB.thresholds["L1"]
SMALL = RunSpec(
    job=JobSpec(
        samples=5,
        features=3,
        outputs=2,
        hidden=(4,),
        epochs=2,
        batch=2,
        micro_batches=1,
        learning_rate=0.1,
        momentum=0.0,
        dtype="float64",
        seed=7,
    ),
    data_seed=1,
    weights_seed=2,
)


def story(*events: dict[str, Any]) -> Story:
    return Story.read([{"n": n, "t": float(n), "ip": "10.0.0.1", **event} for n, event in enumerate(events)])


def join(uid: str) -> dict[str, Any]:
    return {"kind": "join", "uid": uid}


def batch(uid: str, rank: int, step: int, *indices: int, micro: int = 0) -> dict[str, Any]:
    return {"kind": "batch", "uid": uid, "rank": rank, "step": step, "micro": micro, "indices": indices}


def report(uid: str, rank: int, step: int, loss: float = 1.0) -> dict[str, Any]:
    return {"kind": "report", "uid": uid, "rank": rank, "step": step, "loss": loss, "draw": loss}


def test_a_step_has_the_samples_of_all_ranks_and_micro_batches() -> None:
    found = story(
        join("a"),
        join("b"),
        batch("a", 0, 0, 4, 1),
        batch("b", 1, 0, 2),
        batch("a", 0, 0, 3, micro=1),
        report("a", 0, 0),
        report("b", 1, 0, 2.0),
        batch("a", 0, 1, 0),
    )

    assert found.batches(2) == {0: (4, 1, 3, 2)}
    assert (found.done(2), found.losses()) == (0, {0: {0: 1.0, 1: 2.0}})
    assert found.done(3) == -1


def test_a_step_that_is_done_again_counts_as_it_was_read_last() -> None:
    found = story(
        join("a"),
        batch("a", 0, 0, 1, 2),
        report("a", 0, 0, 1.0),
        batch("a", 0, 1, 3),
        join("a"),
        batch("a", 0, 0, 2, 1),
        report("a", 0, 0, 1.5),
    )

    assert found.batches(1) == {0: (2, 1)}
    assert found.losses() == {0: {0: 1.5}} == found.draws()


def test_what_a_process_says_of_its_group_is_read() -> None:
    met = {"kind": "introduce", "uid": "a", "rank": 0, "backend": "gloo"}

    assert [each.backend for each in story(join("a"), met, {**met, "backend": None}).events] == [None, "gloo", None]


def test_a_sample_that_is_read_more_often_than_a_step_needs_is_counted_once_for_each_read() -> None:
    whole = [(0, 1), (2, 3), (4,), (4, 3), (2, 1)]
    steps = [
        each for step, indices in enumerate(whole) for each in (batch("a", 0, step, *indices), report("a", 0, step))
    ]
    again, double = batch("a", 0, 1, 2, 3), batch("a", 0, 5, 0, 0)

    found = samples_read(story(join("a"), again, *steps, double, report("a", 0, 5)), SMALL.job, 1, ())

    assert found.flood == 2
    assert [(each.missing, each.twice) for each in found.epochs] == [(0, 0), (0, 1)]
    assert judge_samples(found, THRESHOLDS.__getitem__).value == 3.0


def test_what_comes_after_a_loss_is_told_from_what_was_on_its_way() -> None:
    before = [join("a"), join("b"), report("a", 0, 0), report("b", 1, 0), report("a", 0, 1), report("b", 1, 1)]
    late = [report("a", 0, 2)]  # rank 0 had all that it needed for that
    met = [
        join("a"),
        join("c"),
        *({"kind": "introduce", "uid": uid, "rank": rank} for uid, rank in (("a", 0), ("c", 1))),
    ]
    again = [report("a", 0, 2), report("c", 1, 2), batch("c", 1, 3, 0), report("a", 0, 3)]

    silent = loss_of(story(*before, *late), "pod", 1, 5.5, world=2)
    coming = loss_of(story(*before, *late, *met, *again), "pod", 1, 5.5, world=2)
    there = loss_of(story(*before, *late, *met, *again, report("c", 1, 3)), "pod", 1, 5.5, world=2)

    assert (silent.noticed, silent.joined, silent.met, silent.first, silent.again) == (None, None, None, None, 0)
    assert (coming.noticed, coming.step, coming.joined, coming.met, coming.first) == (1.5, 2, 2.5, 4.5, None)
    assert coming.again == 1
    assert (there.step, there.first, there.again) == (2, 9.5, 1)


def test_who_was_not_lost_brings_nothing_nearer() -> None:
    """Survivors that join anew, and steps that nobody read for, before who was lost is there again."""
    before = [join("a"), join("b"), report("a", 0, 0), report("b", 1, 0)]
    early = [join("a"), join("b"), batch("a", 0, 1, 0), report("a", 0, 1), report("b", 1, 1)]
    back = [join("c"), report("a", 0, 2), report("c", 1, 2)]
    read = [batch("c", 1, 3, 0), report("a", 0, 3), report("c", 1, 3)]

    gone = loss_of(story(*before, *early), "pod", 1, 3.5, world=2)
    told = loss_of(story(*before, *early, *back), "pod", 1, 3.5, world=2)
    done = loss_of(story(*before, *early, *back, *read), "pod", 1, 3.5, world=2)

    assert (gone.joined, gone.first) == (None, None)
    assert (told.step, told.joined, told.first) == (1, 5.5, None)
    assert done.first == 10.5


@pytest.mark.parametrize("uid", ["a", "c"], ids=["its own", "another"])
def test_a_killed_process_is_back_when_its_own_pod_joins_or_the_one_that_replaces_it(uid: str) -> None:
    """As where pods are never started again, and the Job makes others."""
    before = [join("a"), join("b"), report("a", 0, 0), report("b", 1, 0)]
    after = [join("b"), join(uid), batch(uid, 0, 1, 0), report(uid, 0, 1), report("b", 1, 1)]

    found = loss_of(story(*before, *after), "process", 0, 3.5, world=2, uid="a")

    assert (found.noticed, found.joined, found.first) == (0.5, 1.5, 4.5)


def test_steps_that_are_done_again_after_a_new_one_are_counted_until_the_next_loss() -> None:
    story_ = story(join("a"), *(report("a", 0, step) for step in range(3)), join("a"), batch("a", 0, 3, 0))
    later = [report("a", 0, 3), join("a"), *(report("a", 0, step) for step in range(4))]
    whole = Story([*story_.events, *story(*[join("a")] * 6, *later).events[6:]])

    def again(end: float) -> int:
        return loss_of(whole.until(end), "process", 0, 3.5, world=1, uid="a").again

    assert [again(end) for end in (7.0, 10.0, 99.0)] == [0, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_a_proof_leaves_a_rank_without_samples_at_the_end_of_an_epoch(seed: int) -> None:
    spec = proof(random.Random(seed))

    assert spec.job.samples % spec.job.batch == 1
    assert 20 <= spec.job.steps <= 50
    assert len(set(spec.weights_at)) == 3
    assert max(spec.weights_at) < spec.job.steps - 1


def test_other_runs_have_the_sizes_that_the_lab_speaks_of() -> None:
    race = scaling(random.Random(1), ranks=2, micro_batches=4, steps=39)
    slow = recovery(random.Random(1), epochs=11, pace_seconds=0.1, checkpoint_every=5)

    assert (race.job.gradient_bytes, race.job.steps, race.until) == (6300672, 40, 0)
    assert ideal_bytes(race.job.gradient_bytes, 2) == race.job.gradient_bytes
    assert slow.job.gradient_bytes * 2 > 16e6
    assert (slow.job.steps, slow.job.steps_per_epoch) == (77, 7)


def test_whole_epochs_are_told_from_the_one_that_is_under_way() -> None:
    job = msgspec.structs.replace(proof(random.Random(1)).job, samples=4, batch=2)

    found = epochs_read(job, [(0, 1), (2, 3), (1, 1), (0, 3), (2, 2)])

    assert [(each.missing, each.twice) for each in found] == [(0, 0), (1, 1)]
    assert found[0].order != found[1].order


def test_an_epoch_whose_batches_are_turned_round_has_the_order_of_the_one_before() -> None:
    job = msgspec.structs.replace(proof(random.Random(1)).job, samples=4, batch=2)

    found = epochs_read(job, [(0, 1), (2, 3), (1, 0), (3, 2), (2, 3), (0, 1)])

    assert found[0].order == found[1].order != found[2].order


def test_who_speaks_for_others_is_told() -> None:
    homes = {"a": ["10.0.0.1"], "b": ["10.0.0.2"]}
    mine: list[dict[str, Any]] = [
        {**join("a"), "ip": "10.0.0.1", "rank": 0},
        {**join("b"), "ip": "10.0.0.2", "rank": 1},
        {**report("a", 0, 0), "ip": "10.0.0.1"},
        {**report("b", 1, 0), "ip": "10.0.0.2"},
        {"kind": "refused", "ip": "10.0.0.9", "uid": "", "rank": 0},
        # Both have changed places after a loss, and what one had asked for before comes now.
        {**join("a"), "ip": "10.0.0.1", "rank": 1},
        {**batch("a", 0, 1, 5), "ip": "10.0.0.1"},
        {**report("a", 1, 1), "ip": "10.0.0.1"},
    ]
    false: list[dict[str, Any]] = [
        {**report("b", 0, 1), "ip": "10.0.0.2"},
        {**report("b", 1, 1), "ip": "10.0.0.1"},
        {**report("c", 1, 1), "ip": "10.0.0.3"},
        {**batch("b", 0, 1, 5), "ip": "10.0.0.2"},
    ]

    assert story(*mine).strange(homes) == []
    assert [each.n for each in story(*mine, *false).strange(homes)] == [8, 9, 10, 11]


def test_steps_that_are_done_again_in_silence_are_counted() -> None:
    before = [join("a"), *(report("a", 0, step) for step in range(4))]
    quiet = [
        join("a"),
        *(batch("a", 0, step, 1) for step in range(4)),
        {"kind": "tick", "uid": "a", "rank": 0, "step": 4},
    ]

    found = loss_of(story(*before, *quiet, report("a", 0, 4)), "process", 0, 4.5, world=1, uid="a")

    assert (found.step, found.again) == (3, 4)


def test_a_range_of_workers_is_refused() -> None:
    with pytest.raises(SubmissionError) as error:
        budget({}, {"torchrun": {"nnodes": "1:2"}}, "")
    assert str(error.value) == (
        "torchrun.nnodes is '1:2': steps that some of the workers do without the others are nobody's here; "
        "name one number"
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_training_for_gpus_is_proved_at_one_step_that_is_timed(seed: int) -> None:
    spec = endurance(random.Random(seed), ranks=2)

    before, after = spec.weights_at
    assert (after - before, spec.job.batch, spec.job.sample_bytes) == (1, 2 * 8 * 2048, 128)
    assert before > WARM_UP
    assert spec.job.samples % spec.job.batch == 0


@pytest.mark.parametrize("kind", FAULTS)
def test_a_drill_is_planted_at_a_rank_that_can_have_it(kind: Any) -> None:
    ranks = {drill(random.Random(seed), kind, ranks=2, timeout_seconds=8).drills[0].rank for seed in range(20)}

    assert ranks == ({1} if kind in ("wrong_rank", "rendezvous") else {0, 1})


def test_values_are_joined_and_the_labs_win() -> None:
    own = {"workers": 2, "threads": 1, "torchrun": {"nnodes": 2}, "image": {"tag": "mine"}}

    joined = chart_values({"workers": 1, "resources": {}}, own, THRESHOLDS.__getitem__)

    assert joined["image"]["tag"] != "mine"
    assert joined["torchrun"] == {"nnodes": 2, "nprocPerNode": 1}
    assert joined["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": 1}
    found = judge_budget(budget(own, joined, "x = 1"), THRESHOLDS.__getitem__)
    assert (found.verdict, found.observed) == ("failed", "image.tag is not yours to set")


def test_no_limit_of_memory_is_no_limit() -> None:
    own = {"workers": 2, "threads": 1, "resources": {"limits": {"memory": None}}}

    (memory,) = [each for each in uses(own, chart_values({}, own, THRESHOLDS.__getitem__)) if "memory" in each.what]

    assert memory.used is None


def test_what_is_no_python_is_refused_with_its_line() -> None:
    with pytest.raises(SubmissionError) as refused:
        budget({}, {}, "x = 1\ndef (:\n")
    assert str(refused.value) == "train.py is not Python: invalid syntax (<unknown>, line 2); correct it there"
    with pytest.raises(SubmissionError) as refused:
        budget({}, {}, "-" * 100_000 + "1")
    assert str(refused.value) == "train.py is not Python: an expression is nested too deeply; correct it there"


def test_weights_are_compared_by_their_size() -> None:
    true = replay.replayed(SMALL, [(0, 1), (2, 3), (4,)], keep=(0,))
    last = b"".join(each.tobytes() for each in true.weights[2])
    shifted = (np.frombuffer(last) + 0.01).tobytes()

    assert len(true.losses) == 3
    assert replay.error(SMALL, last, true.weights[2]) == 0.0
    assert 0.001 < replay.error(SMALL, shifted, true.weights[2]) < 0.1
    assert replay.error(SMALL, last[:-8], true.weights[2]) == float("inf")
    assert replay.error(SMALL, np.full(len(last) // 8, np.nan).tobytes(), true.weights[2]) == float("inf")


def test_weights_that_stay_where_they_were_have_strayed_as_far_as_the_true_ones_moved() -> None:
    before, after = (
        b"".join(each.tobytes() for each in weights)
        for weights in (replay.problem(SMALL).weights, replay.replayed(SMALL, [(0, 1), (2,)]).weights[1])
    )

    assert replay.strayed(SMALL, before, [(0, 1), (2,)], after) == 0.0
    assert replay.strayed(SMALL, before, [(0, 1), (2,)], before) == pytest.approx(1.0)
    assert replay.strayed(SMALL, before, [(0, 1), (2,)], after[:-8]) == float("inf")


def test_weights_that_leap_between_two_turns_are_told_from_such_that_were_trained() -> None:
    steps = [(0, 1), (2,), (3, 0), (1, 2), (3,), (0, 2)]
    true = replay.replayed(SMALL, steps, keep=range(len(steps))).weights
    marks = [b"".join(each.tobytes() for each in true[step]) for step in range(len(steps))]
    ways = replay.ways(SMALL, marks)
    assert len(ways) == len(marks)
    assert replay.leap(ways, ways[2]) < LEAP
    zeros = bytes(len(marks[0]))
    leaps = replay.ways(SMALL, [marks[0], zeros, zeros, zeros])
    assert replay.leap(leaps, leaps[-1]) == replay.MOST
    assert replay.leap(replay.ways(SMALL, [zeros, *marks[:2]]), ways[1]) > LEAP
    assert replay.leap(replay.ways(SMALL, [marks[0][:-8], marks[1]]), ways[1]) == replay.MOST


def test_draws_are_those_of_the_seed() -> None:
    other = msgspec.structs.replace(SMALL, job=msgspec.structs.replace(SMALL.job, seed=8))

    assert replay.draws(SMALL, 3) == replay.draws(SMALL, 3) != replay.draws(other, 3)
    assert all(0 <= each < 1 for each in replay.draws(SMALL, 100))
