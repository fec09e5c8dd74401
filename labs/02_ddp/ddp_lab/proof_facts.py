"""What is known of a training that is replayed, and how that is judged: one run, its samples, its mathematics. Pure.

Place: `proof` measures these facts, judges.py names the judges. Limits: order and split of the samples are the
submission's; what it made of them has to be what one process makes of them.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from graders.judging import Facts, Thresholds
from graders.rubric import Finding

SHOWN = 3
"""As many examples of a mistake are told."""


class Completed(Facts, frozen=True, kw_only=True):
    """How a training ended: after so many seconds, or not, with whose problem, of what kind."""

    seconds: float | None
    steps: int
    problem: str | None = None
    kind: Literal["ending", "stuck", "silent"] | None = None


def unreported(done: int, steps: int, evidence: tuple[str, ...]) -> Completed:
    """A Job that is complete, though only `done` of its `steps` were reported."""
    last, none = f"the last step that was reported is the {done}. of {steps}", f"none of {steps} steps was reported"
    said = f"the Job is complete, and {last if done else none}"
    return Completed(seconds=None, steps=steps, problem=said, kind="silent", evidence=evidence)


def judge_completed(facts: Completed, threshold: Thresholds) -> Finding:
    """Whether its Job completed and its pods reported the steps that they were to make."""
    within = threshold("run_seconds")
    expected = f"the Job is complete within {within:g} s, and {facts.steps} steps are reported"
    if facts.seconds is None:
        return Finding(expected=expected, observed=facts.problem or "", verdict="failed", hint=facts.kind)
    late = facts.seconds > within
    return Finding(
        expected=expected,
        observed=f"complete after {facts.seconds:.0f} s",
        verdict="failed" if late else "passed",
        unit="s",
        value=facts.seconds,
        n=1,
        hint="stuck" if late else None,
    )


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A process that joined: its pod as Kubernetes knows it, the rank and world that it claims, whom it met."""

    pod: str
    known: bool
    """Whether its pod is one of the Job's, and the call came from that pod's address."""
    node: str
    gpus: int
    rank: int
    world: int
    met: tuple[int, ...]
    """Ranks whose secret tickets it had from the process group."""
    backend: str | None = None
    """Of its process group, as it says; None where it did not."""


class OneRun(Facts, frozen=True, kw_only=True):
    """The processes of a training, and what others said in their names, a phrase each."""

    members: tuple[Member, ...]
    strange: tuple[str, ...] = ()


def judge_one_run(facts: OneRun, threshold: Thresholds) -> Finding:
    """Whether they are one world: each rank once, in a pod with a device of its own, and known to all others."""
    world, members = int(threshold("world_size")), facts.members
    ranks, everyone = sorted(each.rank for each in members), tuple(range(world))
    told = [
        f"{each.pod} is rank {each.rank} in a world of {each.world}"
        for each in members
        if each.world != world or each.rank not in everyone
    ]
    alone = bool(told)
    if ranks != list(everyone):
        told.append(f"the ranks are {', '.join(map(str, ranks)) or 'none'}")
    if strange := [each.pod for each in members if not each.known]:
        told.append(f"{', '.join(strange)} called from elsewhere than a pod of the Job")
    if facts.strange:
        told.append(f"{facts.strange[0]} ({len(facts.strange)} such events)")
    if len({each.pod for each in members}) < len(members):
        told.append("several ranks share a pod")
    if idle := [each.pod for each in members if each.gpus < 1]:
        told.append(f"{', '.join(idle)} holds no device")
    unmet = [f"rank {each.rank} met {_ranks(each.met)}" for each in members if each.met != everyone]
    told += [] if alone else unmet
    return Finding(
        expected=f"{world} pods, one rank and one device each, that know each other through their process group",
        observed="; ".join(told)
        or f"{len(members)} pods on {len({each.node for each in members})} nodes are one world{_backends(members)}",
        verdict="failed" if told else "passed",
        unit="ranks",
        value=float(len({each.rank for each in members if each.met == everyone})),
        n=len(members),
        hint=None if not told else "alone" if alone or ranks != list(everyone) else "unmet",
    )


def _backends(members: Sequence[Member]) -> str:
    told = sorted({each.backend for each in members if each.backend})
    return f" that talks by {' and '.join(told)}" if told else ""


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank {', '.join(map(str, ranks))}" if ranks else "nobody"


class EpochRead(msgspec.Struct, frozen=True, kw_only=True):
    """What was read in an epoch: how many samples by nobody, how many more than once, and the order's digest."""

    missing: int
    twice: int
    order: str


class SamplesRead(Facts, frozen=True, kw_only=True):
    """The ledger of a training: epochs, each rank's share of what was read, and reads that no step explains."""

    samples: int
    epochs: tuple[EpochRead, ...]
    shares: tuple[float, ...]
    flood: int


def judge_samples(facts: SamplesRead, _: Thresholds) -> Finding:
    """Whether every sample was read once in every epoch, in another order each time, and by all ranks alike."""
    missing, twice = (sum(getattr(each, name) for each in facts.epochs) for name in ("missing", "twice"))
    told = []
    if missing:
        told.append(f"{missing} of {facts.samples * len(facts.epochs)} reads are missing")
    if twice or facts.flood:
        told.append(f"samples were read {twice + facts.flood} times more than a step needs")
    same = len(facts.epochs) - len({each.order for each in facts.epochs})
    if not facts.epochs:
        told.append("no epoch was read")
    if same and not told:
        told.append(f"{same} of {len(facts.epochs)} epochs have the order of an earlier one")
    even = 1 / max(len(facts.shares), 1)
    uneven = bool(facts.shares) and min(facts.shares) < even / 2
    if uneven and not told:
        told.append(f"one rank read {min(facts.shares):.0%} of all samples")
    return Finding(
        expected=f"each of {facts.samples} samples once in each epoch, in another order each time, by all ranks alike",
        observed="; ".join(told) or f"{len(facts.epochs)} epochs, each sample once, each epoch in another order",
        verdict="failed" if told else "passed",
        unit="reads missing or double",
        value=float(missing + twice + facts.flood),
        n=facts.samples * len(facts.epochs),
        hint=None
        if not told
        else "twice"
        if twice + facts.flood >= max(missing, 1)
        else "missing"
        if missing or not facts.epochs
        else "order"
        if same
        else "uneven",
    )


