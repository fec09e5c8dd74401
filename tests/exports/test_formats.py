"""Every format, whole or held to its published schema, and what is refused.

ctrf-schema-0.0.json is of the npm package ctrf 0.3.0, junit-10.xsd of pytest 9.2.0 (from Jenkins' xUnit plugin); both
are under the MIT licence. Gradescope, PrairieLearn and GitHub Classroom publish words and code, no schema: the types
below say what they ask for.
"""

import base64
import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import jsonschema
import msgspec
import pytest
import xmlschema
from junitparser import JUnitXml, TestCase
from prometheus_client.parser import text_string_to_metric_families

import gpulab
from commands import grading
from graders.errors import GraderError
from graders.exports import formats
from graders.exports.github import annotations
from graders.exports.gradebook import gradebook
from graders.exports.gradescope import gradescope
from graders.exports.markdown import markdown
from graders.lateness import Lateness
from graders.rubric import Verdict, write_verdict

HERE = Path(__file__).resolve().parent
TOLD = (
    "expected: at least 2 times the starter's\nobserved: =1+1|<script>alert(1)</script>\n::error::x,y%\ufffd[2J\ufffd "
    "(n = 5; 95% interval 1 to 1.2 times; measured 2 times)\nwhy: It matters.\nhint: Look at batching."
)


