"""A course's rules: how many attempts a student has at a lab, and when it is due. Pure but for the files it reads.

Place: `terms` asks it before a run. Limits: attempts are counted from the verdicts that are kept; who removes those
gives attempts back. Two gradings of one student at the same time count as if each were alone.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from graders.errors import GraderError
from graders.lateness import Deadline, WrongDeadline, moment
from graders.rubric import Verdict


class WrongRules(GraderError):
    """A course's rules cannot be read, or lack something."""


class NoAttemptLeft(GraderError):
    """A student has had all attempts; nothing is graded."""


class Attempts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At most so many attempts within the last `hours`; within all time where there are none."""

    most: Annotated[int, msgspec.Meta(ge=1)]
    hours: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rules for a lab; None where there is no limit or no deadline."""

    attempts: Attempts | None = None
    deadline: Deadline | None = None


class RulesFile(Rules, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rules for all labs, and by their name for those where they are others."""

    labs: dict[str, Rules] = {}


def read_rules(file: Path, lab: str, known: Sequence[str]) -> Rules:
    """The rules for a lab.

    Raises:
        WrongRules: the file cannot be read, is wrong, or names a lab that is not among the `known` ones.
        WrongDeadline: a deadline is no moment in time.
    """
    try:
        found = msgspec.toml.decode(file.read_bytes(), type=RulesFile)
    except OSError as error:
        raise WrongRules(f"the rules in {file} cannot be read ({error.strerror}); name another file") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongRules(f"the rules in {file} are wrong: {error}; correct them") from error
    if strange := [name for name in found.labs if name not in known]:
        raise WrongRules(f"the rules in {file} name the lab {strange[0]!r}; the labs are: {', '.join(known)}")
    own = found.labs.get(lab, Rules())
    for each in (found, *found.labs.values()):
        if each.deadline:
            try:
                moment(each.deadline)
            except WrongDeadline as error:
                raise WrongRules(f"the rules in {file} are wrong: {error}") from error
    return Rules(attempts=own.attempts or found.attempts, deadline=own.deadline or found.deadline)


def counted(verdicts: Iterable[Verdict], student: str) -> list[datetime]:
    """When a student's attempts were submitted, in order.

    A run that ended in an error or that could not be decided is none, and neither is one that goes on.
    """
    decided = [each for each in verdicts if each.student == student and each.status in ("passed", "failed")]
    return sorted((each.submitted or each.started).astimezone(UTC) for each in decided if each.ended)


def number_of_attempt(rules: Attempts, earlier: Sequence[datetime], at: datetime, student: str, lab: str) -> int:
    """Which attempt one at that time would be, among those that count then; from 1.

    Args:
        rules: how many there may be.
        earlier: when those that were graded were submitted, some of them perhaps after this one.
        at: when this one was submitted.
        student: whose they are.
        lab: at what.

    Raises:
        NoAttemptLeft: there is none left.
    """
    if rules.hours is None:
        if len(earlier) < rules.most:
            return len(earlier) + 1
        raise NoAttemptLeft(
            f"{student!r} has had {len(earlier)} of {rules.most} attempts at {lab}; no further one is graded"
        )
    window = timedelta(hours=rules.hours)
    counts = _most_within(window, earlier, at)
    if counts < rules.most:
        return sum(at - window < each <= at for each in earlier) + 1
    later = [each + window for each in sorted(earlier) if each + window > at]
    free = next(each for each in later if _most_within(window, earlier, each) < rules.most)
    raise NoAttemptLeft(
        f"{student!r} has had {counts} of {rules.most} attempts at {lab} within {rules.hours:g} hours; the next one is "
        f"graded from {free.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC on"
    )


def _most_within(window: timedelta, earlier: Sequence[datetime], at: datetime) -> int:
    """The most of them in any window that this time falls in; a window's begin is outside of it, its end inside."""
    ends = [at, *(each for each in earlier if at < each < at + window)]
    return max(sum(end - window < each <= end for each in earlier) for end in ends)
