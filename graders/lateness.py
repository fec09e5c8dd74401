"""When a submission is late, and what that costs. Pure.

Place: `attempts` reads a deadline from a course's rules, the verdict keeps the lateness. Limits: the points of a run
are never changed; what is left of them stands beside them.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from graders.errors import GraderError

DAY = timedelta(days=1)


class WrongDeadline(GraderError):
    """A deadline is no moment in time."""


class Deadline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Until when a submission is in time, and what each day costs after that.

    `time` has an offset, or is the clock's at `zone` (IANA's name). Until `grace_minutes` later a submission is in time
    all the same. After that each day begun takes `percent_per_day` of the points off, and what comes after `last_day`
    days takes all; None: nothing ever does so.
    """

    time: datetime
    zone: str | None = None
    grace_minutes: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    percent_per_day: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.0
    last_day: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Lateness(msgspec.Struct, frozen=True, kw_only=True):
    """How late a submission is: when it was due (UTC), days begun since (0 is in time), and percent of points taken."""

    due: datetime
    days: int
    percent: float

    def left_of(self, points: float) -> float:
        """What is left of points, to the hundredth."""
        return round(points * (100.0 - self.percent) / 100.0, 2)


def moment(deadline: Deadline) -> datetime:
    """The deadline, in its own zone.

    Raises:
        WrongDeadline: it has an offset and a zone or neither, the zone is not known, or its clock never shows that
            time, or shows it twice.
    """
    shown, zone = f"{deadline.time:%Y-%m-%dT%H:%M:%S}", deadline.zone
    if (deadline.time.tzinfo is None) == (zone is None):
        raise WrongDeadline(
            f"the deadline {shown} has to have an offset, as in {shown}+02:00, or else a zone; give one"
        )
    if zone is None:
        return deadline.time
    try:
        there = deadline.time.replace(tzinfo=ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise WrongDeadline(
            f"the time zone {zone!r} is not known on this machine; take one of IANA's names (Europe/Berlin), install "
            "tzdata, or give the time with its offset"
        ) from error
    if there.astimezone(UTC).astimezone(there.tzinfo).replace(tzinfo=None) != deadline.time:
        raise WrongDeadline(f"the clock at {zone} never shows {shown}, as it is set forward then; take another time")
    if there.utcoffset() != there.replace(fold=1).utcoffset():
        raise WrongDeadline(f"the clock at {zone} shows {shown} twice, as it is set back then; give it with its offset")
    return there


def lateness(deadline: Deadline, submitted: datetime) -> Lateness:
    """How late a submission of that moment is. A day ends when the clock of the deadline's zone shows its time again.

    Raises:
        WrongDeadline: as `moment`.
    """
    due, at = moment(deadline), submitted.astimezone(UTC)
    utc = due.astimezone(UTC)
    if at <= utc + timedelta(minutes=deadline.grace_minutes):
        return Lateness(due=utc, days=0, percent=0.0)
    days = max(1, math.ceil((at - utc) / DAY) - 1)  # one day fewer than by the stopwatch: a day may have 25 hours
    while (due + days * DAY).astimezone(UTC) < at:
        days += 1
    cut = deadline.last_day is not None and days > deadline.last_day
    return Lateness(due=utc, days=days, percent=100.0 if cut else min(100.0, days * deadline.percent_per_day))
