"""The flags that `gpulab grade` and `pytest labs/NAME` share, so that both have the same ones.

Place: conftest.py and commands/ add them to their parsers; `gpulab grade` hands on what it was given. Limits: it only
reads the command line; what a flag means is decided where it is used.
"""

import argparse
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from graders.variants import VARIABLE, WrongVariant, checked_id

TIERS = ("1", "2", "3")


def add_flags(add: Callable[..., Any]) -> None:
    """Adds the flags by `add`, which takes what argparse's `add_argument` takes."""
    add("--hints", type=hint_tiers, default=1, metavar="1|2|3", help="how many tiers of a hint to show (default: 1)")
    add("--keep", action="store_true", help="leave what was graded on the cluster, and say how to remove it")
    add_student_flags(add)
    add("--variant", type=Path, metavar="FILE", help="a student's numbers, as `gpulab variant` wrote them")
    add("--no-variants", action="store_true", help="the lab's own numbers, whoever the student is")
    add("--attempts", type=Path, metavar="FILE", help="the course's rules: how many attempts, and when they are due")
    add(
        "--submitted",
        type=time_of,
        metavar="TIME",
        help="when it was handed in, as 2026-10-01T23:59+02:00",
    )


def add_student_flags(add: Callable[..., Any]) -> None:
    """Adds what says whose a run is."""
    add("--student", type=student_id, metavar="ID", help="whose run it is; the lab's numbers may depend on it")
    add(
        "--course-secret-file",
        type=Path,
        metavar="FILE",
        help=f"what students' numbers are drawn with (default: what {VARIABLE} says)",
    )


def words_of(options: argparse.Namespace) -> list[str]:
    """The flags of a parsed command line, as words to start pytest with."""
    values = {
        "--hints": options.hints,
        "--student": options.student,
        "--course-secret-file": options.course_secret_file,
        "--variant": options.variant,
        "--attempts": options.attempts,
        "--submitted": options.submitted and options.submitted.isoformat(),
    }
    words = [f"{flag}={value}" for flag, value in values.items() if value is not None]
    switches = {"--keep": options.keep, "--no-variants": options.no_variants}
    return words + [flag for flag, given in switches.items() if given]


def words_to_grade(options: argparse.Namespace) -> list[str]:
    """The flags that each grading of a submission has, as words for `gpulab grade` or pytest, which take the same."""
    words = [f"--cluster={options.cluster}"]
    words += [f"--name={options.name}"] if options.name else []
    words += [f"--submission={options.submission}"] if options.submission else []
    words += [f"--images={file}" for file in options.images]
    words += [f"--sign={options.sign}"] if options.sign else []
    return words + words_of(options)


def hint_tiers(text: str) -> int:
    """Reads a number of tiers; argparse tells what this raises, with the name of the flag before it."""
    if text not in TIERS:
        raise argparse.ArgumentTypeError(
            f"asked for {text!r} tiers of hints; ask for 1 (a question), 2 (where to look) or 3 (the answer)"
        )
    return int(text)


def student_id(text: str) -> str:
    """Reads a student's id; see `hint_tiers`."""
    try:
        return checked_id(text)
    except WrongVariant as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def time_of(text: str) -> datetime:
    """Reads a moment in time; see `hint_tiers`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no moment in time; give date, time and offset, as in 2026-10-01T23:59+02:00"
        )
    return found


def count_of_runs(text: str) -> int:
    """Reads how often to grade; see `hint_tiers`."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"asked to grade {text!r} times; give a whole number from 1")
    return int(text)
