"""The highest load that a server holds, by bisection on a fixed ladder of loads. Pure.

Place: lab checks probe where `next_rung` says until it says None, then read `knee`. Limits: a load that is held is
taken to mean that lower ones are, too. Every rung is probed once at most, at most log2(rungs) + 1 of them are, and
which ones depends on nothing but outcomes.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from graders.errors import HarnessError
from graders.stats import Outcome


class Knee(msgspec.Struct, frozen=True, kw_only=True):
    """Where the knee lies.

    `held` is the highest rung that was proven, None when none was; `not_held` the lowest one above it that was not,
    None when the ladder ends before.
    """

    held: float | None
    not_held: float | None


def next_rung(ladder: Sequence[float], outcomes: Mapping[float, Outcome]) -> float | None:
    """The middle one of the rungs about which the probes so far say nothing, None when there is none.

    Args:
        ladder: the loads, ascending.
        outcomes: of the probes so far; one that is inconclusive counts as not held.

    Raises:
        HarnessError: the ladder does not ascend, or a probe was made off it.
    """
    if not ladder or any(above <= below for below, above in pairwise(ladder)):
        raise HarnessError(f"a ladder of loads has to ascend, and this one is {list(ladder)}; correct it")
    if strange := [rung for rung in outcomes if rung not in ladder]:
        raise HarnessError(f"a load of {strange[0]:g} was probed, which is no rung of {list(ladder)}")
    place = knee(outcomes)
    low = -1 if place.held is None else ladder.index(place.held)
    high = len(ladder) if place.not_held is None else ladder.index(place.not_held)
    return ladder[(low + high) // 2] if high - low > 1 else None


def knee(outcomes: Mapping[float, Outcome]) -> Knee:
    """Where the knee lies after these probes."""
    held = max((rung for rung, outcome in outcomes.items() if outcome == "passed"), default=None)
    above = [rung for rung, outcome in outcomes.items() if outcome != "passed" and (held is None or rung > held)]
    return Knee(held=held, not_held=min(above, default=None))


def decide_knee(outcomes: Mapping[float, Outcome], goal: float) -> Outcome:
    """Whether loads up to `goal` are held: proven at it or above, refuted at it or below, else inconclusive."""
    if any(outcome == "passed" and rung >= goal for rung, outcome in outcomes.items()):
        return "passed"
    if any(outcome == "failed" and rung <= goal for rung, outcome in outcomes.items()):
        return "failed"
    return "inconclusive"
