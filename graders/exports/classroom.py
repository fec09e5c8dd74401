"""The result of a GitHub Classroom grader: base64 of JSON, as classroom-resources/autograding-command-grader writes it.

Place: `formats` lists it; a workflow sets it as the output `result` of a step, which autograding-grading-reporter sums
up. Limits: the reporter adds the scores of the tests and prints passed/total of `max_score`, so its table differs from
its sum where checks weigh differently.
"""

import base64
from typing import Any, Literal

import msgspec

from graders.rubric import CheckResult, Status, Verdict
from graders.told import plain, text_of

_STATUS: dict[Status, Literal["pass", "fail", "error"]] = {
    "passed": "pass",
    "failed": "fail",
    "inconclusive": "error",
    "skipped": "fail",
    "error": "error",
}


def classroom(verdict: Verdict) -> str:
    """The output's value, on one line."""
    result = {
        "version": 1,
        "status": _STATUS[verdict.status],
        "max_score": verdict.max_points,
        "message": plain(verdict.reason or ""),
        "tests": [_test(check) for check in verdict.checks],
    }
    return base64.b64encode(msgspec.json.encode(result)).decode() + "\n"


def _test(check: CheckResult) -> dict[str, Any]:
    return {
        "name": plain(check.title),
        "status": _STATUS[check.status],
        "score": check.points,
        "message": "" if check.hidden else text_of(check),
        "test_code": check.id,
        "filename": "",
        "line_no": 0,
        "duration": round(1000 * (check.seconds or 0)),
    }
