"""What a submission's values use and may set, as facts of a lab's first check, and how they are judged. Pure.

Place: a lab's own code counts what its values use; its judges.py names `judge_budget`. Limits: values are judged as
they are joined when the submission is graded; who says nothing of memory gets all that is given.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from graders.allowance import Use, at, most, overdrawn, says
from graders.judging import Facts, Thresholds
from graders.rubric import Finding

GIBI = 2.0**30


class Used(msgspec.Struct, frozen=True):
    """How much of something values ask for, in the unit that `what` names.

    `used` is None where that is without bound; `budget` is the threshold's name; `as_given` says that it is no less
    than what is given; with less than `least` there is nothing to grade.
    """

    what: str
    used: float | None
    budget: str
    as_given: bool = False
    least: float = 0.0

    def amount(self, given: float) -> float:
        """How much it is, where so much is given."""
        return max(math.inf if self.used is None else self.used, given if self.as_given else 0.0)


def memory(own: Mapping[str, Any], joined: Mapping[str, Any], budget: str) -> Used:
    """What a pod may use of memory, in GiB; null takes the limit away that who says nothing of it gets.

    Args:
        own: a submission's values.
        joined: all values of its release.
        budget: the threshold's name.

    Raises:
        SubmissionError: they hold no quantity.
    """
    limited = says(own, "resources", "limits", "memory")
    endless = limited and at(joined, "resources", "limits", "memory") is None
    used = None if endless else most(joined if limited else own, "memory") / GIBI
    return Used("GiB of memory a pod", used, budget, not limited)


class Budget(Facts, frozen=True, kw_only=True):
    """Names of values that are not the submission's to set, and what all values use."""

    foreign: tuple[str, ...]
    uses: tuple[Used, ...]


def judge_budget(facts: Budget, threshold: Thresholds) -> Finding:
    """Whether a submission keeps to its own values, and uses no more than is given and no less than is needed."""
    uses = [Use(each.what, each.amount(given), given) for each in facts.uses for given in [threshold(each.budget)]]
    over = overdrawn(uses)
    lacking = [(use, each.least) for use, each in zip(uses, facts.uses, strict=True) if use.used < each.least]
    told = [f"{name} is not yours to set" for name in facts.foreign]
    told += [f"{use.used:g} {use.what}, where {use.given:g} are given" for use in over]
    told += [f"{use.used:g} {use.what}, where at least {least:g} is needed" for use, least in lacking]
    return Finding(
        expected="values of the learner's only, and at most " + ", ".join(f"{use.given:g} {use.what}" for use in uses),
        observed="; ".join(told) or ", ".join(f"{use.used:g} {use.what}" for use in uses),
        verdict="failed" if told else "passed",
        unit="rules kept",
        value=1.0 - (len(over) + len(lacking)) / len(uses),
        n=len(uses),
        hint="not_yours" if facts.foreign else "too_much" if over else "too_little" if lacking else None,
    )
