"""What to look at next: each root cause once, with commands."""

import msgspec
import pytest

from graders.next_steps import Step, live_steps, next_steps, root_causes, waiting_for
from graders.rubric import CheckResult
from tests.graders.verdicts import verdict_on
from tests.html.conftest import CHECKS, KNEE, LOSS, OBJECTIVE, PREFIX, STREAMS, THROUGHPUT

VERDICT = verdict_on(CHECKS, title="Serve a model", points=30, max_points=100, status="error")


def test_root_causes_are_told_once_with_what_waits_for_them() -> None:
    assert root_causes(VERDICT) == (OBJECTIVE, PREFIX, LOSS)
    assert waiting_for(VERDICT, OBJECTIVE) == ("Highest load",)
    assert waiting_for(VERDICT, LOSS) == ()


@pytest.mark.parametrize(
    ("check", "steps"),
    [
        (STREAMS, ()),
        (KNEE, ()),
        (
            OBJECTIVE,
            (Step("Measure this check alone, as often as you like.", "pytest labs/03_vllm -k test_objective"),),
        ),
        (
            PREFIX,
            (
                Step(
                    "End what else the machine is busy with, and measure it again.",
                    "pytest labs/03_vllm -k test_prefix",
                ),
            ),
        ),
        (
            LOSS,
            (
                Step("See what this machine has and lacks.", "gpulab doctor"),
                Step("Grade again: this cost no points.", "gpulab grade 03_vllm"),
            ),
        ),
        (msgspec.structs.replace(LOSS, error_class="harness"), ()),
    ],
)
def test_steps_by_how_a_check_ended(check: CheckResult, steps: tuple[Step, ...]) -> None:
    assert next_steps(VERDICT, check) == steps


def test_what_failed_can_be_looked_at_while_it_runs() -> None:
    assert [step.command for step in live_steps(VERDICT)] == [
        "gpulab up --lab 03_vllm",
        "gpulab kubectl get pods -A -o wide",
        "gpulab kubectl events -A --types=Warning",
    ]
    assert live_steps(msgspec.structs.replace(VERDICT, checks=(STREAMS, THROUGHPUT, LOSS))) == ()
