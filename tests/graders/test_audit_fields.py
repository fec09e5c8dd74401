"""No field of a stored verdict changes unseen, also with a new manifest; of old runs those that their records hold."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from graders.audit import audit
from graders.lateness import Lateness
from graders.rubric import AT_END, ClusterFacts, Left, Verdict, ended_by, read_verdict
from tests.graders.stored_run import CHECKS, begun, measured
from tests.graders.test_audit import edit, edit_records, found, remake_the_manifest
from tests.graders.verdicts import NOON

VARIANT = {"lab": "01_tiny", "student": "alice", "fingerprint": "ab12", "numbers": {}}
LATE = '{"due":"2026-09-01T12:00:00Z","days":1,"percent":10.0}'
LEFT = '{"namespace":"tiny-x2k4p","kubectl":"gpulab kubectl","remove":"gpulab down"}'


def header(field: str, told: str, known: str) -> tuple[str, str]:
    return "header", f"verdict.json says {field} {told}, and run.jsonl {known}"


def end(field: str, told: str, known: str) -> tuple[str, str]:
    return field, f"verdict.json says {field} {told}, and the end of run.jsonl {known}"


def sums(field: str, told: str, counted: str, of: str = "checks") -> tuple[str, str]:
    return field, f"verdict.json says {field} {told}, and its {of} come to {counted}"


EDITS: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "schema": (
        "other", [("unreadable", "verdict.json has the schema 'other'; this program reads 'gpulab/verdict/v1'")]
    ),
    "lab": ("02_small", [header("lab", '"02_small"', '"01_tiny"')]),
    "title": ("A lab", [header("title", '"A lab"', '"A tiny lab"')]),
    "level": ("L3", [end("level", '"L3"', '"L1"')]),
    "simulated": ([], [end("simulated", "[]", '["GPUs"]')]),
    "machine": (
        {"cpu_model": "fast", "cores": 2, "memory_bytes": 1, "kernel": "6", "python": "3", "versions": {}},
        [
            header(
                "machine",
                '{"cpu_model":"fast","cores":2,"memory_bytes":1,"kernel":"6","python":"3","versions":{}}',
                '{"cpu_model":"cpu","cores":2,"memory_bytes":4096,"kernel":"6.1","python":"3.11.9","versions":{}}',
            )
        ],
    ),
    "grader_version": ("0.2.0", [header("grader_version", '"0.2.0"', '"0.1.0"')]),
    "submission": (
        "ab12",
        [
            header("submission", '"ab12"', '"DIGEST"'),
            ("submission", 'verdict.json is on a submission of digest "ab12", and the copy kept has "DIGEST"'),
        ],
    ),
    "points": (90, [sums("points", "90", "100")]),
    "max_points": (110, [sums("max_points", "110", "100")]),
    "status": ("failed", [sums("status", '"failed"', '"passed"'), end("status", '"failed"', '"passed"')]),
    "reason": ("stop", [sums("status", '"passed"', '"error"'), end("reason", '"stop"', "null")]),
    "started": (
        "2026-08-31T12:00:00Z", [header("started", '"2026-08-31T12:00:00Z"', '"2026-09-01T12:00:00Z"')]
    ),
    "ended": (None, [end("ended", "null", '"2026-09-01T12:00:00Z"')]),
    "traits": ({"backend": "real"}, [end("traits", '{"backend":"real"}', '{"backend":"fake"}')]),
    "checks": (
        [],
        [
            ("check", "run.jsonl has a result of the check 'first', which verdict.json does not list"),
            ("check", "run.jsonl has a result of the check 'second', which verdict.json does not list"),
            sums("points", "100", "0"),
            sums("max_points", "100", "0"),
            sums("status", '"passed"', '"error"'),
            sums("final_points", "90.0", "0.0", "checks and lateness"),
        ],
    ),
    "hint_tiers": (3, [header("hint_tiers", "3", "1")]),
    "lab_digest": ("cd34", [header("lab_digest", '"cd34"', "null")]),
    "flags": (["--hints=3"], [header("flags", '["--hints=3"]', "[]")]),
    "student": ("bob", [header("student", '"bob"', '"alice"')]),
    "variant": (
        VARIANT,
        [
            header(
                "variant",
                '{"format":"gpulab/variant/v1","lab":"01_tiny","student":"alice","fingerprint":"ab12","numbers":{}}',
                "null",
            )
        ],
    ),
    "submitted": (None, [header("submitted", "null", '"2026-09-01T12:00:00Z"')]),
    "attempt": (1, [header("attempt", "1", "2")]),
    "late": (None, [header("late", "null", LATE), sums("final_points", "90.0", "null", "checks and lateness")]),
    "final_points": (100.0, [sums("final_points", "100.0", "90.0", "checks and lateness")]),
    "left": (None, [end("left", "null", LEFT)]),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run that was a day late and was left on its cluster."""
    late = Lateness(due=NOON, days=1, percent=10.0)
    run = begun(tmp_path, student="alice", submitted=NOON, attempt=2, late=late)
    run.left = Left("tiny-x2k4p", "gpulab kubectl", "gpulab down")
    for number in range(2):
        measured(run, number)
    run.finish(NOON, None)
    return run.record.folder


