"""`gpulab variant` and `variance`: what an instructor asks for beside grading.

Place: `gpulab.py` adds them to its parser. Limits: they start no cluster.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from commands.places import LABS, RESULTS, Commands, add_command
from graders.flags import add_student_flags

if TYPE_CHECKING:
    from graders.lab import Lab
    from graders.variants import Variant


def add(commands: Commands) -> None:
    """Adds them."""
    variant = add_command(commands, "variant", run_variant, "write a student's numbers, for `gpulab grade --variant`")
    variant.add_argument("lab")
    add_student_flags(variant.add_argument)
    variant.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: standard output)")

    variance = add_command(commands, "variance", run_variance, "tell how much stored runs of one submission differ")
    variance.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder (default: all in results/)")


def run_variance(options: argparse.Namespace) -> int:
    """Reports on stored runs."""
    from graders.rubric import read_verdict, readable_verdicts
    from graders.stored import runs_among
    from graders.variance import render, variance_of

    if named := runs_among(options.runs):
        runs = [(folder.name, read_verdict(folder / "verdict.json")) for folder in named]
    else:
        folders = [path.parent for path in sorted(RESULTS.glob("*/*/verdict.json"))]
        runs = readable_verdicts(folders, partial(print, file=sys.stderr))
    print(render(variance_of(runs)), end="")
    return 0


def run_variant(options: argparse.Namespace) -> int:
    """Writes a student's numbers."""
    from graders import variants

    _, variant = drawn(options)
    if options.out:
        variants.write(variant, options.out)
    else:
        print(variants.text_of(variant), end="")
    return 0


def drawn(options: argparse.Namespace) -> tuple["Lab", "Variant"]:
    """A lab and the numbers of a student for it; raises WrongVariant where they cannot be drawn."""
    from graders import variants
    from graders.lab import Lab

    lab = Lab.find(LABS, options.lab)
    secret = variants.secret_from(options.course_secret_file, os.environ)
    if not lab.variants:
        raise variants.WrongVariant(
            f"asked for a student's numbers of {lab.name}, which has the same for everybody; start and grade it without"
        )
    if options.student is None or secret is None:
        raise variants.WrongVariant(
            "a student's numbers are drawn from an id and the course's secret; give both: --student ID and "
            f"--course-secret-file FILE (or {variants.VARIABLE})"
        )
    return lab, variants.draw(lab, options.student, secret)
