"""CTRF, the Common Test Report Format (ctrf.io, schema of the npm package ctrf).

Place: `formats` lists it. Limits: a check that is inconclusive or ended in an error is `other`, with our word as
`rawStatus`; a hidden check has no message; times are milliseconds; why a whole run broke is a test of its own, so that
it is not green.
"""

from datetime import datetime
from typing import Any, Literal

from graders.record import pretty
from graders.rubric import CheckResult, Status, Verdict
from graders.told import plain, text_for_learners

_STATUS: dict[Status, Literal["passed", "failed", "skipped", "other"]] = {
    "passed": "passed",
    "failed": "failed",
    "inconclusive": "other",
    "skipped": "skipped",
    "error": "other",
}


def ctrf(verdict: Verdict) -> str:
    """The report's text."""
    tests = [_test(check, verdict.lab) for check in verdict.checks]
    tests += [_broken(verdict, verdict.reason)] if verdict.reason else []
    found = [test["status"] for test in tests]
    kinds = ("passed", "failed", "skipped", "pending", "other")
    report = {
        "reportFormat": "CTRF",
        "specVersion": "0.0.0",
        "results": {
            "tool": {"name": "gpulab", "version": verdict.grader_version},
            "summary": {
                "tests": len(found),
                **{kind: sum(status == kind for status in found) for kind in kinds},
                "start": _milliseconds(verdict.started),
                "stop": _milliseconds(verdict.ended or verdict.started),
                "extra": {
                    "points": verdict.points,
                    "max_points": verdict.max_points,
                    "status": verdict.status,
                    "reason": verdict.reason,
                },
            },
            "tests": tests,
        },
    }
    return pretty(report).decode() + "\n"


def _test(check: CheckResult, lab: str) -> dict[str, Any]:
    return {
        "name": plain(check.title),
        "status": _STATUS[check.status],
        "rawStatus": check.status,
        "duration": round(1000 * (check.seconds or 0)),
        "suite": [lab],
        "message": text_for_learners(check),
        "extra": {"id": check.id, "points": check.points, "max_points": check.max_points},
    }


def _broken(verdict: Verdict, reason: str) -> dict[str, Any]:
    return {
        "name": "run",
        "status": "other",
        "rawStatus": "error",
        "duration": 0,
        "suite": [verdict.lab],
        "message": plain(reason),
        "extra": {"id": "run", "points": 0, "max_points": 0},
    }


def _milliseconds(time: datetime) -> int:
    return round(1000 * time.timestamp())
