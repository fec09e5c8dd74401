"""Which runs are attempts, how many are left, and rules that cannot be read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from graders.attempts import Attempts, NoAttemptLeft, Rules, WrongRules, counted, number_of_attempt, read_rules
from graders.errors import HarnessError
from graders.lateness import Deadline
from graders.rubric import Status, Verdict, read_verdicts, write_verdict
from tests.graders.verdicts import NOON, verdict_on

RULES = """
[attempts]
most = 5
hours = 24

[deadline]
time = 2026-10-01T23:59:00
zone = "Europe/Berlin"
grace_minutes = 15
percent_per_day = 10
last_day = 3

[labs.03_vllm.attempts]
most = 2

[labs.02_ddp.deadline]
time = 2026-11-01T12:00:00Z
"""
LABS = ("02_ddp", "03_vllm")


def run(student: str | None, status: Status, hour: int, *, ended: bool = True) -> Verdict:
    started = NOON + timedelta(hours=hour)
    return verdict_on((), status=status, student=student, started=started, ended=started if ended else None)


def hours(found: list[datetime]) -> list[float]:
    return [(each - NOON) / timedelta(hours=1) for each in found]


def test_only_what_was_decided_is_an_attempt_of_the_one_whose_it_is() -> None:
    runs = [
        run("alice", "failed", 9),
        run("alice", "passed", 1),
        run("alice", "error", 2),
        run("alice", "inconclusive", 3),
        run("alice", "failed", 4, ended=False),
        run("bob", "failed", 5),
        run(None, "failed", 6),
        run("Alice", "failed", 7),
    ]
    assert hours(counted(runs, "alice")) == [1, 9]


def test_a_run_counts_from_when_it_was_submitted_where_that_is_known() -> None:
    late_graded = msgspec.structs.replace(run("alice", "failed", 50), submitted=NOON - timedelta(hours=2))
    assert hours(counted([late_graded], "alice")) == [-2]


def test_attempts_are_numbered_until_there_are_none_left() -> None:
    earlier = [NOON, NOON + timedelta(hours=1)]
    at = NOON + timedelta(hours=2)
    assert number_of_attempt(Attempts(most=3), earlier, at, "alice", "03_vllm") == 3
    with pytest.raises(NoAttemptLeft) as caught:
        number_of_attempt(Attempts(most=2), earlier, at, "alice", "03_vllm")
    assert str(caught.value) == "'alice' has had 2 of 2 attempts at 03_vllm; no further one is graded"


def test_attempts_come_back_when_the_window_has_passed() -> None:
    earlier = [NOON + timedelta(hours=hour) for hour in (0, 1, 2)]
    rules = Attempts(most=2, hours=24)
    with pytest.raises(NoAttemptLeft) as caught:
        number_of_attempt(rules, earlier, NOON + timedelta(hours=3), "alice", "03_vllm")
    assert str(caught.value) == (
        "'alice' has had 3 of 2 attempts at 03_vllm within 24 hours; the next one is graded from 2026-09-02 13:00:00 "
        "UTC on"
    )
    assert number_of_attempt(rules, earlier, NOON + timedelta(hours=25), "alice", "03_vllm") == 2
    assert number_of_attempt(rules, earlier, NOON + timedelta(hours=26), "alice", "03_vllm") == 1


def test_an_attempt_graded_after_later_ones_is_counted_with_those_around_it() -> None:
    later = [NOON + timedelta(hours=hour) for hour in (20, 22, 50)]
    assert number_of_attempt(Attempts(most=3, hours=24), later, NOON, "alice", "03_vllm") == 1
    assert number_of_attempt(Attempts(most=1, hours=24), later[2:], NOON, "alice", "03_vllm") == 1
    with pytest.raises(NoAttemptLeft) as caught:
        number_of_attempt(Attempts(most=2, hours=24), later, NOON, "alice", "03_vllm")
    assert str(caught.value) == (
        "'alice' has had 2 of 2 attempts at 03_vllm within 24 hours; the next one is graded from 2026-09-03 08:00:00 "
        "UTC on"
    )


def test_rules_are_the_labs_own_or_else_the_courses(tmp_path: Path) -> None:
    file = tmp_path / "course.toml"
    file.write_text(RULES)
    course = Deadline(
        time=datetime(2026, 10, 1, 23, 59), zone="Europe/Berlin", grace_minutes=15, percent_per_day=10, last_day=3
    )
    assert read_rules(file, "03_vllm", LABS) == Rules(attempts=Attempts(most=2), deadline=course)
    assert read_rules(file, "02_ddp", LABS) == Rules(
        attempts=Attempts(most=5, hours=24), deadline=Deadline(time=datetime(2026, 11, 1, 12, tzinfo=UTC))
    )
    file.write_text("")
    assert read_rules(file, "03_vllm", LABS) == Rules()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("most = 5", "most = 0", "are wrong: Expected `int` >= 1 - at `$.attempts.most`; correct them"),
        ("hours = 24", "days = 1", "are wrong: Object contains unknown field `days` - at `$.attempts`; correct them"),
        (
            "percent_per_day = 10",
            "percent_per_day = 101",
            "are wrong: Expected `float` <= 100.0 - at `$.deadline.percent_per_day`; correct them",
        ),
        (
            '"Europe/Berlin"',
            '"Berlin"',
            "are wrong: the time zone 'Berlin' is not known on this machine; take one of IANA's names (Europe/Berlin), "
            "install tzdata, or give the time with its offset",
        ),
        ("labs.02_ddp", "labs.2_ddp", "name the lab '2_ddp'; the labs are: 02_ddp, 03_vllm"),
    ],
)
def test_a_mistake_in_the_rules_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "course.toml"
    file.write_text(RULES.replace(old, new))
    with pytest.raises(WrongRules) as caught:
        read_rules(file, "03_vllm", LABS)
    assert str(caught.value) == f"the rules in {file} {said}"


def test_rules_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(WrongRules) as caught:
        read_rules(tmp_path / "none.toml", "03_vllm", LABS)
    assert str(caught.value) == (
        f"the rules in {tmp_path}/none.toml cannot be read (No such file or directory); name another file"
    )


def test_kept_verdicts_are_read_and_a_broken_one_is_not_passed_over(tmp_path: Path) -> None:
    kept = {"a": run("alice", "failed", 2), "b": run("alice", "failed", 1)}
    for name, verdict in kept.items():
        (tmp_path / name).mkdir()
        write_verdict(verdict, tmp_path / name / "verdict.json")
    (tmp_path / "no-run").mkdir()
    assert read_verdicts(tmp_path) == list(kept.items())
    assert hours(counted(kept.values(), "alice")) == [1, 2]
    assert read_verdicts(tmp_path / "none") == []
    (tmp_path / "a/verdict.json").write_text("{}")
    with pytest.raises(HarnessError) as caught:
        read_verdicts(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/a/verdict.json is not a verdict that can be read: Object missing required field `lab`; grade the "
        "submission again"
    )