class GradescopeTest(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    number: str
    score: float
    max_score: float
    status: Literal["passed", "failed"]
    output: str
    tags: list[str]
    visibility: Literal["visible", "hidden", "after_due_date", "after_published"]
    extra_data: dict[str, Any]


class GradescopeResults(msgspec.Struct, forbid_unknown_fields=True):
    score: float
    execution_time: float
    output: str
    output_format: Literal["text", "html", "simple_format", "md", "ansi"]
    test_output_format: Literal["text", "html", "simple_format", "md", "ansi"]
    test_name_format: Literal["text", "html", "simple_format", "md", "ansi"]
    visibility: Literal["visible", "hidden", "after_due_date", "after_published"]
    stdout_visibility: Literal["visible", "hidden", "after_due_date", "after_published"]
    tests: list[GradescopeTest]
    extra_data: dict[str, Any]


class PrairieLearnTest(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str
    points: float
    max_points: float
    message: str
    output: str


class PrairieLearnResults(msgspec.Struct, forbid_unknown_fields=True):
    gradable: bool
    message: str
    output: str
    tests: list[PrairieLearnTest]
    score: float | None = None


class ClassroomTest(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    status: Literal["pass", "fail", "error"]
    score: float
    message: str
    test_code: str
    filename: str
    line_no: int
    duration: int


class ClassroomResult(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    status: Literal["pass", "fail", "error"]
    max_score: float
    message: str
    tests: list[ClassroomTest]


def of_gradescope(text: str) -> float:
    results = msgspec.json.decode(text, type=GradescopeResults)
    assert results.score == sum(test.score for test in results.tests)
    return results.score


def of_prairielearn(text: str) -> float:
    return sum(test.points for test in msgspec.json.decode(text, type=PrairieLearnResults).tests)


def of_classroom(text: str) -> float:
    return sum(test.score for test in msgspec.json.decode(base64.b64decode(text), type=ClassroomResult).tests)


def of_ctrf(text: str) -> float:
    report = json.loads(text)
    jsonschema.validate(report, json.loads((HERE / "ctrf-schema-0.0.json").read_text()))
    return float(sum(test["extra"]["points"] for test in report["results"]["tests"]))


def of_junit(text: str) -> float:
    xmlschema.XMLSchema(HERE / "junit-10.xsd").validate(text)
    return sum(float(each.system_out.splitlines()[0].rpartition(": ")[2].partition("/")[0]) for each in cases(text))


def cases(text: str) -> list[TestCase]:
    return [case for suite in JUnitXml.fromstring(text.encode()) for case in suite]


def of_prometheus(text: str) -> float:
    (points,) = [family for family in text_string_to_metric_families(text) if family.name == "gpulab_points"]
    return points.samples[0].value


def of_markdown(text: str) -> float:
    return float(text.partition("**")[2].partition("/")[0])


def of_gradebook(text: str) -> float:
    *_, row = csv.DictReader(io.StringIO(text))
    return float(row["total"])


TOTALS: dict[str, Callable[[str], float]] = {
    "classroom": of_classroom,
    "ctrf": of_ctrf,
    "gradebook": of_gradebook,
    "gradescope": of_gradescope,
    "junit": of_junit,
    "markdown": of_markdown,
    "prairielearn": of_prairielearn,
    "prometheus": of_prometheus,
    "summary": of_markdown,
}


def test_every_format_with_points_is_held_to_its_schema_here() -> None:
    assert sorted([*TOTALS, "annotations"]) == list(formats.NAMES)
    assert ", ".join(formats.NAMES[:-1]) + f" or {formats.NAMES[-1]}" == grading.FORMATS


@pytest.mark.parametrize("name", TOTALS)
def test_all_formats_come_to_the_same_total(name: str, mixed: Verdict, full: Verdict) -> None:
    for verdict in (mixed, full):
        assert TOTALS[name](formats.export(name, [("run", verdict)])) == verdict.points


def test_gradescope_tells_what_is_no_failure_and_hides_what_is_hidden(mixed: Verdict) -> None:
    results = msgspec.json.decode(gradescope(mixed), type=GradescopeResults)
    assert [(test.status, test.visibility, test.tags) for test in results.tests] == [
        ("passed", "visible", ["passed"]),
        ("failed", "after_published", ["failed"]),
        ("failed", "visible", ["inconclusive"]),
        ("failed", "visible", ["skipped"]),
    ]
    assert results.tests[1].output == TOLD
    assert results.tests[2].output == "inconclusive: this is not a failure of yours\nobserved: too noisy"
    assert (results.score, results.execution_time) == (30, 120)


def test_an_error_is_no_score_in_gradescope(broken: Verdict) -> None:
    with pytest.raises(GraderError) as caught:
        gradescope(broken)
    assert str(caught.value) == (
        "the run ended in an error that is not the learner's (the cluster ended); no results.json is written, which "
        "Gradescope shows as a failure of the autograder and not as a score; run it again"
    )


def test_an_error_takes_no_attempt_in_prairielearn_and_no_total_in_a_gradebook(broken: Verdict, mixed: Verdict) -> None:
    results = msgspec.json.decode(formats.export("prairielearn", [("run", broken)]), type=PrairieLearnResults)
    assert (results.gradable, results.score) == (False, None)
    assert gradebook([("run", broken)]) == (
        "run,student,submission,started,status,streams,loss,total,final\n"
        "points-per-check,,,,,30,10,100,100\n"
        "run,,ab12,2026-09-01T12:00:00+00:00,error,30,,,\n"
    )
    scored = msgspec.json.decode(formats.export("prairielearn", [("run", mixed)]), type=PrairieLearnResults)
    assert (scored.gradable, scored.score, scored.tests[1].output) == (True, 0.3, "")


def test_what_lateness_leaves_is_the_score_and_the_points_stay(mixed: Verdict) -> None:
    late = Lateness(due=mixed.started - timedelta(days=1), days=1, percent=10)
    run = [("run", msgspec.structs.replace(mixed, student="=alice", late=late, final_points=27.0))]
    results = msgspec.json.decode(formats.export("gradescope", run), type=GradescopeResults)
    assert (results.score, sum(test.score for test in results.tests)) == (27, 30)
    assert results.output == "Serve a model: 30/100 failed; 1 day late takes 10% and leaves 27"
    assert msgspec.json.decode(formats.export("prairielearn", run), type=PrairieLearnResults).score == 0.27
    *_, row = csv.DictReader(io.StringIO(formats.export("gradebook", run)))
    assert (row["student"], row["total"], row["final"]) == ("'=alice", "30", "27.0")
    assert "30/100 failed; 1 day late takes 10% and leaves 27" in formats.export("markdown", run)
    in_time = msgspec.structs.replace(mixed, late=msgspec.structs.replace(late, days=0, percent=0), final_points=30.0)
    assert "**30/100 failed**" in formats.export("markdown", [("run", in_time)])


def test_statuses_in_junit_and_ctrf(mixed: Verdict, broken: Verdict) -> None:
    read = cases(formats.export("junit", [("run", mixed)]))
    kinds = [[(type(result).__name__, result.type) for result in case.result] for case in read]
    assert kinds == [[], [("Failure", "failed")], [("Error", "inconclusive")], [("Skipped", None)]]
    assert 'type="infrastructure"' in formats.export("junit", [("run", broken)])
    report = json.loads(formats.export("ctrf", [("run", mixed)]))["results"]
    assert [test["status"] for test in report["tests"]] == ["passed", "failed", "other", "skipped"]
    summary = {kind: report["summary"][kind] for kind in ("tests", "passed", "failed", "skipped", "pending", "other")}
    assert summary == {"tests": 4, "passed": 1, "failed": 1, "skipped": 1, "pending": 0, "other": 1}
    assert report["summary"]["stop"] - report["summary"]["start"] == 120_000
    assert report["tests"][1]["duration"] == 20250


def test_annotations_cannot_be_commands_of_their_own(mixed: Verdict, full: Verdict) -> None:
    assert annotations(full) == ""
    lines = annotations(mixed).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::warning", "::notice"]
    escaped = TOLD.replace("%", "%25").replace("\n", "%0A")
    assert lines[0] == f"::error title=Throughput%3A it counts%2C twice%3A 0/40::{escaped}"


def test_markdown_holds_no_markup_of_others(mixed: Verdict) -> None:
    row = markdown(mixed).splitlines()[7]
    assert row == (
        "| ❌ failed | Throughput: it counts, twice | 0/40 | expected: at least 2 times the starter's<br>observed: "
        "=1\\+1\\|&lt;script&gt;alert\\(1\\)&lt;/script&gt;<br>::error::x,y%\ufffd\\[2J\ufffd \\(n = 5; 95% interval 1 "
        "to 1.2 times; measured 2 times\\)<br>why: It matters.<br>hint: Look at batching. |"
    )


def test_metrics_have_one_sample_for_each_check(mixed: Verdict) -> None:
    families = {
        each.name: each for each in text_string_to_metric_families(formats.export("prometheus", [("r", mixed)]))
    }
    statuses = {sample.labels["check"]: sample.labels["status"] for sample in families["gpulab_check_status"].samples}
    assert statuses == {
        "streams": "passed",
        "throughput": "failed",
        "objective": "inconclusive",
        "upgrade": "skipped",
    }
    (value,) = families["gpulab_check_value"].samples
    assert (value.labels, value.value) == ({"lab": "03_vllm", "check": "throughput", "unit": "times"}, 1.1)


def test_a_gradebook_of_many_runs_holds_no_formula(mixed: Verdict, full: Verdict) -> None:
    rows = list(csv.reader(io.StringIO(gradebook([("=cmd", mixed), ("b", mixed)]))))
    assert [row[0] for row in rows] == ["run", "points-per-check", "'=cmd", "b"]
    with pytest.raises(GraderError) as caught:
        gradebook([("a", mixed), ("b", full)])
    assert str(caught.value) == (
        "asked for one gradebook of a (03_vllm) and b (03_vllm), whose checks are not the same; export them one lab "
        "at a time"
    )


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        (
            "lti",
            1,
            "there is no format 'lti'; the formats are: annotations, classroom, ctrf, gradebook, gradescope, junit, "
            "markdown, prairielearn, prometheus, summary",
        ),
        ("junit", 0, "asked to export as junit, but no run was given; name the folder of one, as in results/"),
        ("junit", 2, "junit tells of one run, 2 were given; export them one by one, or as gradebook"),
    ],
)
def test_what_cannot_be_exported_is_refused(name: str, count: int, said: str, mixed: Verdict) -> None:
    with pytest.raises(GraderError) as caught:
        formats.export(name, [("run", mixed)] * count)
    assert str(caught.value) == said


@pytest.mark.parametrize("asked", ["junit", "junit=", "=file", "lti=file"])
def test_a_wish_that_is_none_is_refused(asked: str) -> None:
    with pytest.raises(GraderError) as caught:
        formats.wanted(asked)
    assert str(caught.value) == f"{asked!r} is not FORMAT=FILE; the formats are: {', '.join(formats.NAMES)}"


def test_a_file_that_cannot_be_written_is_told(mixed: Verdict, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(GraderError) as caught:
        formats.write("junit", tmp_path / "taken/report.xml", [("run", mixed)])
    assert str(caught.value) == (
        f"the export {tmp_path}/taken/report.xml cannot be written (File exists); name another file"
    )


def test_gpulab_exports_stored_runs(mixed: Verdict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "20260901T120000Z-abcdef"
    run.mkdir()
    write_verdict(mixed, run / "verdict.json")
    assert gpulab.main(["export", "gradebook", str(run), str(run)]) == 0
    assert capsys.readouterr().out == gradebook([(run.name, mixed), (run.name, mixed)])
    out = tmp_path / "deep/report.md"
    assert gpulab.main(["export", "markdown", str(run), "--out", str(out)]) == 0
    assert out.read_text() == markdown(mixed)
    assert gpulab.main(["export", "lti", str(run)]) != 0
    assert "there is no format 'lti'" in capsys.readouterr().err
