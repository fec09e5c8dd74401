"""Verdicts, and results of checks, for tests of what shows or counts them.

Place: any test. Limits: a check earns all of its points or none, and the sums are those of the checks, unless a test
says something else.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from graders.lab import Lab
from graders.machine import Machine
from graders.rubric import CheckResult, RunHeader, Status, Verdict, decide

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
MACHINE = Machine("cpu", 2, 4096, "6.1", "3.11.9", {})


def result(name: str, status: Status, most: int, **told: Any) -> CheckResult:
    """How a check of this id ended, which is worth `most` points and called by its id unless a title is `told`."""
    points = most if status == "passed" else 0
    facts = {"id": name, "title": name.capitalize(), "status": status, "points": points, "max_points": most}
    return CheckResult(**{**facts, **told})


def verdict_on(checks: Sequence[CheckResult], **told: Any) -> Verdict:
    """A verdict on given checks, and otherwise as it is `told`."""
    verdict = Verdict(
        lab="03_vllm",
        title="Serve a model",
        level="L1",
        simulated=("GPUs",),
        machine=MACHINE,
        grader_version="0.1.0",
        submission="ab12",
        points=sum(check.points for check in checks),
        max_points=sum(check.max_points for check in checks),
        status=decide(tuple(checks)),
        reason=None,
        started=NOON,
        ended=NOON,
        traits={},
        checks=tuple(checks),
    )
    return msgspec.structs.replace(verdict, **told)


def header_of(lab: Lab, submission: str = "ab12", **told: Any) -> RunHeader:
    """What is known of a lab's run before its first check."""
    facts = {"machine": MACHINE, "grader_version": "0.1.0", "started": NOON}
    return RunHeader(lab=lab.name, title=lab.title, submission=submission, **{**facts, **told})
