"""A check in a lab test's hands: measuring again, thresholds, evidence, and the verdict on the disk in between."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from graders.check import Check, LabRun
from graders.errors import HarnessError
from graders.lab import CheckSpec
from graders.rubric import ClusterFacts, Finding, Verdict, read_verdict, result_of, write_verdict
from tests.graders.stored_run import begun
from tests.graders.verdicts import NOON

FIRST = CheckSpec("first", "The first", 60, hints={"low": ("Think.",)})
SECOND = CheckSpec("second", "The second", 40)
GOOD = Finding(expected="2 or more", observed="3", verdict="passed")
LOW = Finding(expected="2 or more", observed="1", verdict="failed", hint="low")
VAGUE = Finding(expected="2 or more", observed="1 to 3", verdict="inconclusive")


class Cluster:
    """Facts of a cluster that may not have been started."""

    facts: ClusterFacts | None = ClusterFacts("L1", (), {})
    others: Iterator[float | None] = itertools.repeat(None)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def run(tmp_path: Path, cluster: Cluster) -> Iterator[LabRun]:
    run = begun(tmp_path, checks=(FIRST, SECOND), facts=lambda: cluster.facts, others=lambda: next(cluster.others))
    yield run
    run.record.seal()


@pytest.fixture
def check(run: LabRun) -> Check:
    return Check(FIRST, run, "Because.")


def test_what_passes_is_returned_after_one_attempt(check: Check) -> None:
    assert check.measure(lambda attempt: GOOD) == GOOD
    assert (check.finding, check.attempts) == (GOOD, 1)


def test_what_fails_ends_the_test_and_is_not_measured_again(check: Check) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"^failed: 1$"):
        check.measure(lambda attempt: LOW)
    assert (check.finding, check.attempts) == (LOW, 1)


def test_a_timed_check_that_fails_beside_busy_programs_is_measured_again(run: LabRun, cluster: Cluster) -> None:
    timed = Check(msgspec.structs.replace(FIRST, timed=True), run, None)
    cluster.others = itertools.count(0.0, 1e9)
    with pytest.raises(pytest.fail.Exception) as caught:
        timed.measure(lambda attempt: LOW)
    assert str(caught.value).startswith("inconclusive: 1; meanwhile other programs kept ")
    assert timed.attempts == 2


def test_facts_that_were_measured_before_a_check_have_what_others_used_then(run: LabRun, cluster: Cluster) -> None:
    timed = Check(msgspec.structs.replace(FIRST, timed=True), run, None)
    cluster.others = itertools.repeat(0.0)  # while it only judges

    def attempt(number: int) -> Finding:
        if number == 1:
            timed.looks_back(1e9)
        return LOW

    with pytest.raises(pytest.fail.Exception, match=r"^failed: 1$"):
        timed.measure(attempt)
    assert timed.attempts == 2  # the first was undecided, and the second looks back at nothing


def test_another_check_fails_however_busy_the_machine_is(check: Check, cluster: Cluster) -> None:
    cluster.others = itertools.count(0.0, 1e9)
    with pytest.raises(pytest.fail.Exception, match=r"^failed: 1$"):
        check.measure(lambda attempt: LOW)


def test_what_is_inconclusive_is_measured_again_with_the_number_of_the_attempt(check: Check) -> None:
    seen: list[int] = []

    def attempt(number: int) -> Finding:
        seen.append(number)
        return GOOD if number == 3 else VAGUE

    assert check.measure(attempt, retries=4) == GOOD
    assert (seen, check.attempts) == ([1, 2, 3], 3)


def test_what_stays_inconclusive_ends_the_test(check: Check) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"^inconclusive: 1 to 3$"):
        check.measure(lambda attempt: VAGUE)
    assert (check.finding, check.attempts) == (VAGUE, 2)


def test_a_check_is_measured_once(check: Check) -> None:
    check.measure(lambda attempt: GOOD)
    with pytest.raises(HarnessError) as caught:
        check.measure(lambda attempt: GOOD)
    assert str(caught.value) == "the check 'first' was measured twice; call check.measure once"


@pytest.mark.parametrize(
    ("finding", "said"),
    [
        (
            Finding(expected="", observed="", verdict="passed", hint="nope"),
            "lab.toml has no hint 'nope' for the check 'first'; add it there",
        ),
        (
            Finding(expected="", observed="", verdict="passed", evidence=("evidence/nope",)),
            "the check 'first' names the evidence 'evidence/nope', which was not kept; keep it first",
        ),
    ],
)
def test_a_finding_names_only_what_is_there(check: Check, finding: Finding, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        check.measure(lambda attempt: finding)
    assert str(caught.value) == said
    assert check.finding is None


def test_evidence_that_was_kept_may_be_named(check: Check) -> None:
    name = check.record.keep("samples.txt", "1 2 3")
    finding = Finding(expected="", observed="", verdict="passed", evidence=(name,))
    assert check.measure(lambda attempt: finding).evidence == ("evidence/samples.txt",)


def test_a_threshold_is_that_of_the_clusters_level(check: Check, cluster: Cluster) -> None:
    assert check.threshold("ratio") == 2.0
    cluster.facts = None
    with pytest.raises(HarnessError) as caught:
        check.threshold("ratio")
    assert str(caught.value) == (
        "the threshold 'ratio' depends on the cluster's level, but no cluster was started; "
        "let the test ask for the cluster's fixture"
    )


def test_the_verdict_on_the_disk_is_an_error_until_the_end(run: LabRun) -> None:
    assert (read_verdict(run.place).status, read_verdict(run.place).reason) == ("error", "the run did not finish")
    for spec in (FIRST, SECOND):
        run.settle(result_of(spec, GOOD, why=None, attempts=1, tiers=1))
        assert read_verdict(run.place).status == "error"
    assert read_verdict(run.place).points == 100
    run.finish(NOON, None)
    verdict = read_verdict(run.place)
    assert (verdict.status, verdict.reason, verdict.points, verdict.ended) == ("passed", None, 100, NOON)


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_keeps_the_verdict_written_last_where_it_is_an_error(
    run: LabRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.settle(result_of(FIRST, GOOD, why=None, attempts=1, tiers=1))
    kept = read_verdict(run.place)
    monkeypatch.setattr("graders.check.write_verdict", full)
    monkeypatch.setattr("graders.check.write_over", full)
    run.settle(result_of(SECOND, GOOD, why=None, attempts=1, tiers=1))
    run.finish(NOON, None)
    assert run.verdict.reason == (
        f"the run's folder {run.record.folder} cannot be written: No space left on device; make room there, or name "
        "another place with --out, and grade again"
    )
    assert (run.verdict.status, kept.status, read_verdict(run.place)) == ("error", "error", kept)


@pytest.mark.parametrize("room", [True, False])
def test_no_verdict_of_a_run_that_cannot_be_sealed_is_a_pass(
    run: LabRun, monkeypatch: pytest.MonkeyPatch, *, room: bool
) -> None:
    def errors_do_not_fit(verdict: Verdict, path: Path) -> None:
        if verdict.status == "error":
            full()
        write_verdict(verdict, path)

    def unsealed(_: object) -> None:
        raise run.record.failed(OSError(28, "No space left on device"))

    for spec in (FIRST, SECOND):
        run.settle(result_of(spec, GOOD, why=None, attempts=1, tiers=1))
    with monkeypatch.context() as patched:
        patched.setattr("graders.check.write_verdict", errors_do_not_fit)
        patched.setattr(run.record, "seal", unsealed)
        if not room:
            patched.setattr("graders.check.write_over", full)
        run.finish(NOON, None)
    assert run.verdict.status == "error"
    assert (read_verdict(run.place) == run.verdict) if room else not run.place.exists()
