"""What each format makes of every status of a check, of a run with a reason, and of a hidden check.

Place: beside test_formats.py, which holds the formats to their consumers. Limits: formats that refuse an error are
shown the other four statuses.
"""

import base64
import json
from datetime import timedelta

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from graders.errors import GraderError
from graders.exports import formats
from graders.exports.classroom50 import classroom50
from graders.rubric import Verdict
from tests.exports.consumers import (
    RUNNER,
    Classroom50Result,
    ClassroomResult,
    GradescopeResults,
    PrairieLearnResults,
    cases,
)
from tests.graders.verdicts import NOON, result, verdict_on

ENDED = NOON + timedelta(minutes=2)
FOUR = (
    result("passes", "passed", 10, observed="it held"),
    result("fails", "failed", 10, observed="it broke", error_class="learner"),
    result("wavers", "inconclusive", 10, observed="too noisy"),
    result("waits", "skipped", 10, observed="not measured"),
)
DIED = result("dies", "error", 10, observed="no node", error_class="infrastructure")
DECIDED = verdict_on(FOUR, ended=ENDED)
BROKEN = verdict_on((*FOUR, DIED), ended=ENDED)
GAVE_UP = verdict_on(FOUR[:1], ended=ENDED, status="error", reason="the run was interrupted")
NOT_THE_LEARNERS = "the run ended in an error that is not the learner's"


def of(name: str, verdict: Verdict) -> str:
    return formats.export(name, [("run", verdict)])


def test_annotations() -> None:
    assert of("annotations", BROKEN) == (
        "::error title=Fails%3A 0/10::observed: it broke\n"
        "::warning title=Wavers%3A 0/10::observed: too noisy\n"
        "::notice title=Waits%3A 0/10::observed: not measured\n"
        "::error title=Dies%3A 0/10::observed: no node%0Afault: of the lab's infrastructure, not yours\n"
    )
    assert of("annotations", GAVE_UP) == "::error title=Serve a model::the run was interrupted\n"


def test_classroom() -> None:
    found = msgspec.json.decode(base64.b64decode(of("classroom", DECIDED)), type=ClassroomResult)
    assert (found.status, found.message) == ("fail", "")
    assert [(test.test_code, test.status, test.score, test.message) for test in found.tests] == [
        ("passes", "pass", 10, "observed: it held"),
        ("fails", "fail", 0, "observed: it broke"),
        ("wavers", "error", 0, "observed: too noisy"),
        ("waits", "fail", 0, "observed: not measured"),
    ]
    undecided = msgspec.json.decode(base64.b64decode(of("classroom", verdict_on(FOUR[2:3]))), type=ClassroomResult)
    assert undecided.status == "error"


def test_classroom50() -> None:
    found = msgspec.json.decode(classroom50(DECIDED, RUNNER), type=Classroom50Result)
    assert [(test.id, test.passed, test.status, test.score, test.output) for test in found.tests] == [
        ("passes", True, "passed", 10, "observed: it held"),
        ("fails", False, "failed", 0, "observed: it broke"),
        ("wavers", False, "inconclusive", 0, "observed: too noisy"),
        ("waits", False, "skipped", 0, "observed: not measured"),
    ]


def test_gradescope() -> None:
    found = msgspec.json.decode(of("gradescope", DECIDED), type=GradescopeResults)
    assert [(test.status, test.tags, test.score, test.output) for test in found.tests] == [
        ("passed", ["passed"], 10, "observed: it held"),
        ("failed", ["failed"], 0, "observed: it broke"),
        ("failed", ["inconclusive"], 0, "inconclusive: this is not a failure of yours\nobserved: too noisy"),
        ("failed", ["skipped"], 0, "skipped: this is not a failure of yours\nobserved: not measured"),
    ]


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        (
            "classroom",
            "no result is written for GitHub Classroom, whose reporter would add up the checks to a score; run it "
            "again",
        ),
        (
            "classroom50",
            "no result.json is written, and an autograder.py that ends with a status other than 0 makes Classroom 50 "
            "call it an error; run it again",
        ),
        (
            "gradescope",
            "no results.json is written, which Gradescope shows as a failure of the autograder and not as a score; "
            "run it again",
        ),
    ],
)
def test_what_has_no_word_for_an_error_refuses_one(name: str, instead: str) -> None:
    for verdict, why in ((BROKEN, "no node"), (GAVE_UP, "the run was interrupted")):
        with pytest.raises(GraderError) as caught:
            of(name, verdict)
        assert str(caught.value) == f"{NOT_THE_LEARNERS} ({why}); {instead}"


