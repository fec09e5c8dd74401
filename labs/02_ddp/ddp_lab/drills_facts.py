"""What a submission said of faults that were planted into its training, and how that is judged. Pure.

Place: `drills` measures these facts, judges.py names the judge. Limits: what counts is diagnosis.json, which a pod
leaves behind as its termination message.
"""

from typing import Literal

import msgspec

from graders.judging import Facts, Thresholds
from graders.rubric import Finding

UNREAD = 80
"""As many characters of what is no diagnosis are told."""


class Diagnosis(msgspec.Struct, frozen=True):
    """What diagnosis.json says: the fault, the rank that has it, and words for a person."""

    fault: str
    rank: int
    said: str = ""


class Drilled(msgspec.Struct, frozen=True, kw_only=True):
    """One planted fault.

    Attributes:
        fault: as diagnosis.json is to name it.
        rank: that has it.
        seconds: from the moment at which it could first be seen to the end of the Job; None where it did not end.
        said: what pods left behind that was no diagnosis, and the diagnoses, in the order of pods.
        unread: termination messages that are no diagnosis.
    """

    fault: str
    rank: int
    seconds: float | None
    said: tuple[Diagnosis, ...]
    unread: tuple[str, ...] = ()

    def state(self, within: float) -> Literal["named", "endless", "silent", "wrong"]:
        """Whether it was named in time, by at least one pod and otherwise by none."""
        if self.seconds is None or self.seconds > within:
            return "endless"
        if not self.said:
            return "silent"
        right = all(each.fault == self.fault and each.rank == self.rank for each in self.said)
        return "named" if right else "wrong"

    def words(self, within: float) -> str:
        """What came of it, without giving away more than the learner's own words."""
        state = self.state(within)
        if state == "named":
            return f"{self.fault} of rank {self.rank} named after {self.seconds:.0f} s"
        if state == "endless":
            return f"{self.fault} of rank {self.rank}: the run did not end within {within:g} s"
        if state == "silent":
            left = f", but {self.unread[0][:UNREAD]!r}" if self.unread else ""
            return f"{self.fault} of rank {self.rank}: no diagnosis.json that can be read{left}"
        said = ", ".join(f"{each.fault} of rank {each.rank}" for each in self.said)
        return f"{self.fault} of rank {self.rank} was called {said}"


class Drills(Facts, frozen=True, kw_only=True):
    """All planted faults of one try."""

    drills: tuple[Drilled, ...]


def judge_drills(facts: Drills, threshold: Thresholds) -> Finding:
    """Whether every fault ended the run in time and was named with its rank."""
    within = threshold("drill_seconds")
    states = [each.state(within) for each in facts.drills]
    named = states.count("named")
    hints = [state for state in ("endless", "silent", "wrong") if state in states]
    return Finding(
        expected=f"{len(states)} planted faults each end the run within {within:g} s and are named with their rank",
        observed="; ".join(each.words(within) for each in facts.drills) or "no fault was planted",
        verdict="passed" if states and named == len(states) else "failed",
        unit="faults named",
        value=float(named),
        n=len(states),
        hint=hints[0] if hints else None,
    )
