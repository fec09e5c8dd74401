"""What is known of a training that computes in turns with others: its bytes, its time, its processors. Pure.

Place: `scaling` measures these facts, judges.py names the judges. Limits: a turn is so short that one stall of the
machine shows; what counts is the median over pairs of turns.
"""

import math
import statistics

import msgspec

from ddp_lab.gpu_facts import GpuTraining
from graders import stats
from graders.judging import Facts, Thresholds
from graders.rubric import Finding

LEAP = 3.0
"""With plain SGD and so small a rate every turn of a run takes weights equally far, within a hundredth (computed with
`replay` over 57 steps). Weights that compute nothing, as zeros do, are thousands of times farther away."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Some steps of one side.

    Attributes:
        seconds: from when the turn was given until the last rank's weights after the last step came; None where the
            steps were not done in time.
        sent: bytes that each pod sent meanwhile, but for weights that were asked for, in the order of ranks.
        cpu: processor seconds that each pod used.
        idle: cores that the pod which used most of them used since its turn before, while others had theirs; None where
            it had the turn before as well.
    """

    seconds: float | None
    sent: tuple[int, ...] = ()
    cpu: tuple[float, ...] = ()
    idle: float | None = None
    idle_sent: float | None = None
    idle_ended: int | None = None


class Turns(Facts, frozen=True, kw_only=True):
    """Turns of the sides "single", "reference" and "submission", a few steps each, one after the other.

    Attributes:
        steps: of each turn.
        ranks: of reference and submission.
        gradient_bytes: of all gradients together.
        turns: by side, in the order in which they ran.
        error: how far the submission's weights moved otherwise than those of one process over one turn that was
            drawn, in times of how far they moved; None where they could not be had.
        leap: the longest way that its weights went between two turns, from the run's first ones on, in times of that in
            the turn that was drawn; None where the run does not tell.
        batch: samples that a step is to have.
        fewest: that were read for a step, of the step that had the fewest.
        samples: of an epoch.
        unread: that were read for no step of an epoch, of the epoch that lacks most.
        problem: why there is nothing to look at, or None.
        gpu: what GPUs made of it; None where they are simulated.
    """

    steps: int
    ranks: int
    gradient_bytes: int
    turns: tuple[dict[str, Turn], ...]
    error: float | None = None
    leap: float | None = None
    batch: int = 0
    fewest: int = 0
    samples: int = 0
    unread: int = 0
    problem: str | None = None
    gpu: GpuTraining | None = None


def ideal_bytes(gradient_bytes: int, ranks: int) -> float:
    """What each rank sends in an all-reduce of so many bytes: 2(n-1)/n of them (nccl-tests, doc/PERFORMANCE.md)."""
    return gradient_bytes * 2 * (ranks - 1) / ranks


def judge_communication(facts: Turns, threshold: Thresholds) -> Finding:
    """Whether each step sends each gradient once, and over the network."""
    most, ideal = threshold("comm_factor"), ideal_bytes(facts.gradient_bytes, facts.ranks)
    expected = (
        f"between {threshold('comm_floor'):g} and {most:g} times the {ideal / 1e6:.1f} MB that one all-reduce of all "
        f"gradients sends from each rank in a step"
    )
    sent = [each / facts.steps / ideal for turn in facts.turns for each in turn["submission"].sent]
    problem = facts.problem or (None if sent else "no turn was measured")
    if len({len(turn["submission"].sent) for turn in facts.turns}) > 1:
        problem = problem or "pods came or went while turns were measured"
    if problem:
        return Finding(expected=expected, observed=problem, verdict="failed", hint="stuck")
    # Of each rank by itself: one that sends twice as much does not make up for one that sends nothing.
    ranks = list(zip(*(turn["submission"].sent for turn in facts.turns), strict=True))
    medians = [statistics.median(each) / facts.steps / ideal for each in ranks]
    few, much = min(medians) < threshold("comm_floor"), max(medians) > most
    estimate = min(medians) if few else max(medians)
    alone, ours = (_median_seconds(facts, side) for side in ("single", "submission"))
    share = max(0.0, 1 - alone / ours)
    return Finding(
        expected=expected,
        observed=(
            f"{estimate * ideal / 1e6:.1f} MB a rank and step, {estimate:.2f} times as much; a step spends {share:.0%} "
            "of its time beyond what one rank alone needs for its part"
        ),
        verdict="failed" if few or much else "passed",
        unit="times one all-reduce",
        value=estimate,
        n=len(sent),
        interval=(min(sent), max(sent)),
        hint="elsewhere" if few else "often" if much else None,
    )