def test_ctrf() -> None:
    found = json.loads(of("ctrf", BROKEN))["results"]
    assert [(test["rawStatus"], test["status"], test["message"]) for test in found["tests"]] == [
        ("passed", "passed", "observed: it held"),
        ("failed", "failed", "observed: it broke"),
        ("inconclusive", "other", "observed: too noisy"),
        ("skipped", "skipped", "observed: not measured"),
        ("error", "other", "observed: no node\nfault: of the lab's infrastructure, not yours"),
    ]
    assert found["summary"]["other"] == 2
    gave_up = json.loads(of("ctrf", GAVE_UP))["results"]
    assert [(test["name"], test["status"], test["rawStatus"], test["message"]) for test in gave_up["tests"]] == [
        ("Passes", "passed", "passed", "observed: it held"),
        ("run", "other", "error", "the run was interrupted"),
    ]
    assert [gave_up["summary"][kind] for kind in ("tests", "passed", "other")] == [2, 1, 1]
    assert gave_up["summary"]["extra"] == {
        "points": 10,
        "max_points": 10,
        "status": "error",
        "reason": "the run was interrupted",
    }


def test_gradebook() -> None:
    assert of("gradebook", BROKEN) == (
        "run,student,submission,started,status,passes,fails,wavers,waits,dies,total,final\n"
        "points-per-check,,,,,10,10,10,10,10,50,50\n"
        "run,,ab12,2026-09-01T12:00:00+00:00,error,10,0,0,0,,,\n"
    )
    assert of("gradebook", DECIDED).splitlines()[-1].endswith(",failed,10,0,0,0,10,10")
    assert of("gradebook", GAVE_UP).splitlines()[-1].endswith(",error,10,,")


def test_junit() -> None:
    kinds = [
        (case.name, [(type(each).__name__, each.type, each.message) for each in case.result])
        for verdict in (BROKEN, GAVE_UP)
        for case in cases(of("junit", verdict))
    ]
    assert kinds == [
        ("passes", []),
        ("fails", [("Failure", "failed", "it broke")]),
        ("wavers", [("Error", "inconclusive", "too noisy")]),
        ("waits", [("Skipped", None, "not measured")]),
        ("dies", [("Error", "infrastructure", "no node")]),
        ("passes", []),
        ("run", [("Error", "run", "the run was interrupted")]),
    ]


def test_markdown() -> None:
    everything = msgspec.structs.replace(BROKEN, reason="the *node* is gone", student="alice")
    assert of("summary", everything) == of("markdown", everything)
    assert of("markdown", everything) == (
        "## 03\\_vllm: Serve a model\n"
        "\n"
        "**10/50 error**\n"
        "\n"
        "the \\*node\\* is gone\n"
        "\n"
        "| | check | points | what was seen |\n"
        "|---|---|---|---|\n"
        "| ✅ passed | Passes | 10/10 | observed: it held |\n"
        "| ❌ failed | Fails | 0/10 | observed: it broke |\n"
        "| ❓ inconclusive | Wavers | 0/10 | observed: too noisy |\n"
        "| ⏭️ skipped | Waits | 0/10 | observed: not measured |\n"
        "| ⚠️ error | Dies | 0/10 | observed: no node<br>fault: of the lab's infrastructure, not yours |\n"
        "\n"
        "Level L1; simulated: GPUs.\n"
        "\n"
        "Student alice.\n"
    )


def test_otter() -> None:
    assert of("otter", BROKEN) == (
        "file,dies,fails,passes,waits,wavers,total_points_earned,percent_correct,grading_status\n"
        "points-per-question,10,10,10,10,10,50,1.0,--\n"
        "run,,,,,,,,no node\n"
    )
    assert of("otter", DECIDED).splitlines()[-1] == "run,0,10,0,0,10,0.25,Completed"
    assert of("otter", GAVE_UP).splitlines()[-1] == "run,,,,the run was interrupted"


