"""On what terms a run is graded: by every flag that says something about it, and what does not go together."""

import argparse
from pathlib import Path

import msgspec
import pytest

from graders.flags import add_flags
from graders.lab import Lab
from graders.terms import Terms, terms_of
from graders.variants import WrongVariant, draw, write
from tests.graders.test_variants import LAB, SECRET

ALICE = draw(LAB, "alice", SECRET)
PLAIN = msgspec.structs.replace(LAB, variants={})


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser.add_argument)
    return parser.parse_args(words)


def test_a_run_may_be_nobodys() -> None:
    assert terms_of(LAB, options(), None) == terms_of(LAB, options(), SECRET) == Terms()


def test_a_student_with_a_secret_has_numbers_and_without_variants_none() -> None:
    alice = options("--student=alice")
    assert terms_of(LAB, alice, SECRET) == Terms(student="alice", variant=ALICE)
    assert terms_of(PLAIN, alice, SECRET) == terms_of(PLAIN, alice, None) == Terms(student="alice")
    assert terms_of(LAB, options("--student=alice", "--no-variants"), SECRET) == Terms(student="alice")


def test_numbers_may_be_given_in_a_file(tmp_path: Path) -> None:
    write(ALICE, tmp_path / "alice.json")
    given = options(f"--variant={tmp_path}/alice.json")
    assert terms_of(LAB, given, None) == terms_of(LAB, given, SECRET) == Terms(student="alice", variant=ALICE)


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
        terms_of(lab, options(*(word.replace("FILE", file) for word in words)), secret)
    assert str(caught.value).replace(file, "FILE") == said or str(caught.value) == said
