"""What the plugin leaves on the disk: a run that could not be written, what is redacted, what is signed."""

import os
import resource
import shlex
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from graders import signing
from graders.audit import audit
from graders.exports import formats
from graders.html import page
from graders.stored import StoredRun
from tests.graders.tiny_lab import FIRST, RUN, SECOND, Session

pytest_plugins = ["pytester"]


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


def test_the_flags_that_grade_the_same_again_are_in_the_verdict_and_told(session: Session) -> None:
    session.flags = ("--name=course", "--submission=/of/alice", "--course-secret-file=/course/secret")
    result = session.run(FIRST.replace("GOOD", "LOW") + SECOND)
    assert session.verdict.flags == session.flags
    assert audit(session.pytester.path / RUN).holds
    told = result.outlines.index("what to look at next:") + 1
    assert result.outlines[told : told + 3] == [
        "  pytest labs/01_tiny -k test_first --name=course --submission=/of/alice \\",
        "    --course-secret-file=/course/secret",
        f"  gpulab report {RUN}",
    ]


def test_what_to_type_next_works_where_grading_was_asked_for(session: Session) -> None:
    elsewhere = session.pytester.mkdir("elsewhere")
    os.chdir(elsewhere)
    result = session.run(FIRST.replace("GOOD", "LOW") + SECOND)
    told = result.outlines.index("what to look at next:") + 1
    command = "\n".join(result.outlines[told:]).partition("gpulab report")[0]
    assert shlex.split(command.replace("\\\n", "")) == ["pytest", str(session.lab), "-k", "test_first"]


def test_the_manifest_is_signed(session: Session) -> None:
    key = Ed25519PrivateKey.generate()
    session.sign = lambda manifest: signing.sign(key, manifest).encode()
    session.run(FIRST + SECOND)
    found = audit(session.pytester.path / RUN, key.public_key())
    assert (found.holds, found.signer) == (True, signing.fingerprint(key.public_key()))


def test_a_page_or_an_export_that_cannot_be_made_leaves_the_verdict_and_says_so(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by\x1b[2J zero")

    monkeypatch.setattr(page, "write", broken)
    monkeypatch.setattr(formats, "write", broken)
    session.exports, session.report = [("junit", session.pytester.path / "x.xml")], session.pytester.path / "x.html"
    result = session.run(FIRST + SECOND)
    assert (result.ret, session.verdict.status) == (3, "passed")
    told = [line for line in result.outlines if "not exported" in line]
    assert told == ["not exported: ZeroDivisionError: by\N{REPLACEMENT CHARACTER}[2J zero"] * 2
    result.stdout.fnmatch_lines(["100/100 passed"])
