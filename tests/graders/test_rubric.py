"""From findings to a verdict: only all passed is passed, and what is not there never counts."""

from pathlib import Path

import msgspec
import pytest

from graders.errors import HarnessError, InfrastructureError, SubmissionError
from graders.lab import CheckSpec, Lab, SubmissionRules
from graders.rubric import (
    CheckResult,
    ClusterFacts,
    Finding,
    Status,
    Verdict,
    decide,
    ended_by,
    exit_status,
    fault_of,
    judge,
    read_verdict,
    result_of,
    root_cause,
    skipped_for,
    write_verdict,
)
from tests.graders.verdicts import header_of

FIRST = CheckSpec("first", "The first", 30, hints={"low": ("Think.", "Do this.", "The answer.")})
SECOND = CheckSpec("second", "The second", 30, needs=("first",))
THIRD = CheckSpec("third", "The third", 40, needs=("second",))
LAB = Lab(
    name="03_vllm",
    folder=Path("labs/03_vllm"),
    title="Serve a model",
    summary="It is slow.",
    minutes=45,
    submission=SubmissionRules(("values.yaml",)),
    checks=(FIRST, SECOND, THIRD),
)
HEADER = header_of(LAB)
CLUSTER = ClusterFacts("L1", ("GPUs",), {"backend": "embedded"})
PASSED = Finding(expected="2 or more", observed="3", verdict="passed", hint="low")
FAILED = Finding(
    expected="2 or more",
    observed="1.5",
    verdict="failed",
    unit="times",
    value=1.5,
    n=5,
    interval=(1.2, 1.7),
    confidence=0.95,
    hint="low",
    evidence=("evidence/a",),
)


def ended(check: CheckSpec, status: Status) -> CheckResult:
    return CheckResult(id=check.id, title=check.title, status=status, points=0, max_points=check.points)


def verdict_on(**finished: CheckResult) -> Verdict:
    return judge(LAB, HEADER, finished, cluster=CLUSTER, absent="not run", reason=None, ended=HEADER.started)


def test_a_finding_that_passed_earns_its_points_and_no_hint() -> None:
    result = result_of(FIRST, PASSED, why="Because.", attempts=1, tiers=1)
    assert (result.status, result.points, result.max_points, result.hint, result.error_class) == (
        "passed", 30, 30, None, None,
    )  # fmt: skip


def test_a_finding_that_failed_keeps_everything_that_was_measured() -> None:
    assert result_of(FIRST, FAILED, why="Because.", attempts=2, tiers=2) == CheckResult(
        id="first",
        title="The first",
        status="failed",
        points=0,
        max_points=30,
        expected="2 or more",
        observed="1.5",
        unit="times",
        value=1.5,
        n=5,
        interval=(1.2, 1.7),
        confidence=0.95,
        hint="Think.\nDo this.",
        evidence=("evidence/a",),
        why="Because.",
        attempts=2,
        hint_tiers=2,
        error_class="learner",
    )


def test_no_tiers_are_no_hint() -> None:
    assert result_of(FIRST, FAILED, why=None, attempts=1, tiers=0).hint is None


def test_the_learners_mistake_fails_and_others_are_errors() -> None:
    assert ended_by(FIRST, "learner", "no values").status == "failed"
    assert ended_by(FIRST, "infrastructure", "no node").status == "error"
    assert ended_by(FIRST, "harness", "a bug").status == "error"


def test_a_fault_is_that_of_the_closest_listed_type() -> None:
    class Foreign(Exception):
        pass

    class Closer(Foreign):
        pass

    assert fault_of(Foreign(), {Foreign: "infrastructure"}) == "infrastructure"
    assert fault_of(Closer(), {Foreign: "infrastructure"}) == "infrastructure"
    assert fault_of(Closer(), {Foreign: "infrastructure", Closer: "learner"}) == "learner"
    assert fault_of(SubmissionError("x"), {}) == "learner"
    assert fault_of(InfrastructureError("x"), {}) == "infrastructure"
    assert fault_of(HarnessError("x"), {}) == "harness"
    assert fault_of(ZeroDivisionError(), {}) == "harness"


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "inconclusive"], "inconclusive"),
        (["inconclusive", "failed", "skipped"], "failed"),
        (["failed", "error", "passed"], "error"),
        (["passed", "skipped"], "error"),
        ([], "error"),
    ],
)
def test_only_all_passed_is_passed(statuses: list[Status], status: Status) -> None:
    assert decide(tuple(ended(FIRST, each) for each in statuses)) == status


@pytest.mark.parametrize(
    ("own", "statuses", "interrupted", "status"),
    [
        (0, ["passed"], False, 0),
        (1, ["passed"], False, 1),
        (0, ["passed", "failed"], False, 1),
        (0, ["inconclusive"], False, 1),
        (1, ["failed", "error"], False, 3),
        (2, ["error"], True, 2),
        (0, ["error"], True, 3),
    ],
)
def test_the_exit_status_is_0_only_when_all_passed(
    own: int, statuses: list[Status], interrupted: bool, status: int
) -> None:
    assert exit_status(own, statuses, interrupted=interrupted) == status


