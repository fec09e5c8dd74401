"""What happened when: bars and points in percent of a run, in the order in which they began."""

from datetime import timedelta
from pathlib import Path

import msgspec

from graders.html.evidence import read
from graders.html.timeline import MOST_EVENTS, MOST_OBJECTS, Mark, Row, timeline
from graders.rubric import CheckResult
from tests.graders.verdicts import NOON, result
from tests.html.runs import even, load_run, store


def check(name: str, *, seconds: float | None = None, evidence: tuple[str, ...] = ()) -> CheckResult:
    return result(name, "passed", 5, seconds=seconds, evidence=evidence)


def test_checks_loads_and_events_are_on_one_scale(tmp_path: Path) -> None:
    begun = NOON.timestamp()
    loads = {
        "a-submission.jsonl": load_run(even(2, 1.0), streams=1, started_at=begun + 20).encode(),
        "warm-up-submission.jsonl": load_run(even(2, 1.0), streams=1, started_at=begun + 5).encode(),
    }
    checks = [check("first", seconds=10), check("second", seconds=40, evidence=("evidence/a-submission.jsonl",))]
    store(tmp_path / "run", checks, loads, events=[(30.0, "a pod is deleted")], seconds=100)
    first, others, second, event = timeline(read(tmp_path / "run")).rows
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
    (second,) = timeline(read(tmp_path / "run")).rows
    assert (second.what, second.marks[0]) == ("Second", Mark("check", 50.0, 4.5))


def test_clocks_that_disagree_do_not_lead_out_of_the_picture(tmp_path: Path) -> None:
    loads = {"a-submission.jsonl": load_run(even(2, 1.0), streams=1, started_at=0.0).encode()}
    store(tmp_path / "run", [check("first", evidence=("evidence/a-submission.jsonl",))], loads, seconds=100)
    (row,) = timeline(read(tmp_path / "run")).rows
    assert (row.when, row.marks[0]) == ("0:00 to 0:00", Mark("check", 0.0, 0.0))


def test_many_events_are_counted(tmp_path: Path) -> None:
    events = [(float(place), f"event {place}") for place in range(MOST_EVENTS + 5)]
    store(tmp_path / "run", [check("first", seconds=1)], events=events)
    rows = timeline(read(tmp_path / "run")).rows
    assert len(rows) == 1 + MOST_EVENTS + 1
    assert rows[-1].what == "5 more events are in the record"


def test_a_run_of_which_no_times_are_known_has_no_timeline(tmp_path: Path) -> None:
    verdict = store(tmp_path / "run", [check("first")])
    assert verdict.ended == NOON + timedelta(seconds=120)
    assert timeline(read(tmp_path / "run")).rows == ()


def told(*events: tuple[float, float, int, str, str, str]) -> bytes:
    """Events as a run keeps them: first, last, count, type, reason, name of the pod."""
    lines = [
        {
            "first": NOON + timedelta(seconds=first),
            "last": NOON + timedelta(seconds=last),
            "count": count,
            "type": kind,
            "reason": reason,
            "kind": "Pod",
            "name": name,
            "message": "words",
            "node": None,
        }
        for first, last, count, kind, reason, name in events
    ]
    return msgspec.json.Encoder().encode_lines([{"format": "gpulab/events/v1"}, *lines])


def test_what_kubernetes_told_is_a_row_for_each_object(tmp_path: Path) -> None:
    events = told(
        (10, 10, 1, "Normal", "Scheduled", "a"),
        (5, 5, 1, "Normal", "Scheduled", "b"),
        (20, 50, 7, "Warning", "Unhealthy", "a"),
        (60, 60, 1, "Normal", "Unhealthy", "a"),
    )
    store(tmp_path / "run", [check("first", seconds=1)], {"cluster/events.jsonl": events}, seconds=100)
    found = timeline(read(tmp_path / "run"))
    assert found.warned == 1
    assert found.objects == (
        Row("Pod b: Scheduled", "0:05", (Mark("object", 5.0, 0.0), Mark("event", 5.0, 0.0)), None),
        Row(
            "Pod a: Scheduled, Unhealthy 8 times",
            "0:10 to 1:00",
            (
                Mark("object", 10.0, 50.0),
                Mark("event", 10.0, 0.0),
                Mark("warning", 20.0, 0.0),
                Mark("warning", 50.0, 0.0),
                Mark("event", 60.0, 0.0),
            ),
            "failed",
        ),
    )


def test_of_many_objects_those_with_warnings_are_shown(tmp_path: Path) -> None:
    calm = [(place, place, 1, "Normal", "Scheduled", f"pod-{place:02}") for place in range(MOST_OBJECTS + 3)]
    events = told(*calm, (99, 99, 1, "Warning", "BackOff", "troubled"))
    store(tmp_path / "run", [check("first", seconds=1)], {"cluster/events.jsonl": events})
    *rows, last = timeline(read(tmp_path / "run")).objects
    assert (len(rows), rows[-1].what) == (MOST_OBJECTS, "Pod troubled: BackOff")
    assert last.what == "4 more objects are in the evidence"
