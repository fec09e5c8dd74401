"""What happened when: bars and points in percent of a run, in the order in which they began."""

from datetime import timedelta
from pathlib import Path

from graders.html.evidence import read
from graders.html.timeline import MOST_EVENTS, Mark, Row, timeline
from graders.rubric import CheckResult
from tests.graders.verdicts import NOON
from tests.html.runs import even, load_run, store


def check(name: str, *, seconds: float | None = None, evidence: tuple[str, ...] = ()) -> CheckResult:
    return CheckResult(
        id=name, title=name.title(), status="passed", points=5, max_points=5, seconds=seconds, evidence=evidence
    )


def test_checks_loads_and_events_are_on_one_scale(tmp_path: Path) -> None:
    begun = NOON.timestamp()
    loads = {
        "a-submission.jsonl": load_run(even(2, 1.0), streams=1, started_at=begun + 20).encode(),
        "warm-up-submission.jsonl": load_run(even(2, 1.0), streams=1, started_at=begun + 5).encode(),
    }
    checks = [check("first", seconds=10), check("second", seconds=40, evidence=("evidence/a-submission.jsonl",))]
    store(tmp_path / "run", checks, loads, events=[(30.0, "a pod is deleted")], seconds=100)
    first, others, second, event = timeline(read(tmp_path / "run"))
    assert first == Row("First", "0:00 to 0:10", (Mark("check", 0.0, 10.0),), "passed")
    assert (others.what, others.when, [mark.kind for mark in others.marks]) == (
        "Other load runs",
        "0:05 to 0:10",
        ["others", "load"],
    )
    assert second == Row("Second", "0:10 to 0:50", (Mark("check", 10.0, 40.0), Mark("load", 20.0, 4.5)), "passed")
    assert event == Row("a pod is deleted", "0:30", (Mark("event", 30.0, 0.0),), None)


def test_a_check_without_times_is_as_long_as_its_loads_and_else_left_out(tmp_path: Path) -> None:
    loads = {"a-submission.jsonl": load_run(even(2, 1.0), streams=1, started_at=NOON.timestamp() + 50).encode()}
    checks = [check("first"), check("second", evidence=("evidence/a-submission.jsonl",))]
    store(tmp_path / "run", checks, loads, seconds=100)
    (second,) = timeline(read(tmp_path / "run"))
    assert (second.what, second.marks[0]) == ("Second", Mark("check", 50.0, 4.5))


def test_clocks_that_disagree_do_not_lead_out_of_the_picture(tmp_path: Path) -> None:
    loads = {"a-submission.jsonl": load_run(even(2, 1.0), streams=1, started_at=0.0).encode()}
    store(tmp_path / "run", [check("first", evidence=("evidence/a-submission.jsonl",))], loads, seconds=100)
    (row,) = timeline(read(tmp_path / "run"))
    assert (row.when, row.marks[0]) == ("0:00 to 0:00", Mark("check", 0.0, 0.0))


def test_many_events_are_counted(tmp_path: Path) -> None:
    events = [(float(place), f"event {place}") for place in range(MOST_EVENTS + 5)]
    store(tmp_path / "run", [check("first", seconds=1)], events=events)
    rows = timeline(read(tmp_path / "run"))
    assert len(rows) == 1 + MOST_EVENTS + 1
    assert rows[-1].what == "5 more events are in the record"


def test_a_run_of_which_no_times_are_known_has_no_timeline(tmp_path: Path) -> None:
    verdict = store(tmp_path / "run", [check("first")])
    assert verdict.ended == NOON + timedelta(seconds=120)
    assert timeline(read(tmp_path / "run")) == ()