def judge_scaling(facts: Turns, threshold: Thresholds) -> Finding:
    """The submission's speed in times the reference's, and that the work was done, by as many threads as are given."""
    goal, most = threshold("scaling_ratio"), threshold("scaling_error")
    expected = (
        f"at least {goal:g} times the reference's steps/s in the same run, with {facts.ranks} ranks of "
        f"{threshold('budget_threads'):g} thread each, and the same weights within {most:g} of their change"
    )
    times = [(each["single"].seconds, each["reference"].seconds, each["submission"].seconds) for each in facts.turns]
    if facts.problem or not times:
        return Finding(
            expected=expected, observed=facts.problem or "no turn was measured", verdict="failed", hint="stuck"
        )
    ratios = [theirs / ours if theirs and ours else 0.0 for _, theirs, ours in times]
    estimate = stats.median_of_pairs(ratios)
    alone, ours = (_median_seconds(facts, side) for side in ("single", "submission"))
    cores = max((used / (turn.seconds or math.inf) for turn in _submissions(facts) for used in turn.cpu), default=0.0)
    told, hint = [], None
    if facts.error is None or facts.error > most:
        off = "were not handed in" if facts.error is None else f"are off by {facts.error:.2g} of their change"
        told.append(f"weights {off}, so the work was not done")
        hint = "work"
    if facts.leap is not None and facts.leap > LEAP:
        told.append(f"between two turns weights went {facts.leap:.2g} times as far as in one that was computed again")
        hint = "work"
    if facts.fewest < facts.batch:
        told.append(f"a step read {facts.fewest} of its {facts.batch} samples")
        hint = "work"
    if facts.unread:
        told.append(f"an epoch read {facts.samples - facts.unread} of its {facts.samples} samples")
        hint = "work"
    if meanwhile := _meanwhile(facts, threshold):
        told += meanwhile
        hint = hint or "meanwhile"
    if cores > threshold("scaling_cores"):
        told.append(f"a rank used {cores:.2f} cores, where {threshold('scaling_cores'):g} are the most")
        hint = hint or "threads"
    if facts.gpu:
        told += facts.gpu.shortfalls(threshold)
        hint = hint or (None if facts.gpu.worked(threshold) else "work")
    outcome = stats.decide(estimate, goal)
    slow = "slow" if told or (estimate.value or 0.0) < goal else None
    return Finding.of_estimate(
        estimate,
        unit="times the reference",
        expected=expected,
        observed="; ".join(
            [
                *told,
                f"{estimate.value:.2f} times: {ours / facts.steps * 1000:.0f} ms a step, where one rank alone takes "
                f"{alone / facts.steps * 1000:.0f} ms for its part: an efficiency of {alone / ours:.0%}",
                *([facts.gpu.words(threshold)] if facts.gpu else []),
            ]
        ),
        verdict="failed" if told else outcome,
        hint=hint or slow,
    )


def _meanwhile(facts: Turns, threshold: Thresholds) -> list[str]:
    """What a pod of the submission did while others had their turns that could hold these up."""
    told = []
    for most, of, words in (
        ("scaling_idle", "idle", "a pod used {:.2f} cores"),
        ("scaling_idle_bytes", "idle_sent", "a pod sent {:.0f} bytes a second"),
        ("scaling_idle_ended", "idle_ended", "a pod began and ended {:.0f} processes or threads"),
    ):
        waited = [value for turn in _submissions(facts) if (value := getattr(turn, of)) is not None]
        if waited and (usual := statistics.median(waited)) > threshold(most):
            told.append(f"{words.format(usual)} while others had their turns, where {threshold(most):g} are the most")
    return told


def _median_seconds(facts: Turns, side: str) -> float:
    """Of a side's turns; infinite where they were not done."""
    return statistics.median(turn[side].seconds or math.inf for turn in facts.turns)


def _submissions(facts: Turns) -> list[Turn]:
    return [each["submission"] for each in facts.turns]