def test_the_run_holds_and_every_field_of_a_verdict_is_tried(folder: Path) -> None:
    assert found(folder) == []
    assert set(EDITS) == set(Verdict.__struct_fields__)


@pytest.mark.parametrize("field", EDITS)
def test_a_field_that_was_edited_is_named_also_with_a_new_manifest(field: str, folder: Path) -> None:
    digest = read_verdict(folder / "verdict.json").submission
    value, said = EDITS[field]
    edit(folder, lambda verdict: verdict.update({field: value}))
    remake_the_manifest(folder)
    assert found(folder) == [(name, text.replace("DIGEST", str(digest))) for name, text in said]


def test_a_verdict_that_is_not_late_any_more_is_named_though_its_points_agree(folder: Path) -> None:
    edit(folder, lambda verdict: verdict.update(late=None, final_points=None))
    remake_the_manifest(folder)
    assert found(folder) == [header("late", "null", LATE)]


def as_old(lines: list[Any]) -> None:
    """Takes away what the end of old runs did not say."""
    for line in lines:
        if line.get("kind") == "end":
            for field in set(AT_END) - {"status", "ended"}:
                del line[field]


def test_an_old_run_is_examined_as_far_as_its_records_go(folder: Path) -> None:
    edit_records(folder, as_old)
    remake_the_manifest(folder)
    assert audit(folder).holds

    edit(folder, lambda verdict: verdict.update(level="L3", final_points=100.0, attempt=1))
    remake_the_manifest(folder)
    assert found(folder) == [
        header("attempt", "1", "2"),
        sums("final_points", "100.0", "90.0", "checks and lateness"),
    ]


def test_what_was_changed_at_the_end_of_the_records_is_named(folder: Path) -> None:
    edit_records(folder, lambda lines: lines[-2].update(simulated=None))
    remake_the_manifest(folder)
    assert found(folder) == [end("simulated", '["GPUs"]', "null")]


def test_facts_that_are_redacted_or_that_json_cannot_say_agree(tmp_path: Path) -> None:
    traits = {"api_key": "abc123def", "share": math.inf, "nodes": ("a", "b")}
    run = begun(tmp_path, facts=lambda: ClusterFacts("L1", (), traits))
    for number in range(2):
        measured(run, number)
    run.finish(NOON, "it ended early: password=hunter2")
    assert found(run.record.folder) == []
    assert b"hunter2" not in (run.record.folder / "run.jsonl").read_bytes()


def test_points_that_a_missing_essential_check_took_are_not_given_back(tmp_path: Path) -> None:
    first = msgspec.structs.replace(CHECKS[0], essential=True)
    run = begun(tmp_path, checks=(first, CHECKS[1]))
    run.settle(ended_by(first, "learner", "Helm refuses it"))
    measured(run, 1)
    run.finish(NOON, None)
    folder = run.record.folder
    assert found(folder) == []

    edit(folder, lambda verdict: (verdict["checks"][1].update(points=40), verdict.update(points=40)))
    remake_the_manifest(folder)
    assert found(folder) == [
        ("points", "the check 'second' is passed with 40 points of 40, and nothing is earned without 'The first'")
    ]

    edit(folder, lambda verdict: verdict["checks"][0].update(essential=False))
    remake_the_manifest(folder)
    assert found(folder) == [("check", "the check 'first' has essential false in verdict.json, true in run.jsonl")]
