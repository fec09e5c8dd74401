"""Late or not, by fixed times: grace, days begun, the two nights on which the clock is set, and what is no deadline."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from graders.lateness import Deadline, Lateness, WrongDeadline, lateness, moment

OCTOBER = Deadline(
    time=datetime(2026, 10, 1, 23, 59), zone="Europe/Berlin", grace_minutes=15, percent_per_day=10, last_day=3
)
DUE = datetime(2026, 10, 1, 21, 59, tzinfo=UTC)


def at(text: str, deadline: Deadline = OCTOBER) -> tuple[int, float]:
    late = lateness(deadline, datetime.fromisoformat(text))
    return late.days, late.percent


def test_a_deadline_is_a_moment_on_the_clock_of_its_zone() -> None:
    assert lateness(OCTOBER, DUE) == Lateness(due=DUE, days=0, percent=0.0)
    with_offset = Deadline(time=datetime(2026, 10, 1, 23, 59, tzinfo=timezone(timedelta(hours=2))))
    assert lateness(with_offset, DUE).due == DUE


@pytest.mark.parametrize(
    ("submitted", "days", "percent"),
    [
        ("2026-09-01T12:00Z", 0, 0),
        ("2026-10-01T21:59Z", 0, 0),
        ("2026-10-01T23:59+02:00", 0, 0),
        ("2026-10-02T00:14+02:00", 0, 0),
        ("2026-10-02T00:14:00.000001+02:00", 1, 10),
        ("2026-10-02T23:59+02:00", 1, 10),
        ("2026-10-02T23:59:00.000001+02:00", 2, 20),
        ("2026-10-02T18:29:00+05:30", 1, 10),
        ("2026-10-04T23:59+02:00", 3, 30),
        ("2026-10-04T23:59:01+02:00", 4, 100),
        ("2027-10-01T23:59+02:00", 365, 100),
    ],
)
def test_each_day_begun_costs_and_after_the_last_nothing_is_left(submitted: str, days: int, percent: float) -> None:
    assert at(submitted) == (days, percent)


def test_a_day_on_which_the_clock_is_set_back_has_25_hours() -> None:
    deadline = msgspec.structs.replace(OCTOBER, time=datetime(2026, 10, 24, 23, 59))
    assert at("2026-10-25T22:59Z", deadline) == (1, 10)  # 25 hours later, when the clock shows 23:59 again
    assert at("2026-10-25T22:59:01Z", deadline) == (2, 20)


def test_a_day_on_which_the_clock_is_set_forward_has_23_hours() -> None:
    deadline = msgspec.structs.replace(OCTOBER, time=datetime(2026, 3, 28, 23, 59))
    assert at("2026-03-29T21:59Z", deadline) == (1, 10)
    assert at("2026-03-29T21:59:01Z", deadline) == (2, 20)
    by_offset = msgspec.structs.replace(deadline, time=datetime.fromisoformat("2026-03-28T23:59+01:00"), zone=None)
    assert at("2026-03-29T22:59Z", by_offset) == (1, 10)


def test_penalties_end_at_all_points_and_a_deadline_without_one_only_tells() -> None:
    steep = msgspec.structs.replace(OCTOBER, percent_per_day=60, last_day=None)
    assert at("2026-10-03T12:00+02:00", steep) == (2, 100)
    free = Deadline(time=OCTOBER.time, zone=OCTOBER.zone)
    assert at("2026-10-03T12:00+02:00", free) == (2, 0)
    strict = msgspec.structs.replace(free, last_day=0)
    assert at("2026-10-02T00:00+02:00", strict) == (1, 100)


def test_what_is_left_of_points_is_rounded_to_the_hundredth() -> None:
    assert Lateness(due=DUE, days=1, percent=12.5).left_of(75) == 65.62
    assert Lateness(due=DUE, days=1, percent=100).left_of(75) == 0
    assert Lateness(due=DUE, days=0, percent=0).left_of(75) == 75


@pytest.mark.parametrize(
    ("time", "zone", "said"),
    [
        (
            "2026-10-01T23:59",
            None,
            "the deadline 2026-10-01T23:59:00 has to have an offset, as in 2026-10-01T23:59:00+02:00, or else a zone; "
            "give one",
        ),
        (
            "2026-10-01T23:59Z",
            "Europe/Berlin",
            "the deadline 2026-10-01T23:59:00 has to have an offset, as in 2026-10-01T23:59:00+02:00, or else a zone; "
            "give one",
        ),
        (
            "2026-10-01T23:59",
            "Europe/Atlantis",
            "the time zone 'Europe/Atlantis' is not known on this machine; take one of IANA's names (Europe/Berlin), "
            "install tzdata, or give the time with its offset",
        ),
        (
            "2026-10-01T23:59",
            "../../etc/passwd",
            "the time zone '../../etc/passwd' is not known on this machine; take one of IANA's names (Europe/Berlin), "
            "install tzdata, or give the time with its offset",
        ),
        (
            "2026-03-29T02:30",
            "Europe/Berlin",
            "the clock at Europe/Berlin never shows 2026-03-29T02:30:00, as it is set forward then; take another time",
        ),
        (
            "2026-10-25T02:30",
            "Europe/Berlin",
            "the clock at Europe/Berlin shows 2026-10-25T02:30:00 twice, as it is set back then; give it with its "
            "offset",
        ),
    ],
)
def test_what_is_no_moment_is_said(time: str, zone: str | None, said: str) -> None:
    with pytest.raises(WrongDeadline) as caught:
        moment(Deadline(time=datetime.fromisoformat(time), zone=zone))
    assert str(caught.value) == said