class Step(msgspec.Struct, frozen=True, array_like=True):
    """A step: the losses that ranks reported, and the one that the grader computed of the same samples."""

    step: int
    said: tuple[float, ...]
    true: float


class Mathematics(Facts, frozen=True, kw_only=True):
    """A training beside the same in one process.

    Attributes:
        steps: those that every rank reported.
        planned: how many there should be.
        weights: the largest relative error of each rank's final weights; None for one that handed in none.
    """

    steps: tuple[Step, ...]
    planned: int
    weights: tuple[float | None, ...]


def relative(said: float, true: float) -> float:
    """How far a number is from the true one, in times of that."""
    return abs(said - true) / max(abs(true), 1e-300)


def judge_mathematics(facts: Mathematics, threshold: Thresholds) -> Finding:
    """Whether losses and final weights are those of one process."""
    most = threshold("math_error")
    errors = [max((relative(each, step.true) for each in step.said), default=math.inf) for step in facts.steps]
    worst = max(errors, default=0.0)
    absent = sum(each is None for each in facts.weights) if facts.weights else int(threshold("world_size"))
    final = max((each for each in facts.weights if each is not None), default=0.0)
    first = next((step for step, error in zip(facts.steps, errors, strict=True) if error > most), None)
    told, hint = [], None
    if len(facts.steps) < facts.planned or not facts.steps:
        told.append(f"{len(facts.steps)} of {facts.planned} steps were reported by all ranks")
        hint = "absent"
    if first:
        said = max(first.said, key=lambda each: relative(each, first.true), default=math.nan)
        off = relative(said, first.true)
        true = f"where one process has {first.true:.6g}: off by {off:.1g} of it"
        told.append(f"at step {first.step} the loss is {said:.6g}, {true}")
        hint = hint or ("reporting" if final <= most and not absent else "gradients")
    if absent:
        told.append(f"{absent} ranks handed in no final weights")
        hint = hint or "absent"
    elif final > most:
        told.append(f"final weights are off by {final:.1g} of their size")
        hint = hint or "gradients"
    return Finding(
        expected=f"loss of each step and final weights within {most:g} of those of one process on the same samples",
        observed="; ".join(told) or f"losses within {worst:.1g}, final weights within {final:.1g}",
        verdict="failed" if told else "passed",
        unit="relative error",
        value=max(worst, final),
        n=len(facts.steps),
        hint=hint,
    )


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """Weights after a step: a digest of each rank's, in the order of ranks, and the largest error of any of them.

    The error is None where some are no numbers: JSON has no word for infinity.
    """

    step: int
    digests: tuple[str, ...]
    error: float | None


class Replicas(Facts, frozen=True, kw_only=True):
    """Weights at the steps at which they were asked for, of `ranks` ranks.

    After the steps in `unread` nothing can be compared: no samples were read for one of those up to there.
    """

    asked: tuple[int, ...]
    ranks: int
    seen: tuple[Replica, ...]
    unread: tuple[int, ...] = ()


def judge_replicas(facts: Replicas, threshold: Thresholds) -> Finding:
    """Whether all ranks held the same weights each time, others each time, and the right ones."""
    most, told, hint = threshold("math_error"), [], None
    firsts = [each.digests[0] for each in facts.seen if each.digests]
    if len(set(firsts)) < len(firsts):  # first, as what never changes is also wrong
        told.append("weights do not change from one step to another")
        hint = "frozen"
    for each in facts.seen:
        if len(set(each.digests)) > 1:
            told.append(f"after step {each.step} ranks hold {len(set(each.digests))} different models")
            hint = hint or "apart"
        elif each.error is None or each.error > most:
            off = "no numbers" if each.error is None else f"off by {each.error:.1g} of their size"
            told.append(f"after step {each.step} the weights are {off}")
            hint = hint or "wrong"
    lacking = [step for step in facts.asked if not any(_whole(each, step, facts.ranks) for each in facts.seen)]
    if absent := [step for step in lacking if step not in facts.unread]:
        told.append(f"not all ranks handed in weights after step {', '.join(map(str, absent))}")
        hint = hint or "absent"
    if facts.unread:
        told.append(f"weights after step {', '.join(map(str, facts.unread))} follow from samples that nobody read")
        hint = hint or "unread"
    right = {
        each.digests[0]
        for each in facts.seen
        if any(_whole(each, step, facts.ranks) for step in facts.asked)
        and len(set(each.digests)) == 1
        and each.error is not None
        and each.error <= most
    }
    return Finding(
        expected="the same weights on all ranks at the steps that the grader picks, and others at each",
        observed="; ".join(told[:SHOWN]) or f"the same on {facts.ranks} ranks at {len(facts.seen)} steps",
        verdict="failed" if told else "passed",
        unit="steps",
        value=float(len(right)),
        n=len(facts.asked),
        hint=hint,
    )


def _whole(seen: Replica, step: int, ranks: int) -> bool:
    return seen.step == step and len(seen.digests) == ranks
