"""The plugin, by running pytest on a small lab inside pytest: every way a check can end, and what is left then."""

import resource
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from graders import signing
from graders.audit import audit
from graders.record import tampered
from graders.rubric import Status
from graders.stored import StoredRun
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


@pytest.mark.parametrize(("color", "escapes"), [("auto", False), ("yes", True)])
def test_the_scorecard_has_colours_in_a_terminal_only(session: Session, color: str, *, escapes: bool) -> None:
    text = session.run(FIRST + SECOND, f"--color={color}").stdout.str()
    assert ("\x1b[1;32mpassed" in text, "\x1b" in text) == (escapes, escapes)


def test_the_record_is_sealed_and_holds_the_submission(session: Session) -> None:
    session.run(FIRST + SECOND)
    folder = session.pytester.path / RUN
    assert tampered(folder) == ()
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "manifest.json",
        "run.jsonl",
        "submission/values.yaml",
        "verdict.json",
    ]
    lines = [msgspec.json.decode(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    assert [line.get("kind") for line in lines] == [
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
    session.pytester.makepyfile("def test_first():\n    pass\ndef test_other(check):\n    pass\n")
    session.pytester.path.joinpath("labs/01_tiny/lab.toml").unlink()
    result = session.run("def test_second():\n    pass\n", ".")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*HarnessError: test_other is no check of a lab, so it cannot use the fixture `check`"]
    )
    result.stdout.no_fnmatch_line("*scorecard*")


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 20 kB, as if the disk were full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_folder_that_cannot_be_written_ends_the_run_as_an_error_that_says_so(session: Session) -> None:
    source = (
        "def test_first(check):\n    check.measure(lambda _: GOOD)\n"
        "def test_second(check):\n    check.record.keep('large', 'x' * 100_000)\n    check.measure(lambda _: GOOD)\n"
    )
    result = session.run(source)
    assert result.ret == 3
    said = (
        f"the run's folder {session.pytester.path / RUN} cannot be written: File too large; make room there, or name "
        "another place with --out, and grade again"
    )
    assert (session.verdict.status, session.verdict.points, session.verdict.reason) == ("error", 60, said)
    first, second = session.verdict.checks
    assert (first.status, first.points) == ("passed", 60)
    assert (second.status, second.error_class, second.observed) == ("error", "infrastructure", said)
    with StoredRun(session.pytester.path / RUN) as run:
        assert run.names == ("run.jsonl", "submission/values.yaml", "verdict.json")


def test_what_is_left_of_a_run_after_its_disk_was_full_is_not_measured(session: Session) -> None:
    source = (
        "def test_first(check):\n    check.record.failed(OSError(28, 'No space left on device'))\n"
        "    check.measure(lambda _: GOOD)\n"
    )
    result = session.run(source + SECOND)
    assert result.ret == 3
    assert (session.statuses(), session.verdict.status) == (["passed", "error"], "error")
    assert session.check("second").observed == session.verdict.reason


def test_secrets_of_findings_and_submissions_are_in_no_file(session: Session) -> None:
    (session.lab / "starter/values.yaml").write_text("env: {HF_TOKEN: abc123def}\n")
    session.run(
        "def test_first(check):\n"
        "    said = 'its log ends: Authorization: Bearer abc123def and password=hunter2'\n"
        "    check.measure(lambda _: Finding(expected='', observed=said, verdict='failed', hint='low'))\n" + SECOND
    )
    assert session.check("first").observed == "its log ends: Authorization: [redacted] and password=[redacted]"
    folder = session.pytester.path / RUN
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"abc123def" not in kept
    assert b"hunter2" not in kept
    assert audit(folder).holds


def test_the_manifest_is_signed(session: Session) -> None:
    key = Ed25519PrivateKey.generate()
    session.sign = lambda manifest: signing.sign(key, manifest).encode()
    session.run(FIRST + SECOND)
    found = audit(session.pytester.path / RUN, key.public_key())
    assert (found.holds, found.signer) == (True, signing.fingerprint(key.public_key()))
