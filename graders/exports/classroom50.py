"""Classroom 50's result.json (schema classroom50/result/v1), which an autograder.py leaves in its working folder.

Place: `formats` lists it. Limits: written where Classroom 50's runner has set what it says of the submission, and that
runner stamps owner, type and time in the end. Scores are whole points without lateness, which Classroom 50 marks by
itself; it knows passed or not, and our status stands beside that.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from graders.errors import GraderError
from graders.record import pretty
from graders.rubric import CheckResult, Verdict
from graders.told import plain, text_for_learners, why_error

FIELDS = {
    "classroom": "CLASSROOM",
    "assignment": "ASSIGNMENT",
    "assignment_type": "ASSIGNMENT_TYPE",
    "owner": "OWNER",
    "submission": "SUBMISSION_TAG",
    "commit": "COMMIT_URL",
    "release": "RELEASE_URL",
    "review": "REVIEW_URL",
}
"""Fields that say what was graded, and the environment variables of Classroom 50's runner that they come from."""


class NotInClassroom50(GraderError):
    """The runner's variables are not there, or the run is an error, which the runner itself has to tell."""


def classroom50(verdict: Verdict, env: Mapping[str, str]) -> str:
    """The file's text.

    Raises:
        NotInClassroom50: the run is an error, or `env` lacks what the runner sets.
    """
    if verdict.status == "error":
        raise NotInClassroom50(
            f"the run ended in an error that is not the learner's ({why_error(verdict)}); no result.json is written, "
            "and an autograder.py that ends with a status other than 0 makes Classroom 50 call it an error; run it "
            "again"
        )
    if missing := [name for name in FIELDS.values() if not env.get(name)]:
        raise NotInClassroom50(
            f"a result for Classroom 50 needs the variables that its runner sets, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set; write it from an autograder.py"
        )
    result = {
        "schema": "classroom50/result/v1",
        **{field: env[name] for field, name in FIELDS.items()},
        "datetime": _moment(verdict.submitted or verdict.started),
        "graded_at": _moment(verdict.ended or verdict.started),
        "score": verdict.points,
        "max-score": verdict.max_points,
        "tests": [_test(check) for check in verdict.checks],
    }
    return pretty(result).decode() + "\n"


def _test(check: CheckResult) -> dict[str, Any]:
    return {
        "test-name": plain(check.title),
        "passed": check.status == "passed",
        "score": check.points,
        "max-score": check.max_points,
        "id": check.id,
        "status": check.status,
        "output": text_for_learners(check),
    }


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
