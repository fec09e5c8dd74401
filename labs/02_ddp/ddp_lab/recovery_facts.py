"""What is known of a training that lost a process, a pod or a node, and how that is judged. Pure.

Place: `recovery` measures these facts, judges.py names the judges. Limits: times are the data service's, which hears of
a process when it joins, meets others, and reports a step.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from ddp_lab.proof_facts import Step, relative
from graders.judging import Facts, Thresholds
from graders.rubric import Finding

What = Literal["process", "pod", "node"]
WORDS = {"process": "a killed process", "pod": "a deleted pod", "node": "a lost node"}


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """One loss, and what came after it; times in seconds since, None for what did not come.

    Attributes:
        what: was lost.
        rank: of it.
        step: the last that all ranks had reported before.
        saving: whether a checkpoint was being written at that moment.
        noticed: until any process joined anew, which somebody had noticed by then.
        joined: until who was lost was there again.
        met: until all ranks had met again.
        first: until a step was reported that had not been reported before.
        again: steps that were done a second time.
        problem: what was seen where there was no new step in time.
    """

    what: What
    rank: int
    step: int
    saving: bool = False
    noticed: float | None = None
    joined: float | None = None
    met: float | None = None
    first: float | None = None
    again: int = 0
    problem: str = ""

    def words(self) -> str:
        """The loss and its aftermath in a phrase."""
        if self.first is None:
            return f"{WORDS[self.what]} of rank {self.rank}: no new step{self.problem}"
        parts = [f"{name} {seconds:.1f} s" for name, seconds in self._times() if seconds is not None]
        return f"{WORDS[self.what]} of rank {self.rank}: {', '.join(parts)}, {self.again} steps again"

    def _times(self) -> tuple[tuple[str, float | None], ...]:
        after = (("joined after", self.joined), ("met after", self.met), ("a new step after", self.first))
        return (("noticed within", self.noticed), *after)


class Recovery(Facts, frozen=True, kw_only=True):
    """A training and what it lost.

    Attributes:
        losses: in the order in which they came.
        steps: every step as it was done last: losses that ranks reported, and what one unbroken process has.
        draws: random numbers that ranks reported, of as many steps, and how many of them an unbroken run draws.
        planned: steps that the training was to make, 0 while it goes on.
        missing: samples that nobody read in an epoch that is over, summed over epochs.
        twice: samples that were read more than once in one, as often as they were too many, reads done again left out.
        weights: the largest error of any rank's final weights; None while it goes on, and where some are no numbers.
        complete: whether its Job completed; None while it goes on.
        problem: why there is nothing to look at, or None.
    """

    losses: tuple[Loss, ...]
    steps: tuple[Step, ...] = ()
    draws: tuple[int, int] = (0, 0)
    planned: int = 0
    missing: int = 0
    twice: int = 0
    weights: float | None = None
    complete: bool | None = None
    problem: str | None = None


LIMITS: dict[What, str] = {"process": "process_seconds", "pod": "pod_seconds", "node": "node_seconds"}


def judge_process(facts: Recovery, threshold: Thresholds) -> Finding:
    """Whether training went on after a process was killed while it saved, from the checkpoint before."""
    limit = threshold("process_seconds")
    return _judged(facts, threshold, f"a new step within {limit:g} s after a process was killed while it saved")


def judge_pod(facts: Recovery, threshold: Thresholds) -> Finding:
    """Whether training went on after a pod and after a node was lost, and ended as if nothing had been."""
    pod, node = threshold("pod_seconds"), threshold("node_seconds")
    return _judged(facts, threshold, f"a new step within {pod:g} s after a pod and {node:g} s after a node was lost")


def _judged(facts: Recovery, threshold: Thresholds, expected: str) -> Finding:
    again = threshold("steps_again")
    expected += f", at most {again:g} steps again, and losses as in one unbroken run"
    if facts.problem or not facts.losses:
        said = facts.problem or "nothing was lost"
        return Finding(expected=expected, observed=said, verdict="failed", hint="gone" if facts.losses else "stuck")
    told = [loss.words() for loss in facts.losses]
    hint = _late(facts, threshold)
    for text, reason in _astray(facts, threshold("math_error")):
        told.append(text)
        hint = hint or reason
    if facts.planned and len(facts.steps) < facts.planned and hint is None:
        told.append(f"{len(facts.steps)} of {facts.planned} steps were reported by all ranks")
        hint = "gone"
    if facts.complete is False and hint is None:
        told.append("the Job did not complete")
        hint = "gone"
    slowest = max((loss.first for loss in facts.losses if loss.first is not None), default=None)
    return Finding(
        expected=expected,
        observed="; ".join(told),
        verdict="failed" if hint else "passed",
        unit="s",
        value=slowest,
        n=len(facts.losses),
        hint=hint,
    )


def _late(facts: Recovery, threshold: Thresholds) -> str | None:
    """The hint for a training that did not go on, or late, or from too far back."""
    if any(loss.first is None for loss in facts.losses):
        return "gone"
    if any(loss.first > threshold(LIMITS[loss.what]) for loss in facts.losses if loss.first is not None):
        return "slow"
    return "from_the_start" if any(loss.again > threshold("steps_again") for loss in facts.losses) else None


def _astray(facts: Recovery, most: float) -> Iterator[tuple[str, str]]:
    """What went on as another training, or could not be looked at: in words, and its hint."""
    if any(loss.what == "process" and not loss.saving for loss in facts.losses):
        yield "no rank opened a file in the folder of checkpoints, so none was killed while it saved", "unsaved"
    wrong = [step for step in facts.steps if any(relative(said, step.true) > most for said in step.said)]
    if wrong:
        yield f"from step {wrong[0].step} on losses are others than in one unbroken run", "state"
    if facts.missing or facts.twice:
        yield f"in whole epochs {facts.missing} samples were never read, {facts.twice} more than once", "state"
    if facts.planned and len(facts.steps) == facts.planned and facts.weights is None:
        yield "not all ranks handed in final weights that can be compared", "state"
    if facts.weights is not None and facts.weights > most:
        yield f"final weights are off by {facts.weights:.1g} of their size", "state"
    right, steps = facts.draws
    if right < steps:
        yield f"{steps - right} of {steps} steps drew other random numbers", "random"
