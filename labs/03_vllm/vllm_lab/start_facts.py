"""What a submission's values use and whether its server came up, and how that is judged. Pure.

Place: `start` measures these facts, judges.py names the judges. Limits: values are judged as they are joined when the
submission is graded; who says nothing of memory gets as much as is given, however much that is.
"""

import math

import msgspec

from graders.allowance import Use, overdrawn
from graders.judging import Facts, Thresholds
from graders.rubric import Finding

NEEDED = {"budget_replicas": 1.0}
"""What there has to be at least, by the name of its budget: nobody answers where no server is."""


class Used(msgspec.Struct, frozen=True):
    """How much of something values ask for, in the unit that `what` names.

    `used` is None where that is without bound; `budget` is the threshold's name; `as_given` says that it is no less
    than what is given.
    """

    what: str
    used: float | None
    budget: str
    as_given: bool = False

    def amount(self, given: float) -> float:
        """How much it is, where so much is given."""
        return max(math.inf if self.used is None else self.used, given if self.as_given else 0.0)


class Budget(Facts, frozen=True, kw_only=True):
    """Names of values that are not the submission's to set, and what all values use."""

    foreign: tuple[str, ...]
    uses: tuple[Used, ...]


def judge_budget(facts: Budget, threshold: Thresholds) -> Finding:
    """Whether a submission keeps to its own values, and uses no more than is given and no less than is needed."""
    uses = [Use(each.what, each.amount(given), given) for each in facts.uses for given in [threshold(each.budget)]]
    over = overdrawn(uses)
    needs = {each.what: NEEDED.get(each.budget, 0.0) for each in facts.uses}
    lacking = [use for use in uses if use.used < needs[use.what]]
    told = [f"{name} is not yours to set" for name in facts.foreign]
    told += [f"{use.used:g} {use.what}, where {use.given:g} are given" for use in over]
    told += [f"{use.used:g} {use.what}, where at least {needs[use.what]:g} is needed" for use in lacking]
    return Finding(
        expected="values of the learner's only, and at most " + ", ".join(f"{use.given:g} {use.what}" for use in uses),
        observed="; ".join(told) or ", ".join(f"{use.used:g} {use.what}" for use in uses),
        verdict="failed" if told else "passed",
        unit="rules kept",
        value=1.0 - len([*over, *lacking]) / len(uses),
        n=len(uses),
        hint="not_yours" if facts.foreign else "too_much" if over else "too_little" if lacking else None,
    )


class Start(Facts, frozen=True, kw_only=True):
    """How long both sides took to serve; or what the submission's problem was, and of what kind."""

    seconds: float | None
    problem: str | None = None
    kind: str | None = None


def judge_start(facts: Start, _: Thresholds) -> Finding:
    """Whether both sides served."""
    expected = "the server is ready and answers at /health"
    if facts.seconds is None:
        return Finding(expected=expected, observed=facts.problem or "", verdict="failed", hint=facts.kind)
    return Finding(
        expected=expected,
        observed=f"both sides served after {facts.seconds:.0f} s",
        verdict="passed",
        unit="s",
        value=facts.seconds,
        n=1,
    )