def test_the_root_cause_is_found_through_what_was_skipped() -> None:
    finished = {"first": ended(FIRST, "failed"), "second": ended(SECOND, "skipped")}
    assert root_cause(LAB, SECOND, finished) == FIRST
    assert root_cause(LAB, THIRD, finished) == FIRST
    assert skipped_for(THIRD, FIRST).observed == "not measured, as 'The first' did not pass"


def test_a_hidden_root_is_not_named() -> None:
    hidden = msgspec.structs.replace(FIRST, hidden=True)
    assert skipped_for(THIRD, hidden).observed == "not measured, as another check did not pass"


def test_what_passed_or_was_not_run_is_no_cause() -> None:
    assert root_cause(LAB, SECOND, {"first": ended(FIRST, "passed")}) is None
    assert root_cause(LAB, SECOND, {}) is None


def test_a_verdict_counts_the_checks_of_the_lab_in_its_order() -> None:
    results = {check.id: result_of(check, PASSED, why=None, attempts=1, tiers=1) for check in (THIRD, FIRST, SECOND)}
    verdict = verdict_on(**results)
    assert [check.id for check in verdict.checks] == ["first", "second", "third"]
    assert (verdict.points, verdict.max_points, verdict.status, verdict.level) == (100, 100, "passed", "L1")


@pytest.mark.parametrize("status", ["failed", "inconclusive", "skipped", "error"])
def test_nothing_is_earned_without_an_essential_check(status: Status) -> None:
    essential = msgspec.structs.replace(SECOND, essential=True)
    lab = msgspec.structs.replace(LAB, checks=(FIRST, essential, THIRD))
    first, third = (result_of(check, PASSED, why=None, attempts=1, tiers=1) for check in (FIRST, THIRD))
    passed = result_of(essential, PASSED, why=None, attempts=1, tiers=1)

    def points(second: CheckResult) -> tuple[int, ...]:
        finished = {"first": first, "second": second, "third": third}
        verdict = judge(lab, HEADER, finished, cluster=CLUSTER, absent="not run", reason=None, ended=None)
        return verdict.points, *(check.points for check in verdict.checks)

    assert points(passed) == (100, 30, 30, 40)
    assert points(msgspec.structs.replace(passed, status=status, points=0)) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "result",
    [
        result_of(msgspec.structs.replace(FIRST, essential=True), FAILED, why=None, attempts=1, tiers=1),
        ended_by(msgspec.structs.replace(FIRST, essential=True), "learner", "it is refused"),
        skipped_for(msgspec.structs.replace(FIRST, essential=True), SECOND),
    ],
    ids=["a finding", "an exception", "not measured"],
)
def test_a_result_says_that_its_check_is_essential(result: CheckResult) -> None:
    assert result.essential


def test_an_absent_check_is_an_error_and_a_stranger_counts_nothing() -> None:
    stranger = CheckSpec("stranger", "Bonus", 100)
    results = {check.id: result_of(check, PASSED, why=None, attempts=1, tiers=1) for check in (FIRST, SECOND, stranger)}
    verdict = verdict_on(**results)
    assert (verdict.points, verdict.status) == (60, "error")
    assert verdict.checks[2] == ended_by(THIRD, "harness", "not run")


def test_a_reason_makes_an_error_of_any_run() -> None:
    results = {check.id: result_of(check, PASSED, why=None, attempts=1, tiers=1) for check in (FIRST, SECOND, THIRD)}
    verdict = judge(LAB, HEADER, results, cluster=None, absent="", reason="it was killed", ended=None)
    assert (verdict.status, verdict.reason) == ("error", "it was killed")
    assert (verdict.level, verdict.simulated, verdict.traits, verdict.ended) == (None, None, None, None)


def test_a_verdict_is_read_as_it_was_written(tmp_path: Path) -> None:
    verdict = verdict_on(first=result_of(FIRST, FAILED, why="Because.", attempts=2, tiers=1))
    write_verdict(verdict, tmp_path / "verdict.json")
    assert read_verdict(tmp_path / "verdict.json") == verdict


def test_what_is_no_verdict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    with pytest.raises(HarnessError) as caught:
        read_verdict(path)
    assert str(caught.value) == (
        f"{path} is not a verdict that can be read: [Errno 2] No such file or directory: '{path}'; "
        "grade the submission again"
    )
    write_verdict(verdict_on(), path)
    path.write_text(path.read_text().replace("verdict/v1", "verdict/v9"))
    with pytest.raises(HarnessError) as caught:
        read_verdict(path)
    assert str(caught.value) == (
        f"{path} has the schema 'gpulab/verdict/v9', this program reads 'gpulab/verdict/v1'; grade it again"
    )
