"""Gradescope's results.json (gradescope-autograders.readthedocs.io, "Autograder Specifications").

Place: `formats` lists it; a Gradescope autograder writes it to /autograder/results/results.json. Limits: Gradescope
knows passed and failed only; every other status stands in the text and in `extra_data`. Its score is what lateness
leaves, and overrides the sum of its tests.
"""

from typing import Any

from graders.errors import GraderError
from graders.record import pretty
from graders.rubric import CheckResult, Verdict
from graders.told import final, plain, score, text_of, why_error


class NotTheLearners(GraderError):
    """The run is an error of the infrastructure or the harness, for which this format has no word."""


def gradescope(verdict: Verdict) -> str:
    """The file's text.

    Raises:
        NotTheLearners: the run is an error; Gradescope shows a run without the file as the autograder's failure, which
            staff can run again.
    """
    if verdict.status == "error":
        raise NotTheLearners(
            f"the run ended in an error that is not the learner's ({why_error(verdict)}); no "
            "results.json is written, which Gradescope shows as a failure of the autograder and not as a score; run it "
            "again"
        )
    seconds = (verdict.ended - verdict.started).total_seconds() if verdict.ended else None
    results = {
        "score": final(verdict),
        "execution_time": seconds,
        "output": f"{verdict.title}: {score(verdict)}",
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": [_test(number, check) for number, check in enumerate(verdict.checks, 1)],
        "extra_data": {"schema": verdict.schema, "lab": verdict.lab, "submission": verdict.submission},
    }
    return pretty(results).decode() + "\n"


def _test(number: int, check: CheckResult) -> dict[str, Any]:
    said = "" if check.status in ("passed", "failed") else f"{check.status}: this is not a failure of yours\n"
    return {
        "name": plain(check.title),
        "number": str(number),
        "score": check.points,
        "max_score": check.max_points,
        "status": "passed" if check.status == "passed" else "failed",
        "output": said + text_of(check),
        "tags": [check.status],
        "visibility": "after_published" if check.hidden else "visible",
        "extra_data": {"id": check.id, "status": check.status, "error_class": check.error_class},
    }
