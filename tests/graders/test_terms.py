"""On what terms a run is graded: by every flag that says something about it, and what does not go together."""

import argparse
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from graders.attempts import NoAttemptLeft, WrongRules
from graders.flags import add_flags
from graders.lab import Lab
from graders.lateness import Lateness
from graders.rubric import write_verdict
from graders.terms import Terms, terms_of
from graders.variants import WrongVariant, draw, write
from tests.graders.test_variants import LAB, SECRET
from tests.graders.verdicts import NOON, verdict_on

ALICE = draw(LAB, "alice", SECRET)
PLAIN = msgspec.structs.replace(LAB, variants={})


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser.add_argument)
    return parser.parse_args(words)


def asked(lab: Lab, options: argparse.Namespace, secret: bytes | None, results: Path = Path("none")) -> Terms:
    return terms_of(lab, options, secret, now=NOON, results=results)


def test_a_run_may_be_nobodys() -> None:
    assert asked(LAB, options(), None) == asked(LAB, options(), SECRET) == Terms()


def test_a_student_with_a_secret_has_numbers_and_without_variants_none() -> None:
    alice = options("--student=alice")
    assert asked(LAB, alice, SECRET) == Terms(student="alice", variant=ALICE)
    assert asked(PLAIN, alice, SECRET) == asked(PLAIN, alice, None) == Terms(student="alice")
    assert asked(LAB, options("--student=alice", "--no-variants"), SECRET) == Terms(student="alice")


def test_numbers_may_be_given_in_a_file(tmp_path: Path) -> None:
    write(ALICE, tmp_path / "alice.json")
    given = options(f"--variant={tmp_path}/alice.json")
    assert asked(LAB, given, None) == asked(LAB, given, SECRET) == Terms(student="alice", variant=ALICE)


@pytest.mark.parametrize(
    ("words", "lab", "secret", "said"),
    [
        (
            ["--student=alice"],
            LAB,
            None,
            "01_tiny has other numbers for each student, and those of 'alice' need the course's secret; give "
            "--course-secret-file FILE, set GPULAB_COURSE_SECRET, give the numbers themselves (--variant FILE), or ask "
            "for the lab's own (--no-variants)",
        ),
        (
            ["--course-secret-file=x"],
            LAB,
            SECRET,
            "asked to draw numbers with a course's secret, but for nobody; name a student: --student ID",
        ),
        (
            ["--student=bob", "--variant=FILE"],
            LAB,
            None,
            "FILE holds the numbers of 'alice', not of 'bob'; name one",
        ),
        (
            ["--no-variants", "--variant=FILE"],
            LAB,
            None,
            "asked for a student's numbers (--variant) and for the lab's own (--no-variants); give one",
        ),
        (
            ["--variant=FILE"],
            LAB,
            SECRET + b"!",
            "FILE does not hold what the course's secret draws for 'alice'; draw the numbers anew",
        ),
        (
            ["--variant=FILE"],
            PLAIN,
            None,
            "the numbers of 'alice' are for the levels L1, which 01_tiny does not offer; draw them anew",
        ),
    ],
)
def test_what_does_not_go_together_is_said(
    words: list[str], lab: Lab, secret: bytes | None, said: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "alice.json")
    write(ALICE, Path(file))
    with pytest.raises(WrongVariant) as caught:
        asked(lab, options(*(word.replace("FILE", file) for word in words)), secret)
    assert str(caught.value).replace(file, "FILE") == said or str(caught.value) == said


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course's folder: its rules, and results with one attempt of alice."""
    (tmp_path / "course.toml").write_text(
        "[attempts]\nmost = 2\n[deadline]\ntime = 2026-09-01T00:00:00Z\npercent_per_day = 5\n"
    )
    run = tmp_path / "01_tiny" / "run"
    run.mkdir(parents=True)
    write_verdict(verdict_on((), status="failed", student="alice"), run / "verdict.json")
    return tmp_path


def test_rules_number_the_attempt_and_say_how_late_it_is(course: Path) -> None:
    words = ("--student=alice", f"--attempts={course}/course.toml")
    terms = asked(PLAIN, options(*words), None, course)
    late = Lateness(due=NOON - timedelta(hours=12), days=1, percent=5)
    assert terms == Terms(student="alice", attempt=2, late=late)
    early = asked(PLAIN, options(*words, "--submitted=2026-08-31T12:00+02:00"), None, course)
    assert (early.submitted, early.late) == (
        NOON - timedelta(hours=26),
        Lateness(due=late.due, days=0, percent=0),
    )


def test_rules_without_a_limit_need_no_student(course: Path) -> None:
    (course / "course.toml").write_text("[deadline]\ntime = 2026-09-02T00:00:00Z\n")
    terms = asked(PLAIN, options(f"--attempts={course}/course.toml"), None, course)
    assert terms == Terms(late=Lateness(due=NOON + timedelta(hours=12), days=0, percent=0))


def test_limited_attempts_are_somebodys(course: Path) -> None:
    with pytest.raises(WrongRules) as caught:
        asked(PLAIN, options(f"--attempts={course}/course.toml"), None, course)
    assert str(caught.value) == (
        f"{course}/course.toml limits attempts, which are a student's; say whose this is: --student ID"
    )


def test_who_has_had_all_attempts_is_not_graded(course: Path) -> None:
    (course / "course.toml").write_text("[attempts]\nmost = 1\n")
    with pytest.raises(NoAttemptLeft) as caught:
        asked(PLAIN, options("--student=alice", f"--attempts={course}/course.toml"), None, course)
    assert str(caught.value) == "'alice' has had 1 of 1 attempts at 01_tiny; no further one is graded"


def test_attempts_are_not_counted_past_a_verdict_that_cannot_be_read(course: Path) -> None:
    broken = course / "01_tiny/run/verdict.json"
    broken.write_text("")
    with pytest.raises(WrongRules) as caught:
        asked(PLAIN, options("--student=bob", f"--attempts={course}/course.toml"), None, course)
    assert str(caught.value) == (
        f"'bob' may have had all attempts, which are counted from the verdicts in {course}/01_tiny: {broken} is not a "
        "verdict that can be read: Input data was truncated; grade the submission again, or take its folder away if it "
        "shall not count"
    )
