"""Verdicts to export: one with every status and with text that tries to be markup, one with full marks, one broken."""

from datetime import timedelta

import pytest

from graders.rubric import Verdict
from tests.graders.verdicts import NOON, result, verdict_on

HOSTILE = "=1+1|<script>alert(1)</script>\n::error::x,y%\x1b[2J\x00"


@pytest.fixture
def mixed() -> Verdict:
    checks = (
        result("streams", "passed", 30, observed="64 of 64 are whole", seconds=1.5),
        result(
            "throughput",
            "failed",
            40,
            title="Throughput: it counts, twice",
            expected="at least 2 times the starter's",
            observed=HOSTILE,
            unit="times",
            value=1.1,
            n=5,
            interval=(1.0, 1.2),
            confidence=0.95,
            hint="Look at batching.",
            why="It matters.",
            attempts=2,
            error_class="learner",
            seconds=20.25,
            hidden=True,
        ),
        result("objective", "inconclusive", 20, observed="too noisy", seconds=40.0),
        result("upgrade", "skipped", 10, observed="not measured"),
    )
    return verdict_on(checks, ended=NOON + timedelta(minutes=2))


@pytest.fixture
def full(mixed: Verdict) -> Verdict:
    return verdict_on(mixed.checks[:1], ended=mixed.ended)


@pytest.fixture
def broken(mixed: Verdict) -> Verdict:
    gone = result("loss", "error", 10, observed="the cluster ended", error_class="infrastructure")
    return verdict_on((*mixed.checks[:1], gone), ended=mixed.ended)
