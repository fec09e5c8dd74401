"""Verdicts to export: one with every status and with text that tries to be markup, one with full marks, one broken."""

from datetime import timedelta

import msgspec
import pytest

from graders.rubric import CheckResult, Verdict
from tests.graders.verdicts import NOON, verdict_on

HOSTILE = "=1+1|<script>alert(1)</script>\n::error::x,y%\x1b[2J\x00"


@pytest.fixture
def mixed() -> Verdict:
    checks = (
        CheckResult(
            id="streams",
            title="Streams",
            status="passed",
            points=30,
            max_points=30,
            observed="64 of 64 are whole",
            seconds=1.5,
        ),
        CheckResult(
            id="throughput",
            title="Throughput: it counts, twice",
            status="failed",
            points=0,
            max_points=40,
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
        CheckResult(
            id="objective",
            title="Objective",
            status="inconclusive",
            points=0,
            max_points=20,
            observed="too noisy",
            seconds=40.0,
        ),
        CheckResult(id="upgrade", title="Upgrade", status="skipped", points=0, max_points=10, observed="not measured"),
    )
    return verdict_on(
        checks, title="Serve a model", points=30, max_points=100, status="failed", ended=NOON + timedelta(minutes=2)
    )


@pytest.fixture
def full(mixed: Verdict) -> Verdict:
    return msgspec.structs.replace(mixed, points=30, max_points=30, status="passed", checks=mixed.checks[:1])


@pytest.fixture
def broken(mixed: Verdict) -> Verdict:
    gone = CheckResult(
        id="loss",
        title="Loss",
        status="error",
        points=0,
        max_points=10,
        observed="the cluster ended",
        error_class="infrastructure",
    )
    return msgspec.structs.replace(mixed, status="error", checks=(*mixed.checks[:1], gone))
