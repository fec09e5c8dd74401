"""The result of a GitHub Classroom grader: base64 of JSON, as classroom-resources/autograding-command-grader writes it.

Place: `formats` lists it; a workflow sets it as the output `result` of a step, which autograding-grading-reporter sums
up. Limits: the reporter adds the scores of the tests and prints passed/total of `max_score`, so its table differs from
its sum where checks weigh differently. A run that ended in an error has no result.
"""

import base64
from typing import Any, Literal

import msgspec

from graders.exports.gradescope import NotTheLearners
from graders.rubric import CheckResult, Status, Verdict
from graders.told import plain, text_for_learners, why_error

_STATUS: dict[Status, Literal["pass", "fail", "error"]] = {
    "passed": "pass",
    "failed": "fail",
    "inconclusive": "error",
    "skipped": "fail",
    "error": "error",
}


def classroom(verdict: Verdict) -> str:
    """The output's value, on one line.

    Raises:
        NotTheLearners: the run is an error; a reporter that is given no result fails and hands Classroom no score.
    """
    if verdict.status == "error":
        raise NotTheLearners(
            f"the run ended in an error that is not the learner's ({why_error(verdict)}); no result is written for "
            "GitHub Classroom, whose reporter would add up the checks to a score; run it again"
        )
    result = {
        "version": 1,
        "status": _STATUS[verdict.status],
        "max_score": verdict.max_points,
        "message": "",
        "tests": [_test(check) for check in verdict.checks],
    }
    return base64.b64encode(msgspec.json.encode(result)).decode() + "\n"


def _test(check: CheckResult) -> dict[str, Any]:
    return {
        "name": plain(check.title),
        "status": _STATUS[check.status],
        "score": check.points,
        "message": text_for_learners(check),
        "test_code": check.id,
        "filename": "",
        "line_no": 0,
        "duration": round(1000 * (check.seconds or 0)),
    }
