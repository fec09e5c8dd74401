"""What differs between gradings: every figure by hand, what is put together and what is left out, the text whole."""

import statistics
from datetime import timedelta

import msgspec
import pytest

from graders.machine import Machine
from graders.rubric import CheckResult, Status, Verdict
from graders.stats import share
from graders.variance import NothingToCompare, Spread, kind_of, render, variance_of
from graders.variants import Variant
from tests.graders.verdicts import NOON, result, verdict_on

BIG = Machine("cpu", 2, 8 * 2**30, "6.1", "3.11.9", {})


def check(name: str, status: Status = "passed", value: float | None = None, attempts: int = 1) -> CheckResult:
    told = {} if value is None else {"observed": f"{value:g} times", "unit": "times", "value": value}
    return result(name, status, 50, attempts=attempts, **told)


def run(number: int, *checks: CheckResult) -> tuple[str, Verdict]:
    started = NOON + timedelta(days=number)
    ended = started + timedelta(seconds=240 + number)
    return f"run-{number}", verdict_on(checks, machine=BIG, started=started, ended=ended, submission="ab" * 32)


RUNS = [
    run(1, check("streams"), check("speed", value=5.0)),
    run(2, check("streams"), check("speed", value=6.0, attempts=2)),
    run(3, check("streams"), check("speed", "failed", value=1.0)),
    run(4, check("streams"), check("speed", "inconclusive", value=4.0, attempts=2)),
    run(5, check("streams", "failed"), check("speed", "skipped")),
    run(6, check("streams"), check("speed", "error")),
]
REPORT = """\
03_vllm, submission abababababab: 6 gradings, 2026-09-02 12:00 to 2026-09-07 12:00 UTC
on 2 cores of cpu, 8 GiB; level L1, grader 0.1.0

full marks         2 of 5, 40.0% (95% interval 5.3% to 85.3%)
a check failed     2 of 5, 40.0% (95% interval 5.3% to 85.3%)
ended in an error  1; one without a failed check counts neither way
took               243.5 ± 1.87 [241, 246] s

check                       passed  failed  inconclusive  skipped  error  again  value
streams                          5       1             0        0      0      0  none
speed                            2       1             1        1      1      2  4 ± 2.16 [1, 6] times

where a check did not pass:
  streams, run-5: failed, nothing observed
  speed, run-3: failed, 1 times
  speed, run-4: inconclusive, 4 times
  speed, run-5: skipped, nothing observed
  speed, run-6: error, nothing observed

the fewest points, 0: run-5

1 run left out, of another submission, machine, version or numbers, or without an end
"""


def other(number: int, **changed: object) -> tuple[str, Verdict]:
    name, verdict = run(number, check("streams"), check("speed", value=5.0))
    return name, msgspec.structs.replace(verdict, **changed)


def test_the_report_is_this() -> None:
    stranger = other(0, submission="cd" * 32)
    assert render(variance_of([stranger, *RUNS])) == REPORT


def test_figures_of_a_check_and_of_all_runs() -> None:
    found = variance_of(RUNS)
    streams, speed = found.checks
    assert (found.whole, found.failed, found.errors) == (share(2, 5), share(2, 5), 1)
    assert (streams.passed, speed.passed) == (share(5, 6), share(2, 4))
    assert (streams.again, speed.again) == (0, 2)
    assert streams.values is None
    assert speed.values == Spread(4.0, statistics.stdev([5, 6, 1, 4]), 1.0, 6.0)
    assert (found.seconds, found.worst, found.fewest_points) == (
        Spread(243.5, statistics.stdev(range(1, 7)), 241.0, 246.0),
        ("run-5",),
        0,
    )
    assert (found.first, found.last) == (NOON + timedelta(days=1), NOON + timedelta(days=6))


def test_a_hundred_passes_bound_the_rate_of_false_failures() -> None:
    found = variance_of([run(number, check("streams"), check("speed", value=5.0)) for number in range(100)])
    assert "a check failed     0 of 100, 0.0% (95% interval 0.0% to 3.6%)\n" in render(found)
    assert "where a check did not pass" not in render(found)
    assert "the fewest points" not in render(found)


@pytest.mark.parametrize(
    "changed",
    [
        {"submission": "cd" * 32},
        {"grader_version": "0.2.0"},
        {"level": "L3"},
        {"machine": msgspec.structs.replace(BIG, cpu_model="another")},
        {"machine": msgspec.structs.replace(BIG, cores=4)},
        {"machine": msgspec.structs.replace(BIG, memory_bytes=16 * 2**30)},
        {"variant": Variant(lab="03_vllm", student="alice", fingerprint="ab", numbers={"L1": {"kv_streams": 14}})},
        {"checks": (check("streams"),)},
        {"ended": None},
        {"reason": "the run was interrupted"},
    ],
)
def test_what_is_of_another_kind_or_has_no_end_is_left_out(changed: dict[str, object]) -> None:
    found = variance_of([other(1, **changed), *RUNS[1:]])
    assert (len(found.runs), found.left_out) == (5, 1)


def test_kernel_and_libraries_may_be_updated_meanwhile() -> None:
    newer = msgspec.structs.replace(BIG, kernel="6.2", python="3.12.1", memory_bytes=8 * 2**30 - 10_000_000)
    assert kind_of(other(1, machine=newer)[1]) == kind_of(RUNS[0][1])


def test_a_run_whose_cluster_did_not_start_is_an_error_of_its_kind() -> None:
    gone = check("streams", "error"), check("speed", "error")
    name, verdict = run(7, *gone)
    found = variance_of([*RUNS, (name, msgspec.structs.replace(verdict, level=None, simulated=None))])
    assert (len(found.runs), found.errors, found.level) == (7, 2, "L1")


def test_a_failure_counts_although_the_run_ended_in_an_error() -> None:
    found = variance_of([run(1, check("streams", "failed"), check("speed", "error"))])
    assert (found.failed, found.errors) == (share(1, 1), 1)


def test_one_run_has_no_deviation() -> None:
    assert render(variance_of(RUNS[:1])).splitlines()[-1] == (
        "speed                            1       0             0        0      0      0  5 [5, 5] times"
    )


def test_runs_of_a_refused_submission_can_be_told() -> None:
    refused = run(1, check("streams", "failed"), check("speed", "failed"))[1]
    refused = msgspec.structs.replace(
        refused, submission=None, level=None, machine=Machine(None, None, None, None, "", {})
    )
    assert render(variance_of([("a", refused)])).splitlines()[:2] == [
        "03_vllm, submission refused: 1 grading, 2026-09-02 12:00 to 2026-09-02 12:00 UTC",
        "on unknown cores of an unknown processor, unknown memory; level None, grader 0.1.0",
    ]


def test_nothing_that_has_ended_is_nothing_to_compare() -> None:
    with pytest.raises(NothingToCompare) as caught:
        variance_of([other(1, ended=None)])
    assert str(caught.value) == "asked what differs between runs, but of 1 given none has ended; grade first"
