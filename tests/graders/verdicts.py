"""A verdict on given checks, for tests of what shows one. The sums are given, as a verdict's reader adds nothing up."""

from datetime import UTC, datetime

from graders.machine import Machine
from graders.rubric import CheckResult, Status, Verdict

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)


def verdict_on(
    checks: tuple[CheckResult, ...], *, title: str, points: int, max_points: int, status: Status, ended: datetime = NOON
) -> Verdict:
    return Verdict(
        lab="03_vllm",
        title=title,
        level="L1",
        simulated=("GPUs",),
        machine=Machine("cpu", 2, 4096, "6.1", "3.11.9", {}),
        grader_version="0.1.0",
        submission="ab12",
        points=points,
        max_points=max_points,
        status=status,
        reason=None,
        started=NOON,
        ended=ended,
        traits={},
        checks=checks,
    )
