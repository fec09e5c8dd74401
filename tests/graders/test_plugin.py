"""The plugin, by running pytest on a small lab inside pytest: every way a check can end, and what is left then."""

from datetime import UTC, datetime

import msgspec
import pytest

from graders.lateness import Lateness
from graders.rubric import Left, Status
from graders.stored import StoredRun
from graders.terms import Terms
from graders.variants import Variant
from tests.graders.tiny_lab import FIRST, HEAD, LAB, RUN, SECOND, Session

pytest_plugins = ["pytester"]


def test_full_marks(session: Session) -> None:
    result = session.run(FIRST + SECOND)
    assert result.ret == 0
    verdict = session.verdict
    assert (verdict.status, verdict.points, verdict.level, verdict.simulated) == ("passed", 100, "L1", ("GPUs",))
    assert (verdict.lab, verdict.grader_version, verdict.reason) == ("01_tiny", "0.1.0", None)
    assert verdict.started == verdict.ended == datetime(2026, 9, 1, 12, tzinfo=UTC)
    assert verdict.submission is not None
    assert session.check("first").why == "It matters a lot."
    result.stdout.fnmatch_lines(["*scorecard*", "01_tiny: A tiny lab", "100/100 passed", f"{RUN}/verdict.json"])


def test_what_a_run_leaves_on_the_cluster_is_in_its_verdict_and_told(session: Session) -> None:
    leaving = """
from graders.rubric import Left
def test_first(check, leave):
    leave(Left("tiny-x2k4p", "gpulab kubectl --namespace tiny-x2k4p", "gpulab down"))
    check.measure(lambda attempt: GOOD)
"""
    result = session.run(leaving + SECOND)
    assert session.verdict.left == Left("tiny-x2k4p", "gpulab kubectl --namespace tiny-x2k4p", "gpulab down")
    result.stdout.fnmatch_lines(["left on the cluster; remove it before you grade again:", "  gpulab down"])


@pytest.mark.parametrize(("color", "escapes"), [("auto", False), ("yes", True)])
def test_the_scorecard_has_colours_in_a_terminal_only(session: Session, color: str, *, escapes: bool) -> None:
    text = session.run(FIRST + SECOND, f"--color={color}").stdout.str()
    assert ("\x1b[1;32mpassed" in text, "\x1b" in text) == (escapes, escapes)


def test_the_record_is_sealed_and_holds_the_submission(session: Session) -> None:
    session.run(FIRST + SECOND)
    folder = session.pytester.path / RUN
    with StoredRun(folder) as run:
        assert run.tampered() == ()
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "manifest.json",
        "run.jsonl",
        "submission/values.yaml",
        "verdict.json",
    ]
    assert [line.get("kind") for line in session.facts_of_the_run()] == [
        None,
        "start",
        "attempt",
        "check",
        "attempt",
        "check",
        "end",
        "kept",
    ]


def test_a_failed_check_shows_its_hint_and_no_traceback_and_skips_what_needs_it(session: Session) -> None:
    result = session.run("def test_first(check):\n    check.measure(lambda attempt: LOW)\n" + SECOND)
    assert result.ret == 1
    assert (session.verdict.status, session.verdict.points) == ("failed", 0)
    first, second = session.verdict.checks
    assert (first.status, first.error_class, first.observed, first.hint, first.attempts) == (
        "failed", "learner", "1", "Think.", 1,
    )  # fmt: skip
    assert (second.status, second.observed) == ("skipped", "not measured, as 'The first' did not pass")
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*check.measure*")
    result.stdout.fnmatch_lines(["SKIPPED*test_tiny.py:*not measured, as 'The first' did not pass"])
    result.stdout.fnmatch_lines(["FAILED labs/01_tiny/test_tiny.py::test_first - failed: 1"])


@pytest.mark.parametrize(
    ("asked", "shown"), [(1, "Think."), (2, "Think.\nThe answer is 2."), (3, "Think.\nThe answer is 2.")]
)
def test_as_many_tiers_of_a_hint_are_shown_as_asked_for_and_the_record_says_so(
    session: Session, asked: int, shown: str
) -> None:
    session.tiers = asked
    session.run("def test_first(check):\n    check.measure(lambda attempt: LOW)\n" + SECOND)
    first, second = session.verdict.checks
    assert (session.verdict.hint_tiers, first.hint, first.hint_tiers) == (asked, shown, len(shown.splitlines()))
    assert (second.hint, second.hint_tiers) == (None, 0)
    start, check = (
        next(line for line in session.facts_of_the_run() if line.get("kind") == kind) for kind in ("start", "check")
    )
    assert (start["header"]["hint_tiers"], check["result"]["hint_tiers"]) == (asked, len(shown.splitlines()))


