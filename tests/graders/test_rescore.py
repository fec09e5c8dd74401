"""A stored run judged again: what each number of lab.toml changes, what stays as it was, and which runs are refused."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from graders.audit import audit
from graders.errors import GraderError, HarnessError
from graders.record import FORMAT, MANIFEST, sums
from graders.rescore import Refused, read_run
from graders.rubric import Left
from graders.stored import pack
from tests.graders.judged_lab import JUDGES, THRESHOLDS, again, change, edit, measured
from tests.graders.tiny_lab import LAB, RUN, Session

pytest_plugins = ["pytester"]

AGAIN = "grade the submission again"


@pytest.mark.parametrize("ratio", ["3.0", "1.0", "2.0", "3.0 if attempt > 1 else 2.0"])
def test_by_the_same_lab_a_run_keeps_its_verdict(session: Session, ratio: str) -> None:
    folder = measured(session, ratio)
    before = sums(folder)

    found = again(session)

    assert found.now == found.then == session.verdict
    assert (found.changes, found.counts) == ((), False)
    assert sums(folder) == before


def test_the_try_and_the_numbers_that_judged_it_are_in_the_record(session: Session) -> None:
    attempt = read_run(measured(session, "3.0")).tries["first"]

    assert (attempt.format, attempt.measured_with, attempt.judged_by) == (
        "01_tiny/ratio/v1",
        {"seconds": 1.0, "streams": 8.0},
        {"ratio": 2.0},
    )
    assert msgspec.json.decode(attempt.facts) == {"ratio": 3.0, "streams": 8, "evidence": ["evidence/samples-1"]}


def test_another_threshold_is_applied_and_what_needs_the_check_is_skipped(session: Session) -> None:
    measured(session, "3.0")
    change(session, thresholds=THRESHOLDS.replace("ratio = 2", "ratio = 4"))

    found = again(session)

    first, second = found.now.checks
    assert (first.status, first.points, first.expected, first.hint, first.error_class) == (
        "failed", 0, "more than 4 with 8 streams", "Think.", "learner",
    )  # fmt: skip
    assert (first.evidence, first.attempts, first.why) == (("evidence/samples-1",), 1, "It matters a lot.")
    assert (second.status, second.observed) == ("skipped", "not measured, as 'The first' did not pass")
    assert (found.now.status, found.now.points) == ("failed", 0)
    assert [(each.check, each.counts, each.why) for each in found.changes] == [
        ("first", True, ("ratio 2 -> 4",)),
        ("second", True, ()),
    ]
    kept = {name: getattr(found.then, name) for name in ("lab", "machine", "submission", "started", "ended", "traits")}
    assert kept == {name: getattr(found.now, name) for name in kept}


def test_what_a_run_left_on_the_cluster_is_still_told(session: Session) -> None:
    folder = measured(session, "3.0")
    left = '{"namespace": "tiny-x2k4p", "kubectl": "gpulab kubectl", "remove": "gpulab down"}'
    edit(folder, "verdict.json", lambda text: text.replace('"left": null', f'"left": {left}'))
    assert again(session).now.left == Left("tiny-x2k4p", "gpulab kubectl", "gpulab down")


def test_a_threshold_that_decides_nothing_else_changes_words_only(session: Session) -> None:
    measured(session, "3.0")
    change(session, thresholds=THRESHOLDS.replace("ratio = 2", "ratio = 2.5"))

    found = again(session)

    assert (found.now.status, found.now.points, found.counts) == ("passed", 100, False)
    assert [(each.check, each.counts, each.why) for each in found.changes] == [("first", False, ("ratio 2 -> 2.5",))]


def test_points_titles_and_hints_are_todays(session: Session) -> None:
    measured(session, "1.0")
    change(session, lab=LAB.replace("60", "70").replace("40", "30").replace("Think.", "Think twice."))

    found = again(session)

    first, second = found.now.checks
    assert (first.points, first.max_points, first.hint, second.max_points) == (0, 70, "Think twice.", 30)
    assert [each.why for each in found.changes] == [("points 60 -> 70",), ("points 40 -> 30",)]


def test_what_an_essential_check_decides_is_counted_again(session: Session) -> None:
    alone = LAB.replace('needs = ["first"]\n', "").replace("points = 60\n", "points = 60\nessential = true\n")
    measured(session, "1.0", lab=alone)
    assert (session.verdict.points, session.statuses()) == (0, ["failed", "passed"])
    assert audit(session.pytester.path / RUN).holds

    change(session, lab=alone, thresholds=THRESHOLDS.replace("ratio = 2", "ratio = 0.5"))
    found = again(session)

    nothing = "nothing is earned without 'The first'"
    assert found.now.points == 100
    assert [(each.check, each.why) for each in found.changes] == [
        ("first", ("ratio 2 -> 0.5",)),
        ("second", (nothing,)),
    ]

    change(session, lab=alone.replace("essential = true\n", ""))
    found = again(session)
    assert [check.points for check in found.now.checks] == [0, 40]
    assert [(each.check, each.why) for each in found.changes if each.counts] == [("second", (nothing,))]


def test_a_check_that_was_skipped_then_cannot_be_judged_now(session: Session) -> None:
    measured(session, "1.0")
    change(session, thresholds=THRESHOLDS.replace("ratio = 2", "ratio = 0.5"))

    first, second = again(session).now.checks

    assert (first.status, first.points) == ("passed", 60)
    assert (second.status, second.points, second.observed) == (
        "inconclusive",
        0,
        f"not measured, as 'The first' did not pass then, and would be measured now; {AGAIN}",
    )


def test_a_check_that_waits_for_no_other_any_more_cannot_be_judged_either(session: Session) -> None:
    measured(session, "1.0")
    change(session, lab=LAB.replace('needs = ["first"]\n', ""))

    assert [check.status for check in again(session).now.checks] == ["failed", "inconclusive"]


def test_a_new_check_is_inconclusive_and_one_that_is_gone_counts_nothing(session: Session) -> None:
    measured(session, "3.0")
    change(session, lab=LAB.replace('"second"', '"third"'))

    found = again(session)

    assert [(check.id, check.status, check.observed) for check in found.now.checks][1] == (
        "third", "inconclusive", f"this was no check when the run was measured; {AGAIN}",
    )  # fmt: skip
    gone = found.changes[1]
    assert (gone.check, gone.now, gone.counts, gone.then and gone.then.status) == ("second", None, True, "passed")


def test_another_condition_of_the_claim_proves_nothing_and_another_effort_does_not_matter(session: Session) -> None:
    measured(session, "3.0")

    change(session, thresholds=THRESHOLDS.replace("seconds = 1", "seconds = 5"))
    assert again(session).changes == ()

    change(session, thresholds=THRESHOLDS.replace("streams = 8", "streams = 16"))
    first = again(session).now.checks[0]
    assert (first.status, first.points, first.observed) == (
        "inconclusive",
        0,
        f"it was measured under other conditions: streams 8 -> 16; {AGAIN}",
    )

    change(session, thresholds=THRESHOLDS.replace("streams = 8\n", ""))
    assert again(session).now.checks[0].observed == (
        f"it was measured under other conditions: streams 8 -> none; {AGAIN}"
    )


def test_another_formula_is_applied(session: Session) -> None:
    measured(session, "3.0")
    change(session, judges=JUDGES.replace("facts.ratio > goal", "facts.ratio > goal + 2"))

    found = again(session)

    assert [check.status for check in found.now.checks] == ["failed", "skipped"]
    assert found.changes[0].why == ("no number differs; the lab judges otherwise",)


def test_a_failure_beside_busy_programs_stays_excused_as_long_as_the_check_is_timed(session: Session) -> None:
    folder = measured(session, "3.0")
    change(session, lab=LAB.replace("points = 60", "points = 60\ntimed = true"))
    edit(folder, "run.jsonl", lambda text: text.replace('"others":null', '"others":1.5'))
    assert again(session).changes == ()

    change(
        session,
        lab=LAB.replace("points = 60", "points = 60\ntimed = true"),
        thresholds=THRESHOLDS.replace("ratio = 2", "ratio = 4"),
    )
    first = again(session).now.checks[0]
    assert (first.status, first.observed) == (
        "inconclusive",
        "3; meanwhile other programs kept 1.5 of 2 cores busy, so this may be their doing; measure again while the "
        "machine is quiet",
    )


@pytest.mark.parametrize(
    ("raised", "status"),
    [("SubmissionError('no replicas')", "failed"), ("InfrastructureError('no node')", "error")],
)
def test_what_an_exception_ended_stays_so(session: Session, raised: str, status: str) -> None:
    source = f"def test_first(check):\n    raise {raised}\ndef test_second(check):\n    check.measure(lambda _: GOOD)\n"
    session.run(source)
    change(session, lab=LAB.replace("60", "70").replace("40", "30"))

    found = again(session)

    first = found.now.checks[0]
    assert (first.status, first.points, first.max_points) == (status, 0, 70)
    assert first == msgspec.structs.replace(found.then.checks[0], max_points=70)
    assert found.now.status == found.then.status


def test_a_finding_without_a_judge_stands(session: Session) -> None:
    session.run("def test_first(check):\n    check.measure(lambda _: LOW)\ndef test_second(check):\n    pass\n")
    (session.lab / "lab.toml").write_text(LAB.replace("ratio = 2", "ratio = 0.5").replace("Think.", "Think twice."))

    first = again(session).now.checks[0]

    assert (first.status, first.observed, first.hint) == ("failed", "1", "Think twice.")


@pytest.mark.parametrize(
    ("found", "passed"), [("LOW", False), ("msgspec.structs.replace(LOW, verdict='passed')", True)]
)
def test_a_finding_without_a_judge_needs_its_hint_where_it_did_not_pass(
    session: Session, found: str, *, passed: bool
) -> None:
    measure = "def test_{}(check):\n    check.measure(lambda _: {})\n"
    session.run("import msgspec\n" + measure.format("first", found) + measure.format("second", "GOOD"))
    (session.lab / "lab.toml").write_text(LAB.replace("{ low =", "{ lower ="))

    if passed:
        assert again(session).changes == ()
    else:
        with pytest.raises(HarnessError) as caught:
            again(session)
        assert str(caught.value) == "lab.toml has no hint 'low' for the check 'first'; add it there"


def link_facts(folder: Path) -> None:
    elsewhere = folder.with_suffix(".jsonl")
    (folder / "run.jsonl").rename(elsewhere)
    (folder / "run.jsonl").symlink_to(elsewhere)


REFUSALS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (
        lambda folder: (folder / MANIFEST).unlink(),
        "{folder} has no manifest.json: its run did not end, so it proves nothing; " + AGAIN,
    ),
    "broken manifest": (
        lambda folder: edit(folder, MANIFEST, lambda text: text[:-9]),
        "manifest.json in {folder} cannot be read: Input data was truncated; it proves nothing; " + AGAIN,
    ),
    "another format": (
        lambda folder: edit(folder, MANIFEST, lambda text: text.replace(FORMAT, "gpulab/record/v9")),
        "manifest.json in {folder} has the format 'gpulab/record/v9'; this program reads 'gpulab/record/v1'; " + AGAIN,
    ),
    "changed facts": (
        lambda folder: edit(folder, "run.jsonl", lambda text: text.replace("3.0", "9.0"), sealed=False),
        "{folder} was changed: run.jsonl is not what its manifest says; get it back, or " + AGAIN,
    ),
    "changed verdict": (
        lambda folder: edit(folder, "verdict.json", lambda text: text.replace("passed", "failed"), sealed=False),
        "{folder} was changed: verdict.json is not what its manifest says; get it back, or " + AGAIN,
    ),
    "facts that the manifest leaves out": (
        lambda folder: edit(folder, MANIFEST, lambda text: text.replace('"run.jsonl"', '"submission/values.yaml"')),
        "{folder} was changed: run.jsonl is not what its manifest says; get it back, or " + AGAIN,
    ),
    "missing evidence": (
        lambda folder: (folder / "evidence/samples-1").unlink(),
        "{folder} is incomplete: evidence/samples-1 is missing; get it back, or " + AGAIN,
    ),
    "missing facts": (
        lambda folder: (folder / "run.jsonl").unlink(),
        "{folder} is incomplete: run.jsonl is missing; get it back, or " + AGAIN,
    ),
    "unreadable facts": (
        lambda folder: edit(folder, "run.jsonl", lambda text: text.replace('"attempt":1', '"attempt":"one"')),
        "{folder}/run.jsonl cannot be read: Expected `int`, got `str` - at `$.attempt`; " + AGAIN,
    ),
    "facts behind a link": (
        link_facts,
        "{folder} is incomplete: run.jsonl is missing; get it back, or " + AGAIN,
    ),
    "no try": (
        lambda folder: edit(folder, "run.jsonl", lambda text: text.replace('"kind":"attempt"', '"kind":"else"')),
        "{folder} is incomplete: run.jsonl holds no try of the check 'first'; " + AGAIN,
    ),
    "made before facts were kept": (
        lambda folder: edit(folder, "run.jsonl", lambda text: text.replace('"format":"01_tiny/ratio/v1",', "")),
        "{folder} was made before facts were kept of the check 'first'; " + AGAIN,
    ),
    "facts of another format": (
        lambda folder: edit(folder, "run.jsonl", lambda text: text.replace("ratio/v1", "ratio/v0")),
        "{folder} has facts of the check 'first' in the format '01_tiny/ratio/v0', and {lab} judges "
        "'01_tiny/ratio/v1'; " + AGAIN,
    ),
    "did not finish": (
        lambda folder: edit(folder, "verdict.json", lambda text: text.replace('"reason": null', '"reason": "stop"')),
        "the run in {folder} did not finish: stop; " + AGAIN,
    ),
    "another lab": (
        lambda folder: edit(folder, "verdict.json", lambda text: text.replace("01_tiny", "02_small")),
        "{folder} is a run of the lab '02_small', and {lab} holds the lab '01_tiny'",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_run_that_proves_nothing_is_refused_by_name(session: Session, name: str) -> None:
    spoil, said = REFUSALS[name]
    folder = measured(session, "3.0")
    spoil(folder)

    with pytest.raises(Refused) as caught:
        again(session)

    assert str(caught.value) == said.format(folder=folder, lab=session.lab)


def test_a_judge_that_is_no_more_leaves_facts_that_nobody_reads(session: Session) -> None:
    folder = measured(session, "3.0")
    shutil.rmtree(session.lab / "tiny_lab")

    with pytest.raises(Refused) as caught:
        again(session)
    assert str(caught.value) == (
        f"{folder} has facts of the check 'first' in the format '01_tiny/ratio/v1', and {session.lab} judges none; "
        f"{AGAIN}"
    )


def test_a_threshold_that_lab_toml_lacks_is_named(session: Session) -> None:
    measured(session, "1.0")
    change(session, thresholds="streams = 8\n")
    with pytest.raises(HarnessError) as caught:
        again(session)
    assert str(caught.value) == (
        "the lab 01_tiny asks for the threshold 'ratio' at level L1, where lab.toml has: streams; "
        "add it to [thresholds.L1]"
    )


def test_a_threshold_of_no_level_is_named(session: Session) -> None:
    folder = measured(session, "3.0")
    edit(folder, "verdict.json", lambda text: text.replace('"level": "L1"', '"level": null'))
    with pytest.raises(HarnessError) as caught:
        again(session)
    assert str(caught.value) == f"the threshold 'ratio' depends on the cluster's level, and the run saw none; {AGAIN}"


def test_a_hint_that_lab_toml_lacks_is_named(session: Session) -> None:
    measured(session, "1.0")
    change(session, judges=JUDGES.replace('"low"', '"lower"'))
    with pytest.raises(HarnessError) as caught:
        again(session)
    assert str(caught.value) == "lab.toml has no hint 'lower' for the check 'first'; add it there"


def test_a_run_that_the_system_keeps_back_is_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = measured(session, "3.0")

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("graders.stored.os.open", refuse)
    with pytest.raises(Refused) as caught:
        read_run(folder)
    assert str(caught.value) == f"{folder} cannot be read: Permission denied; make it readable, or {AGAIN}"


def test_a_packed_run_is_judged_as_its_folder_is(session: Session, tmp_path: Path) -> None:
    folder, packed = measured(session, "3.0"), tmp_path / "run.gpulab.zip"
    pack(folder, packed)

    assert read_run(packed) == msgspec.structs.replace(read_run(folder), place=packed)


def test_a_verdict_of_another_schema_is_refused(session: Session) -> None:
    folder = measured(session, "3.0")
    edit(folder, "verdict.json", lambda text: text.replace("gpulab/verdict/v1", "gpulab/verdict/v9"))
    with pytest.raises(GraderError) as caught:
        read_run(session.pytester.path / RUN)
    assert str(caught.value) == (
        f"{folder}/verdict.json has the schema 'gpulab/verdict/v9', this program reads 'gpulab/verdict/v1'; grade it "
        "again"
    )
