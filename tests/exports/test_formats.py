"""Every format, whole or held to what reads it, and what is refused."""

import csv
import io
import json
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

import gpulab
from commands import grading
from graders.errors import GraderError
from graders.exports import formats
from graders.exports.classroom50 import classroom50
from graders.exports.github import annotations
from graders.exports.gradebook import gradebook
from graders.exports.gradescope import gradescope
from graders.exports.markdown import markdown
from graders.exports.otter import otter
from graders.lateness import Lateness
from graders.rubric import Verdict, write_verdict
from tests.exports.consumers import (
    RUNNER,
    TOTALS,
    Classroom50Result,
    GradescopeResults,
    PrairieLearnResults,
    cases,
)
from tests.graders.verdicts import verdict_on

OTHERS = (
    "asked for one table of a (03_vllm) and b (03_vllm), whose checks or their points are not the same; export them "
    "one lab at a time, runs of other points after `gpulab rescore` (its --export)"
)
TOLD = (
    "expected: at least 2 times the starter's\nobserved: =1+1|<script>alert(1)</script>\n::error::x,y%\ufffd[2J\ufffd "
    "(n = 5; 95% interval 1 to 1.2 times; measured 2 times)\nwhy: It matters.\nhint: Look at batching."
)


@pytest.fixture(autouse=True)
def in_classroom50(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that Classroom 50's runner sets; what `gpulab export` sees is the process's environment."""
    for name, value in RUNNER.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def unhidden(mixed: Verdict) -> Verdict:
    """With the hostile text where every format shows it."""
    return msgspec.structs.replace(
        mixed, checks=tuple(msgspec.structs.replace(check, hidden=False) for check in mixed.checks)
    )


def test_every_format_with_points_is_held_to_its_schema_here() -> None:
    assert sorted([*TOTALS, "annotations"]) == list(formats.NAMES)
    assert ", ".join(formats.NAMES[:-1]) + f" or {formats.NAMES[-1]}" == grading.FORMATS


@pytest.mark.parametrize("name", TOTALS)
def test_all_formats_come_to_the_same_total(name: str, mixed: Verdict, full: Verdict) -> None:
    for verdict in (mixed, full):
        assert TOTALS[name](formats.export(name, [("run", verdict)])) == verdict.points


@pytest.mark.parametrize("name", TOTALS)
def test_an_error_fits_every_schema_that_has_a_word_for_it_and_is_no_score(name: str, broken: Verdict) -> None:
    gave_up = verdict_on(broken.checks[:1], ended=broken.ended, status="error", reason="the node is gone")
    for verdict in (broken, gave_up):
        if name in ("classroom", "classroom50", "gradescope"):
            with pytest.raises(GraderError, match=r"^the run ended in an error that is not the learner's "):
                formats.export(name, [("run", verdict)])
        else:
            total = TOTALS[name](formats.export(name, [("run", verdict)]))
            assert total == (None if name in formats.OF_MANY else 30)


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
        "points-per-check,,,,,30,10,40,40\n"
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


def test_classroom50_is_told_what_its_runner_said_and_what_each_check_was(mixed: Verdict) -> None:
    result = msgspec.json.decode(classroom50(mixed, RUNNER), type=Classroom50Result)
    assert (result.classroom, result.owner, result.review) == ("gpus", "alice", RUNNER["REVIEW_URL"])
    assert (result.datetime, result.graded_at) == ("2026-09-01T12:00:00Z", "2026-09-01T12:02:00Z")
    assert [(test.passed, test.status) for test in result.tests] == [
        (True, "passed"),
        (False, "failed"),
        (False, "inconclusive"),
        (False, "skipped"),
    ]
    assert [test.output for test in result.tests][1:3] == ["", "observed: too noisy"]
    handed_in = msgspec.structs.replace(mixed, submitted=datetime.fromisoformat("2026-08-31T23:59:30.5+02:00"))
    assert json.loads(classroom50(handed_in, RUNNER))["datetime"] == "2026-08-31T21:59:30Z"


def test_an_error_or_another_place_is_no_result_for_classroom50(broken: Verdict, mixed: Verdict) -> None:
    with pytest.raises(GraderError) as caught:
        classroom50(broken, RUNNER)
    assert str(caught.value) == (
        "the run ended in an error that is not the learner's (the cluster ended); no result.json is written, and an "
        "autograder.py that ends with a status other than 0 makes Classroom 50 call it an error; run it again"
    )
    for lacking, said in (
        (["OWNER"], "OWNER is not set"),
        (["OWNER", "COMMIT_URL"], "OWNER, COMMIT_URL are not set"),
    ):
        with pytest.raises(GraderError) as caught:
            classroom50(mixed, {name: value for name, value in RUNNER.items() if name not in lacking})
        assert str(caught.value) == (
            f"a result for Classroom 50 needs the variables that its runner sets, and {said}; write it from an "
            "autograder.py"
        )


def test_otters_table_has_its_columns_sorted_rows_and_a_status(mixed: Verdict, broken: Verdict) -> None:
    alice = msgspec.structs.replace(mixed, student="alice")
    gone = msgspec.structs.replace(mixed, status="error", reason="the cluster, ended", student="=bob")
    assert otter([("run", mixed), ("b", alice), ("c", gone)]) == (
        "file,objective,streams,throughput,upgrade,total_points_earned,percent_correct,grading_status\n"
        "points-per-question,20,30,40,10,100,1.0,--\n"
        '\'=bob,,,,,,,"the cluster, ended"\n'
        "alice,0,30,0,0,30,0.3,Completed\n"
        "run,0,30,0,0,30,0.3,Completed\n"
    )
    with pytest.raises(GraderError) as caught:
        otter([("a", mixed), ("b", broken)])
    assert str(caught.value) == OTHERS


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


def test_annotations_cannot_be_commands_of_their_own(unhidden: Verdict, full: Verdict) -> None:
    assert annotations(full) == ""
    lines = annotations(unhidden).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::warning", "::notice"]
    escaped = TOLD.replace("%", "%25").replace("\n", "%0A")
    assert lines[0] == f"::error title=Throughput%3A it counts%2C twice%3A 0/40::{escaped}"


def test_markdown_holds_no_markup_of_others(unhidden: Verdict) -> None:
    row = markdown(unhidden).splitlines()[7]
    assert row == (
        "| ❌ failed | Throughput: it counts, twice | 0/40 | expected: at least 2 times the starter's<br>observed: "
        "=1\\+1\\|&lt;script&gt;alert\\(1\\)&lt;/script&gt;<br>::error::x,y%\ufffd\\[2J\ufffd \\(n = 5; 95% interval 1 "
        "to 1.2 times; measured 2 times\\)<br>why: It matters.<br>hint: Look at batching. |"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://evil.example/x", "https://\u2060evil.example/x"),
        ("see WWW.evil.example", "see WWW.\u2060evil.example"),
        ("ask @boss about #12", "ask \\@\u2060boss about \\#\u206012"),
        ("50 % of awww. and # alone", "50 % of awww. and \\# alone"),
    ],
)
def test_markdown_makes_no_link_of_what_others_wrote(text: str, shown: str, full: Verdict) -> None:
    forged = msgspec.structs.replace(full, simulated=(text,))
    assert f"\nLevel L1; simulated: {shown}.\n" in markdown(forged)


def test_what_is_simulated_is_no_markup_in_markdown(full: Verdict) -> None:
    forged = msgspec.structs.replace(full, simulated=("GPUs", "<img src=x>[a](b)"))
    assert "\nLevel L1; simulated: GPUs, &lt;img src=x&gt;\\[a\\]\\(b\\).\n" in markdown(forged)


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
    assert str(caught.value) == OTHERS


@pytest.mark.parametrize("name", formats.OF_MANY)
def test_no_table_has_runs_whose_checks_give_other_points(name: str, mixed: Verdict) -> None:
    first, second, *rest = mixed.checks
    moved = [msgspec.structs.replace(first, max_points=40), msgspec.structs.replace(second, max_points=30), *rest]
    with pytest.raises(GraderError) as caught:
        formats.export(name, [("a", mixed), ("b", verdict_on(moved))])
    assert str(caught.value) == OTHERS


@pytest.mark.parametrize("name", formats.OF_MANY)
def test_no_cell_of_a_forged_verdict_is_a_formula(name: str, mixed: Verdict) -> None:
    checks = [msgspec.structs.replace(check, id=f"=HYPERLINK({check.id})") for check in mixed.checks]
    forged = msgspec.structs.replace(
        verdict_on(checks), submission="@SUM(1)", student="\n\uff1d1+1", reason="-1", status="error"
    )
    table = formats.export(name, [("=cmd", forged)])
    cells = [cell for row in csv.reader(io.StringIO(table)) for cell in row]
    assert [cell for cell in cells if cell.strip().startswith(("=", "+", "-", "@", "\uff1d")) and cell != "--"] == []
    assert "'=HYPERLINK(streams)" in cells
    assert ("'@SUM(1)" in cells) == (name == "gradebook")


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        (
            "lti",
            1,
            "there is no format 'lti'; the formats are: annotations, classroom, classroom50, ctrf, gradebook, "
            "gradescope, junit, markdown, otter, prairielearn, prometheus, summary",
        ),
        ("junit", 0, "asked to export as junit, but no run was given; name the folder of one, as in results/"),
        ("junit", 2, "junit tells of one run, 2 were given; export them one by one, or as one of: gradebook, otter"),
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
    report = tmp_path / "variance-0123456789abcdef.json"  # results/LAB/* is this as well, after --repeat
    page = tmp_path / f"{run.name}.html"  # and this, after `gpulab report`
    for each in (report, page):
        each.write_text("{}")
    assert gpulab.main(["export", "gradebook", str(run), str(page), str(report)]) == 0
    assert capsys.readouterr().out == gradebook([(run.name, mixed)])
    assert gpulab.main(["export", "gradebook", str(report)]) == 2
    assert capsys.readouterr().err == f"gpulab: {report} reports on runs, and is none; name a run's folder\n"
    assert gpulab.main(["export", "lti", str(run)]) != 0
    assert "there is no format 'lti'" in capsys.readouterr().err