def test_a_student_is_graded_with_numbers_of_their_own(session: Session) -> None:
    (session.lab / "lab.toml").write_text(LAB + "[variants.L1]\ngoal = [{ ratio = 2 }, { ratio = 3 }]\n")
    mine = Variant(lab="01_tiny", student="alice", fingerprint="ab12", numbers={"L1": {"ratio": 3}})
    session.terms = lambda _: Terms(student="alice", variant=mine)
    result = session.run(
        "def test_first(check, lab):\n    assert check.threshold('ratio') == lab.threshold('L1', 'ratio') == 3\n"
        "    check.measure(lambda _: GOOD)\n" + SECOND
    )
    assert result.ret == 0
    assert (session.verdict.student, session.verdict.variant) == ("alice", mine)
    assert session.facts_of_the_run()[1]["header"]["variant"] == msgspec.to_builtins(mine)
    result.stdout.fnmatch_lines(["student alice; numbers: ratio = 3"])


def test_lateness_stands_beside_the_points(session: Session) -> None:
    late = Lateness(due=datetime(2026, 8, 30, tzinfo=UTC), days=3, percent=25)
    submitted = datetime(2026, 9, 1, 11, tzinfo=UTC)
    session.terms = lambda _: Terms(student="alice", submitted=submitted, attempt=2, late=late)
    result = session.run(FIRST + SECOND)
    assert result.ret == 0
    verdict = session.verdict
    assert (verdict.points, verdict.final_points, verdict.status) == (100, 75, "passed")
    assert (verdict.submitted, verdict.attempt, verdict.late) == (submitted, 2, late)
    result.stdout.fnmatch_lines(["100/100 passed; 3 days late takes 25% and leaves 75", "student alice, attempt 2"])


def test_terms_that_cannot_be_kept_stop_the_run_before_anything_is_written(session: Session) -> None:
    session.terms = lambda _: Terms(
        student="alice", variant=Variant(lab="02_x", student="alice", fingerprint="ab12", numbers={})
    )
    result = session.run(FIRST + SECOND)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: these numbers of 'alice' are for 02_x, not for 01_tiny; draw anew"])
    assert not (session.pytester.path / "results").exists()


def test_an_inconclusive_check_is_measured_again(session: Session) -> None:
    result = session.run(
        "def test_first(check):\n    check.measure(lambda attempt: VAGUE if attempt == 1 else GOOD)\n" + SECOND
    )
    assert result.ret == 0
    assert (session.check("first").status, session.check("first").attempts) == ("passed", 2)


def test_an_inconclusive_run_is_inconclusive(session: Session) -> None:
    assert session.run("def test_first(check):\n    check.measure(lambda attempt: VAGUE)\n" + SECOND).ret == 1
    assert (session.verdict.status, session.statuses()) == ("inconclusive", ["inconclusive", "skipped"])


@pytest.mark.parametrize(
    ("error", "status", "fault", "said"),
    [
        ("SubmissionError('no replicas')", "failed", "learner", "no replicas"),
        ("InfrastructureError('no node')", "error", "infrastructure", "no node"),
        ("ZeroDivisionError('by zero')", "error", "harness", "ZeroDivisionError: by zero"),
        ("pytest.skip.Exception('no GPU')", "error", "harness", "the test skipped itself: no GPU"),
        ("pytest.fail.Exception('no')", "error", "harness", "Failed: no"),
        ("SystemExit(0)", "error", "harness", "SystemExit: 0"),
        ("ConnectionError('refused')", "error", "infrastructure", "refused"),
    ],
)
@pytest.mark.parametrize("where", ["test", "fixture"])
def test_an_exception_is_somebodys_fault(
    session: Session, error: str, status: Status, fault: str, said: str, where: str
) -> None:
    source = {
        "test": f"def test_first(check):\n    raise {error}\n",
        "fixture": f"@pytest.fixture\ndef up():\n    raise {error}\ndef test_first(check, up):\n    pass\n",
    }[where]
    result = session.run(source + SECOND)
    first = session.check("first")
    assert (first.status, first.error_class, first.observed) == (status, fault, said)
    assert session.check("second").status == "skipped"
    assert result.ret == (1 if status == "failed" else 3)


def test_an_error_while_tearing_down_spoils_a_check_that_passed(session: Session) -> None:
    result = session.run(
        "@pytest.fixture\ndef door():\n    yield\n    raise InfrastructureError('the door is stuck')\n"
        "def test_first(check, door):\n    check.measure(lambda attempt: GOOD)\n" + SECOND
    )
    assert result.ret == 3
    first = session.check("first")
    assert (first.status, first.error_class, first.observed) == ("error", "infrastructure", "the door is stuck")


