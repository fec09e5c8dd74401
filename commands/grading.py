"""`gpulab start`, `grade` and `export`: a learner's files, their grading by pytest, and what others read of it.

Place: `gpulab.py` adds these to its parser. Limits: grading is pytest on the lab's folder, with conftest.py's wiring.
"""

import argparse
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from clusters import backends
from clusters.api import ClusterError
from commands.course import drawn
from commands.places import LABS, RESULTS, ROOT, WORK, Commands, add_cluster_flags, add_command
from graders.flags import add_flags, add_student_flags, count_of_runs, words_to_grade

FORMATS = (
    "annotations, classroom, classroom50, ctrf, gradebook, gradescope, junit, markdown, otter, prairielearn, "
    "prometheus or summary"
)


def add(commands: Commands) -> None:
    """Adds them."""
    start = add_command(commands, "start", run_start, "copy a lab's starter files to work/, to be edited")
    start.add_argument("lab")
    add_student_flags(start.add_argument)
    grade = add_command(commands, "grade", run_grade, "grade a submission; exit status 0 only on full marks")
    grade.add_argument("lab")
    add_cluster_flags(grade)
    grade.add_argument("--submission", type=Path, help="folder to grade (default: work/LAB, else the lab's starter)")
    grade.add_argument("--images", type=Path, action="append", default=[], metavar="FILE", help=backends.OWN_IMAGES)
    grade.add_argument("--out", type=Path, help="folder for results (default: results/)")
    grade.add_argument("--export", action="append", default=[], metavar="FORMAT=FILE", help=f"as well: {FORMATS}")
    grade.add_argument(
        "--sign", type=Path, metavar="KEY", help="private key that signs the run (or GPULAB_SIGNING_KEY)"
    )
    grade.add_argument(
        "--report", type=Path, metavar="FILE", help="as well: one HTML page with plots of what was measured"
    )
    add_flags(grade.add_argument)
    grade.add_argument(
        "--repeat", type=count_of_runs, metavar="N", help="grade N times and tell how much the runs differ"
    )
    export = add_command(commands, "export", run_export, "write runs as course systems, CI or monitoring read them")
    export.add_argument("format", metavar="FORMAT", help=FORMATS)
    export.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder (default: the newest in results/)")
    export.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: standard output)")


def run_start(options: argparse.Namespace) -> int:
    """Copies starter/ to work/LAB."""
    told = numbers_told(options) if options.student else []
    target = copy_starter(options.lab, WORK)
    lab = target.name
    print(f"Your files are in {target}. Read labs/{lab}/README.md, edit them, then: gpulab grade {lab}")
    print("".join(f"{line}\n" for line in told), end="")
    return 0


def numbers_told(options: argparse.Namespace) -> list[str]:
    """Lines on a student's numbers for a lab, by level; raises WrongVariant where they cannot be drawn."""
    from graders import variants

    lab, variant = drawn(options)
    lines = [f"Numbers of {variant.student} that are not those of the README:"]
    for level in variant.numbers:
        changed = variants.changes(lab, variant, level)
        lines += [f"  {level}: {change}" for change in changed] or [f"  {level}: none"]
    return lines


def copy_starter(name: str, work: Path) -> Path:
    """Copies a lab's starter files to a folder of its name in `work`, and returns that folder.

    Raises:
        UnknownLab: there is no such lab.
        ClusterError: the folder is there already; what a learner wrote is never overwritten.
    """
    from graders.lab import Lab

    lab = Lab.find(LABS, name)
    target = work / lab.name
    if target.exists():
        raise ClusterError(f"{target} is there already; edit it, or move it away to start again")
    shutil.copytree(lab.folder / "starter", target)
    return target


def run_grade(options: argparse.Namespace) -> int:
    """Grades with pytest, as `pytest labs/LAB` does."""
    import pytest

    from graders import variants
    from graders.lab import Lab
    from graders.terms import terms_of

    lab = Lab.find(LABS, options.lab)
    secret = variants.secret_from(options.course_secret_file, os.environ)
    # What is wrong with them is said before pytest starts.
    terms_of(lab, options, secret, now=datetime.now(UTC), results=options.out or RESULTS)
    if options.repeat is not None:
        return _repeat(options, lab.name)
    words = [str(lab.folder), f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}", "-p", "no:cacheprovider"]
    words += ["-q", "--no-header", "-rN"]  # the scorecard tells it all
    words += ["-W", "default"]  # errors they are in the project's own tests only
    words += words_to_grade(options)
    words += [f"--out={options.out}"] if options.out else []
    words += [f"--export={each}" for each in options.export]
    if options.report:
        words.append(f"--report={options.report}")
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):  # who sets these could have nothing graded and exit with 0
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    status = int(pytest.main(words))
    return 2 if status == pytest.ExitCode.USAGE_ERROR else status


def _repeat(options: argparse.Namespace, lab: str) -> int:
    from commands.repeat import WrongRow, repeat

    if options.export or options.report:
        raise WrongRow(
            "asked to write each of several runs to one file (--export or --report with --repeat); use `gpulab export` "
            "and `gpulab report` afterwards"
        )
    if options.keep:
        raise WrongRow(
            "asked to leave each of several runs on the cluster (--keep with --repeat), where one is in the way of the "
            "next; grade once with --keep"
        )
    return repeat(lab, words_to_grade(options), results=(options.out or RESULTS).absolute(), times=options.repeat)


def run_export(options: argparse.Namespace) -> int:
    """Writes stored runs in another format."""
    from graders.exports import formats
    from graders.rubric import read_verdict
    from graders.stored import runs_among

    stored = sorted((path.parent for path in RESULTS.glob("*/*/verdict.json")), key=lambda folder: folder.name)
    folders = runs_among(options.runs) or stored[-1:]
    runs = [(folder.name, read_verdict(folder / "verdict.json")) for folder in folders]
    if options.out:
        formats.write(options.format, options.out, runs)
    else:
        print(formats.export(options.format, runs), end="")
    return 0