def test_prairielearn() -> None:
    found = msgspec.json.decode(of("prairielearn", BROKEN), type=PrairieLearnResults)
    assert (found.gradable, found.score, found.message, found.output) == (
        False,
        None,
        "Serve a model: 10/50 error",
        "",
    )
    assert [(test.message, test.points, test.output) for test in found.tests] == [
        ("passed", 10, "observed: it held"),
        ("failed", 0, "observed: it broke"),
        ("inconclusive", 0, "observed: too noisy"),
        ("skipped", 0, "observed: not measured"),
        ("error", 0, "observed: no node\nfault: of the lab's infrastructure, not yours"),
    ]
    gave_up = msgspec.json.decode(of("prairielearn", GAVE_UP), type=PrairieLearnResults)
    assert (gave_up.gradable, gave_up.score, gave_up.output) == (False, None, "the run was interrupted")
    decided = msgspec.json.decode(of("prairielearn", DECIDED), type=PrairieLearnResults)
    assert (decided.gradable, decided.score, decided.output) == (True, 0.25, "")


def test_prometheus() -> None:
    def statuses(verdict: Verdict, family: str) -> list[tuple[str | None, str, float]]:
        (found,) = [each for each in text_string_to_metric_families(of("prometheus", verdict)) if each.name == family]
        return [(each.labels.get("check"), each.labels["status"], each.value) for each in found.samples]

    assert statuses(BROKEN, "gpulab_check_status") == [
        ("passes", "passed", 1),
        ("fails", "failed", 1),
        ("wavers", "inconclusive", 1),
        ("waits", "skipped", 1),
        ("dies", "error", 1),
    ]
    assert statuses(BROKEN, "gpulab_status") == statuses(GAVE_UP, "gpulab_status") == [(None, "error", 1)]
    assert statuses(DECIDED, "gpulab_status") == [(None, "failed", 1)]


SAID = {"expected": "SECRET-1", "observed": "SECRET-2", "why": "SECRET-3", "hint": "SECRET-4"}
SHOWN = {
    "annotations": "::{level} title=Trap%3A 0/10::{status}\n",
    "classroom": '{{"name":"Trap","status":"{classroom}","score":0,"message":"","test_code":"trap"',
    "classroom50": '"status": "{status}",\n      "output": ""',
    "ctrf": '"rawStatus": "{status}",\n',
    "junit": "<system-out>Trap: 0/10\n</system-out>",
    "markdown": " {status} | Trap | 0/10 |  |\n",
    "prairielearn": '"message": "{status}",\n      "output": ""',
}


@pytest.mark.parametrize("status", ["failed", "inconclusive", "skipped"])
@pytest.mark.parametrize("name", SHOWN)
def test_a_hidden_check_has_a_title_a_status_and_points_where_learners_read(
    name: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in RUNNER.items():
        monkeypatch.setenv(variable, value)
    trap = msgspec.structs.replace(FOUR[1], id="trap", title="Trap", status=status, hidden=True, n=7, **SAID)
    text = of(name, verdict_on((*FOUR[:2], trap), ended=ENDED))
    text = base64.b64decode(text).decode() if name == "classroom" else text
    level = {"failed": "error", "inconclusive": "warning", "skipped": "notice"}[status]
    word = {"failed": "fail", "inconclusive": "error", "skipped": "fail"}[status]
    assert SHOWN[name].format(level=level, classroom=word, status=status) in text
    assert "SECRET" not in text
    assert "n = 7" not in text
    assert "it held" in text or name == "annotations"


def test_a_hidden_check_that_passed_or_ended_in_an_error_tells_no_more() -> None:
    for status in ("passed", "error"):
        trap = result("trap", status, 10, hidden=True, **SAID)
        for name in ("annotations", "ctrf", "junit", "markdown", "prairielearn"):
            assert "SECRET" not in of(name, verdict_on((trap,), ended=ENDED))
