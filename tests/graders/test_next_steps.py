"""What to look at next: each root cause once, with commands."""

from pathlib import Path

import msgspec
import pytest

from graders.next_steps import MOST_LOGS, Step, commands, kept_steps, live_steps, next_steps, root_causes, waiting_for
from graders.rubric import CheckResult, Left
from tests.graders.verdicts import verdict_on
from tests.html.conftest import CHECKS, KNEE, LOSS, OBJECTIVE, PREFIX, STREAMS, THROUGHPUT

VERDICT = verdict_on(CHECKS)
BROKEN = msgspec.structs.replace(LOSS, error_class="harness")


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
        (
            BROKEN,
            (
                Step("See whether the lab's own files agree with each other.", "gpulab verify 03_vllm --structure"),
                Step("Grade again: this cost no points.", "gpulab grade 03_vllm"),
            ),
        ),
        (
            msgspec.structs.replace(BROKEN, observed="not run"),
            (Step("Grade the whole lab: a check that was not run is an error.", "gpulab grade 03_vllm"),),
        ),
    ],
)
def test_steps_by_how_a_check_ended(check: CheckResult, steps: tuple[Step, ...]) -> None:
    assert next_steps(VERDICT, check) == steps


def test_what_a_run_did_not_come_to_is_graded_with_the_whole() -> None:
    ended = msgspec.structs.replace(VERDICT, reason="the run was interrupted")
    (step,) = next_steps(ended, msgspec.structs.replace(BROKEN, observed="the run was interrupted"))
    assert step == Step("Grade the whole lab: a check that was not run is an error.", "gpulab grade 03_vllm")


FLAGS = (
    *("--name=course", "--submission=of alice", "--images=own.toml", "--sign=key", "--student=alice"),
    *("--attempts=course.toml", "--submitted=2026-10-01T23:59:00+02:00", "--out=graded"),
)


def test_a_command_grades_what_was_graded_where_it_was() -> None:
    graded = msgspec.structs.replace(VERDICT, flags=FLAGS)
    where = "--name=course '--submission=of alice' --images=own.toml"
    assert commands(graded, Path("graded/03_vllm/run")) == (
        f"pytest labs/03_vllm -k test_objective {where} --student=alice --out=graded",
        f"pytest labs/03_vllm -k test_prefix {where} --student=alice --out=graded",
        "gpulab doctor",
        f"gpulab grade 03_vllm {where} --sign=key --student=alice --attempts=course.toml "
        "--submitted=2026-10-01T23:59:00+02:00 --out=graded",
        "gpulab report graded/03_vllm/run",
    )
    assert [step.command for step in live_steps(graded)] == [
        "gpulab up --lab 03_vllm --name=course --images=own.toml",
        "GPULAB_CLUSTER=course gpulab kubectl get pods -A -o wide",
        "GPULAB_CLUSTER=course gpulab kubectl events -A --types=Warning",
    ]


def test_the_commands_of_a_run_are_told_once() -> None:
    assert commands(VERDICT, Path("results/03_vllm/run")) == (
        "pytest labs/03_vllm -k test_objective",
        "pytest labs/03_vllm -k test_prefix",
        "gpulab doctor",
        "gpulab grade 03_vllm",
        "gpulab report results/03_vllm/run",
    )


def test_what_failed_can_be_looked_at_while_it_runs() -> None:
    assert [step.command for step in live_steps(VERDICT)] == [
        "gpulab up --lab 03_vllm",
        "gpulab kubectl get pods -A -o wide",
        "gpulab kubectl events -A --types=Warning",
    ]
    assert live_steps(msgspec.structs.replace(VERDICT, checks=(STREAMS, THROUGHPUT, LOSS))) == ()


LEFT = Left("03-vllm-x2k4p", "gpulab kubectl --namespace 03-vllm-x2k4p", "gpulab down")


def test_what_was_left_is_named_and_looked_at_first() -> None:
    left = msgspec.structs.replace(VERDICT, left=LEFT)
    look = (
        "gpulab kubectl --namespace 03-vllm-x2k4p get pods -o wide",
        "gpulab kubectl --namespace 03-vllm-x2k4p events --types=Warning",
    )
    assert commands(left, Path("run")) == (*look, *commands(VERDICT, Path("run")))
    assert [step.command for step in live_steps(left)] == [*look, "gpulab down"]
    broken = msgspec.structs.replace(left, checks=(STREAMS, LOSS))
    assert [step.command for step in live_steps(broken)] == [*look, "gpulab down"]
    assert live_steps(msgspec.structs.replace(left, status="passed", checks=(STREAMS,))) == ()


def test_what_pods_said_can_be_read_where_it_was_kept() -> None:
    names = ["evidence/cluster/logs/submission-0/vllm.log", "evidence/cluster/logs/it's/vllm.log", "evidence/a.jsonl"]
    assert kept_steps(VERDICT, Path("results/03_vllm/run"), names) == (
        Step(
            "The end of what submission-0/vllm said:",
            "tail -n 40 results/03_vllm/run/evidence/cluster/logs/submission-0/vllm.log",
        ),
        Step(
            "The end of what it's/vllm said:",
            """tail -n 40 'results/03_vllm/run/evidence/cluster/logs/it'"'"'s/vllm.log'""",
        ),
    )
    assert len(kept_steps(VERDICT, Path(), names[:1] * 99)) == MOST_LOGS
    assert kept_steps(msgspec.structs.replace(VERDICT, status="passed"), Path(), names) == ()
