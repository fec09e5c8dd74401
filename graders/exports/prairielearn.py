"""PrairieLearn's results.json of an external grader (prairielearn.readthedocs.io, "External grading").

Place: `formats` lists it. Limits: `gradable` false takes no attempt and gives no score, which is right for a run that
ended in an error that is not the learner's; hidden checks are told without what was observed.
"""

from typing import Any

from graders.record import pretty
from graders.rubric import CheckResult, Verdict
from graders.told import final, plain, score, text_for_learners


def prairielearn(verdict: Verdict) -> str:
    """The file's text."""
    results: dict[str, Any] = {
        "gradable": verdict.status != "error",
        "message": f"{verdict.title}: {score(verdict)}",
        "output": plain(verdict.reason or ""),
        "tests": [_test(check) for check in verdict.checks],
    }
    if verdict.status != "error":
        results["score"] = final(verdict) / verdict.max_points if verdict.max_points else 0.0
    return pretty(results).decode() + "\n"


def _test(check: CheckResult) -> dict[str, Any]:
    return {
        "name": plain(check.title),
        "description": check.id,
        "points": check.points,
        "max_points": check.max_points,
        "message": check.status,
        "output": text_for_learners(check),
    }
