"""What reads each format: the types and parsers of its consumer, each of which comes to a total.

Place: test_formats.py and test_statuses.py hold every export to these. ctrf-schema-0.0.json is of the npm package ctrf
0.3.0, junit-10.xsd of pytest 9.2.0 (from Jenkins' xUnit plugin); both are under the MIT licence. What Gradescope,
PrairieLearn, GitHub Classroom and Classroom 50 ask for is said by types: the first three publish words and code, no
schema. Limits: a total is None where a table has none for a run that ended in an error.
"""

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import jsonschema
import msgspec
import xmlschema
from junitparser import JUnitXml, TestCase
from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).resolve().parent


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


Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
Points: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Moment: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$")]


class Classroom50Test(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    test_name: Name
    passed: bool
    score: Points
    max_score: Points
    id: str  # this and what follows are ours, which it allows in a test
    status: str
    output: str


class Classroom50Result(msgspec.Struct, forbid_unknown_fields=True):
    schema: Literal["classroom50/result/v1"]
    classroom: Name
    assignment: Name
    assignment_type: Literal["individual", "group", "team"]
    owner: Name
    submission: Annotated[str, msgspec.Meta(pattern="^submit/")]
    commit: Name
    release: Name
    review: Name
    datetime: Moment
    graded_at: Moment
    score: Points
    max_score: Points = msgspec.field(name="max-score")
    tests: list[Classroom50Test]


RUNNER = {
    "CLASSROOM": "gpus",
    "ASSIGNMENT": "vllm",
    "ASSIGNMENT_TYPE": "individual",
    "OWNER": "alice",
    "SUBMISSION_TAG": "submit/2026-09-01T11-32-05Z-a1b2c3d",
    "COMMIT_URL": "https://example.org/commit/a1b2c3d",
    "RELEASE_URL": "https://example.org/releases/tag/submit",
    "REVIEW_URL": "https://example.org/compare/0000000...a1b2c3d",
}


def of_classroom50(text: str) -> float:
    result = msgspec.json.decode(text, type=Classroom50Result)
    assert result.score == sum(test.score for test in result.tests) <= result.max_score
    assert all(test.score <= test.max_score for test in result.tests)
    return result.score


def of_otter(text: str) -> float | None:
    possible, row = csv.DictReader(io.StringIO(text))
    questions = [name for name in row if name not in OTTERS]
    assert [*row] == [OTTERS[0], *sorted(questions), *OTTERS[1:]]
    assert float(possible["total_points_earned"]) == sum(float(possible[name]) for name in questions)
    if row["grading_status"] != "Completed":
        assert {row[name] for name in [*questions, *OTTERS[1:-1]]} == {""}
        return None
    assert float(row["total_points_earned"]) == sum(float(row[name]) for name in questions)
    return float(row["total_points_earned"])


def of_gradescope(text: str) -> float:
    results = msgspec.json.decode(text, type=GradescopeResults)
    assert results.score == sum(test.score for test in results.tests)
    return results.score


def of_prairielearn(text: str) -> float:
    results = msgspec.json.decode(text, type=PrairieLearnResults)
    points, most = sum(test.points for test in results.tests), sum(test.max_points for test in results.tests)
    assert results.score == (points / most if results.gradable else None)
    return points


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


def of_gradebook(text: str) -> float | None:
    *_, row = csv.DictReader(io.StringIO(text))
    return float(row["total"]) if row["total"] else None


OTTERS = ["file", "total_points_earned", "percent_correct", "grading_status"]
TOTALS: dict[str, Callable[[str], float | None]] = {
    "classroom": of_classroom,
    "classroom50": of_classroom50,
    "ctrf": of_ctrf,
    "gradebook": of_gradebook,
    "gradescope": of_gradescope,
    "junit": of_junit,
    "markdown": of_markdown,
    "otter": of_otter,
    "prairielearn": of_prairielearn,
    "prometheus": of_prometheus,
    "summary": of_markdown,
}
