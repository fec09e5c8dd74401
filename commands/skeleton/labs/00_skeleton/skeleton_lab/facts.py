"""Facts of each check and what they come to: a struct that is kept, and a pure function that judges it by lab.toml.

Place: test_skeleton.py measures the facts, `judges` says whose they are. Limits: nothing here asks a cluster, so that
stored runs can be judged again (docs/rescore.md).
"""

from graders.judging import Facts, Thresholds
from graders.pods import Trouble
from graders.rubric import Finding


class Budget(Facts, frozen=True, kw_only=True):
    """What a submission asks for: replicas, and the names of values that are not its to set."""

    replicas: float
    foreign: tuple[str, ...]


class Ready(Facts, frozen=True, kw_only=True):
    """How many servers were ready; or, where none served, what was said of it and what it is in a word."""

    servers: int
    seconds: float
    problem: str | None = None
    kind: Trouble | None = None


def judge_budget(facts: Budget, threshold: Thresholds) -> Finding:
    """Whether a submission sets what is its own, and asks for no more than is given."""
    given = threshold("budget_replicas")
    told = [f"{name} is not yours to set" for name in facts.foreign]
    told += [f"{facts.replicas:g} replicas, where {given:g} are given"] if facts.replicas > given else []
    return Finding(
        expected=f"values of the learner's only, and at most {given:g} replicas",
        observed="; ".join(told) or f"{facts.replicas:g} replicas",
        verdict="failed" if told else "passed",
        unit="replicas",
        value=facts.replicas,
        n=1,
        hint="not_yours" if facts.foreign else "too_much" if told else None,
    )


def judge_ready(facts: Ready, threshold: Thresholds) -> Finding:
    """Whether enough servers were ready."""
    wanted = threshold("ready_replicas")
    enough = facts.servers >= wanted
    return Finding(
        expected=f"at least {wanted:g} servers are ready within {facts.seconds:g} s",
        observed=facts.problem or f"{facts.servers} of them are ready",
        verdict="passed" if enough else "failed",
        unit="servers",
        value=float(facts.servers),
        n=1,
        hint=None if enough else facts.kind or "few",
    )