def test_a_test_that_concludes_nothing_is_an_error_of_the_harness(session: Session) -> None:
    result = session.run("def test_first(check):\n    pass\n" + SECOND)
    assert result.ret == 3
    assert session.check("first").observed == "the test ended without a finding; let it call check.measure"
    assert session.check("first").error_class == "harness"
    result.stdout.no_fnmatch_line("test_first PASSED")


def test_a_check_keeps_evidence_and_asks_for_thresholds(session: Session) -> None:
    result = session.run(
        "def test_first(check, lab, submission, record):\n"
        "    name = check.record.keep('a.txt', 'a')\n"
        "    assert record is check.record\n"
        "    seen = f\"{check.threshold('ratio'):g} {lab.name} {submission.values()['replicas']}\"\n"
        "    check.measure(lambda _: Finding(expected='', observed=seen, verdict='passed', evidence=(name,)))\n"
        + SECOND
    )
    assert result.ret == 0
    assert (session.check("first").observed, session.check("first").evidence) == ("2 01_tiny 1", ("evidence/a.txt",))


@pytest.mark.parametrize(
    "source",
    [
        "def test_first(check):\n    try:\n        check.measure(lambda _: LOW)\n    except BaseException: pass\n",
        "@pytest.mark.xfail\ndef test_first(check):\n    check.measure(lambda _: LOW)\n",
    ],
)
def test_nothing_excuses_a_failure(session: Session, source: str) -> None:
    assert session.run(source + SECOND).ret == 1
    assert session.statuses() == ["failed", "skipped"]


def test_what_follows_a_finding_counts_too(session: Session) -> None:
    session.run("def test_first(check):\n    check.measure(lambda _: GOOD)\n    raise AssertionError('x')\n" + SECOND)
    assert (session.check("first").status, session.check("first").observed) == ("error", "AssertionError: x")


def test_a_cluster_that_ends_makes_errors_of_its_check_and_of_the_rest(session: Session) -> None:
    def lost() -> None:
        raise ConnectionError("its holder was killed")

    session.alive = lost
    result = session.run(FIRST + SECOND)
    assert result.ret == 3
    assert [(check.status, check.error_class, check.observed) for check in session.verdict.checks] == [
        ("error", "infrastructure", "the cluster ended: its holder was killed")
    ] * 2
    result.assert_outcomes(failed=1, errors=1)


def test_a_refused_submission_fails_before_anything_is_set_up(session: Session) -> None:
    (session.lab / "starter/conftest.py").write_text("raise SystemExit('the submission ran')")
    result = session.run(
        "@pytest.fixture\ndef up():\n    open('set-up', 'w').close()\ndef test_first(up, check):\n    pass\n" + SECOND
    )
    assert result.ret == 1
    first = session.check("first")
    assert (first.status, first.error_class) == ("failed", "learner")
    assert first.observed == (
        f"conftest.py in {session.lab}/starter is no part of a submission for 01_tiny, which is: values.yaml; "
        "move it elsewhere"
    )
    assert session.verdict.submission is None
    assert not (session.pytester.path / "set-up").exists()


def test_a_check_that_was_not_selected_was_not_run(session: Session) -> None:
    result = session.run(FIRST + SECOND, "-k", "second")
    assert result.ret == 3
    assert [(check.status, check.observed) for check in session.verdict.checks] == [
        ("error", "not run"),
        ("passed", "3"),
    ]
    assert (session.verdict.status, session.verdict.points) == ("error", 40)


def test_a_run_of_no_check_is_an_error(session: Session) -> None:
    assert session.run(FIRST + SECOND, "-k", "nothing").ret == 3
    assert session.statuses() == ["error", "error"]


def test_a_renamed_check_is_an_error_whatever_else_passed(session: Session) -> None:
    result = session.run(FIRST + SECOND.replace("second", "zweite"))
    assert result.ret == 3
    assert session.verdict.reason == (
        "test_zweite is no check of 01_tiny, whose checks are: first, second; name tests test_<id>"
    )
    assert session.check("second").observed == "not run"


def test_a_check_with_two_tests_is_an_error(session: Session) -> None:
    result = session.run("@pytest.mark.parametrize('x', [1, 2])" + FIRST.replace("check: Check", "x, check") + SECOND)
    assert result.ret == 3
    assert session.check("first").observed == "the check 'first' has 2 tests; keep one"
    assert session.check("second").status == "skipped"


