"""What to look at next after a check that did not pass, with the commands for it.

Place: the scorecard and the report tell it of checks at the root of others. Limits: commands only; why and how are
told by the hints of lab.toml. A run's namespace goes with the run unless it was left, so they bring back something to
look at.
"""

import shlex
from collections.abc import Iterable
from pathlib import Path

import msgspec

from graders.rubric import NOT_RUN, CheckResult, Left, Verdict

LOGS = "evidence/cluster/logs/"
"""Where a run keeps what containers said, as POD/CONTAINER.log."""
MOST_LOGS = 6
MOST_CAUSES = 3
OF_THE_WHOLE = ("--attempts=", "--submitted=", "--sign=")
"""Flags without meaning for a check that is tried alone, which is never an attempt."""
OF_A_CLUSTER = ("--cluster=", "--name=", "--images=")


HERE = Path("labs")
"""Where the labs are, seen from the project's root."""


class Step(msgspec.Struct, frozen=True):
    """A thing to do, in words, and its command."""

    text: str
    command: str


def seen_from(here: Path, place: Path) -> Path:
    """How a place is typed in the folder `here`: as short as it can be without going up."""
    return place.relative_to(here) if place.is_relative_to(here) else place


def next_steps(verdict: Verdict, check: CheckResult, labs: Path = HERE) -> tuple[Step, ...]:
    """What to do about this check of a run; nothing for one that passed or was skipped.

    Args:
        verdict: of the run.
        check: one of its checks.
        labs: the folder of the labs, as it is typed where the commands are.
    """
    lab = shlex.quote(verdict.lab)
    alone = shlex.join(
        ["pytest", str(labs / verdict.lab), "-k", f"test_{check.id}"]
        + [flag for flag in verdict.flags if not flag.startswith(OF_THE_WHOLE)]
    )
    again = shlex.join(["gpulab", "grade", verdict.lab, *verdict.flags])
    if check.status == "failed":
        return (Step("Measure this check alone, as often as you like.", alone),)
    if check.status == "inconclusive":
        return (Step("End what else the machine is busy with, and measure it again.", alone),)
    if check.status == "error" and check.error_class == "infrastructure":
        return (
            Step("See what this machine has and lacks.", "gpulab doctor"),
            Step("Grade again: this cost no points.", again),
        )
    if check.status == "error" and check.observed in (NOT_RUN, verdict.reason):
        return (Step("Grade the whole lab: a check that was not run is an error.", again),)
    if check.status == "error":
        return (
            Step("See whether the lab's own files agree with each other.", f"gpulab verify {lab} --structure"),
            Step("Grade again: this cost no points.", again),
        )
    return ()


def live_steps(verdict: Verdict) -> tuple[Step, ...]:
    """How to look at what did not pass, where it was left; else at what failed, while it runs again."""
    if verdict.left and verdict.status != "passed":
        return (*left_steps(verdict.left), Step("Remove it before you grade again.", verdict.left.remove))
    if all(check.status != "failed" for check in verdict.checks):
        return ()
    flags = [flag for flag in verdict.flags if flag.startswith(OF_A_CLUSTER)]
    names = [flag.removeprefix("--name=") for flag in flags if flag.startswith("--name=")]
    kubectl = "".join(f"GPULAB_CLUSTER={shlex.quote(name)} " for name in names) + "gpulab kubectl"
    return (
        Step(
            "Let the lab's cluster run on between gradings.",
            shlex.join(["gpulab", "up", "--lab", verdict.lab, *flags]),
        ),
        Step(
            "While a check is measured, in another terminal: which pods are there?",
            f"{kubectl} get pods -A -o wide",
        ),
        Step("What does Kubernetes complain of?", f"{kubectl} events -A --types=Warning"),
    )


def left_steps(left: Left) -> tuple[Step, ...]:
    """How to look at what a run left on the cluster."""
    return (
        Step("Which pods are there?", f"{left.kubectl} get pods -o wide"),
        Step("What does Kubernetes complain of?", f"{left.kubectl} events --types=Warning"),
    )


def kept_steps(verdict: Verdict, place: Path, files: Iterable[str]) -> tuple[Step, ...]:
    """How to read what the pods of a run said, where it kept that and did not pass.

    Args:
        verdict: of the run.
        place: its folder.
        files: names of the files in it.
    """
    if verdict.status == "passed":
        return ()
    logs = [name for name in files if name.startswith(LOGS) and name.endswith(".log")]
    return tuple(
        Step(
            f"The end of what {name.removeprefix(LOGS).removesuffix('.log')} said:",
            f"tail -n 40 {shlex.quote(str(place / name))}",
        )
        for name in logs[:MOST_LOGS]
    )


def root_causes(verdict: Verdict) -> tuple[CheckResult, ...]:
    """The checks that did not pass by themselves, each told once; those skipped because of them are not among them."""
    return tuple(check for check in verdict.checks if check.status not in ("passed", "skipped"))


def commands(verdict: Verdict, place: Path, labs: Path = HERE) -> tuple[str, ...]:
    """What to type after a run, whose folder is `place`: for what it left, for some root causes, and for the whole."""
    steps = [*left_steps(verdict.left)] if verdict.left else []
    steps += [step for check in root_causes(verdict)[:MOST_CAUSES] for step in next_steps(verdict, check, labs)]
    return (*dict.fromkeys(step.command for step in steps), f"gpulab report {shlex.quote(str(place))}")


def waiting_for(verdict: Verdict, root: CheckResult) -> tuple[str, ...]:
    """Titles of the checks that were skipped because this one did not pass, by what they say of it."""
    said = repr(root.title)
    return tuple(
        check.title for check in verdict.checks if check.status == "skipped" and said in (check.observed or "")
    )