def test_a_lab_with_two_test_files_is_not_run(session: Session) -> None:
    (session.lab / "test_other.py").write_text("")
    result = session.run(FIRST + SECOND)
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        ["*/labs/01_tiny holds 2 files named test_*.py, test_other.py, test_tiny.py; keep exactly one"]
    )


def test_a_broken_lab_toml_is_a_sentence(session: Session) -> None:
    (session.lab / "lab.toml").write_text(LAB.replace("points = 60", "points = 50"))
    result = session.run(FIRST + SECOND)
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        ["*/labs/01_tiny/lab.toml: the points of the checks sum to 90, not 100; correct lab.toml"]
    )


def test_a_test_file_that_cannot_be_imported_leaves_an_error(session: Session) -> None:
    assert session.run("import no_such_module\n").ret == 3
    assert (session.verdict.status, session.statuses()) == ("error", ["error", "error"])


def test_checks_run_in_the_order_of_lab_toml(session: Session) -> None:
    assert session.run(SECOND + FIRST.replace("GOOD", "LOW")).ret == 1
    assert session.statuses() == ["failed", "skipped"]


def test_ctrl_c_keeps_pytests_status_and_what_was_finished(session: Session) -> None:
    result = session.run(FIRST + "def test_second(check):\n    raise KeyboardInterrupt\n")
    assert result.ret == 2
    assert (session.verdict.status, session.verdict.reason) == ("error", "the run was interrupted")
    assert session.statuses() == ["passed", "error"]
    assert session.check("second").observed == "the run was interrupted"


def test_leaving_with_status_0_is_no_way_out(session: Session) -> None:
    assert session.run("def test_first(check):\n    pytest.exit('done', returncode=0)\n").ret == 3
    assert session.verdict.status == "error"


def test_a_run_that_is_killed_leaves_an_error_with_what_was_finished(session: Session) -> None:
    (session.lab / "test_tiny.py").write_text(
        HEAD + FIRST + "def test_second(check):\n    check.measure(lambda attempt: os.kill(os.getpid(), 9))\n"
    )
    session.pytester.makeconftest(
        """
        from datetime import datetime, UTC
        from pathlib import Path
        from graders.machine import Machine
        from graders.plugin import Plugin

        HERE = Path(__file__).parent

        def pytest_configure(config):
            config.pluginmanager.register(Plugin(
                labs=HERE / "labs", results=HERE / "results", submission=lambda lab: HERE / "labs" / lab / "starter",
                machine=Machine("cpu", 2, 4096, "6.1", "3.11.9", {}), version="0.1.0", errors={},
                alive=lambda: None, facts=lambda: None,
                now=lambda: datetime(2026, 9, 1, 12, tzinfo=UTC), token=lambda: "abcdef",
            ))
        """
    )
    assert session.pytester.runpytest_subprocess("labs/01_tiny", "-p", "no:cacheprovider").ret == -9
    assert (session.verdict.status, session.verdict.reason) == ("error", "the run did not finish")
    assert [(check.status, check.observed) for check in session.verdict.checks] == [
        ("passed", "3"),
        ("error", "the run did not finish"),
    ]
    assert not (session.pytester.path / RUN / "manifest.json").exists()


def test_collecting_only_writes_nothing(session: Session) -> None:
    assert session.run(FIRST + SECOND, "--collect-only").ret == 0
    assert not (session.pytester.path / "results").exists()


def test_a_results_folder_that_cannot_be_written_is_a_sentence(session: Session) -> None:
    (session.pytester.path / "results").write_text("")
    result = session.run(FIRST + SECOND)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [f"ERROR: the run's folder */{RUN} cannot be written (Not a directory); make room or name another"]
    )


def test_tests_that_are_no_lab_are_left_alone(session: Session) -> None:
    session.pytester.makepyfile(
        test_alone="def test_first():\n    pass\ndef test_other(check):\n    pass\ndef test_more(lab):\n    pass\n"
    )
    session.pytester.path.joinpath("labs/01_tiny/lab.toml").unlink()
    result = session.run("def test_second():\n    pass\n", ".")
    result.assert_outcomes(passed=2, errors=2)
    said = [line.partition("HarnessError: ")[2] for line in result.outlines if line.startswith("E  ")]
    assert said == [
        "test_other is no check of a lab, so it cannot use the fixture `check`; checks are the tests in "
        "labs/LAB/test_*.py that lab.toml names",
        "test_alone.py is no lab's test file, so it cannot use the fixtures of a graded run; a lab's is "
        "labs/LAB/test_*.py, beside its lab.toml",
    ]
    result.stdout.no_fnmatch_line("*scorecard*")
