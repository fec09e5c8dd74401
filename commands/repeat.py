"""`gpulab grade --repeat`: one submission graded again and again, and how much that differs.

Place: `grading` calls it, benchmarks/references.py grades the reference with it. Limits: each grading is `gpulab grade`
in a process of its own, as anybody starts it: on the running cluster, else on one that is started and ended for it, as
a cluster that has been graded on is no longer as good as new.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeAlias

from clusters.process import Child, tail
from commands.places import ROOT
from graders.errors import GraderError
from graders.gates.gradings import foretold
from graders.record import pretty, write_whole
from graders.rubric import Verdict, read_verdict, readable_verdicts
from graders.stored import VARIANCE
from graders.told import printed
from graders.variance import Runs, Variance, render, variance_of

GRACE_SECONDS = 60.0
"""What an interrupted grading may take to end its cluster."""
SAY = partial(print, flush=True)
"""At once, also where output is kept in a file: a row of gradings takes long."""


class NotGraded(GraderError):
    """A grading left no verdict, so the next one would not either."""


class WrongRow(GraderError):
    """What was asked for cannot be had of several gradings."""


Grade: TypeAlias = Callable[[str, Sequence[str], Path], tuple[str, Verdict]]


def graded(lab: str, words: Sequence[str], results: Path, log: Path | None = None) -> tuple[str, Verdict]:
    """Grades once with the flags in `words`, and returns the run's name and verdict; Ctrl-C ends it in order.

    What it prints is kept in `log`, if that is given.

    Raises:
        NotGraded: it left no run.
    """
    before = set((results / lab).glob("*/"))
    with tempfile.TemporaryDirectory(prefix="gpulab-repeat-") as place:
        log = log or Path(place) / "grade.log"
        argv = [sys.executable, str(ROOT / "gpulab.py"), "grade", lab, *words, f"--out={results}"]
        child = Child(argv, log=log)
        try:
            child.wait()
        except KeyboardInterrupt:
            os.kill(child.pid, signal.SIGINT)
            child.wait(GRACE_SECONDS)
            raise
        finally:
            child.stop()
        new = sorted(set((results / lab).glob("*/")) - before)
        if not new:
            raise NotGraded(f"`gpulab grade` left no run (exit status {child.status()}); it said: {tail(log).strip()}")
    if len(new) > 1:
        raise NotGraded(f"{len(new)} runs began in {results / lab} at once; give these a folder of their own (--out)")
    return new[0].name, read_verdict(new[0] / "verdict.json")


def repeat(
    lab: str,
    words: Sequence[str],
    *,
    results: Path,
    times: int,
    say: Callable[[str], None] = SAY,
    grade: Grade = graded,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Grades a lab again and again, and reports on all comparable runs that `results` holds then, of earlier days too.

    Ctrl-C ends the grading under way, and what ended before is reported.

    Args:
        lab: its name.
        words: flags of each grading.
        results: the folder of results.
        times: how often.
        say: prints.
        grade: grades once.
        clock: seconds.

    Returns:
        Exit status: 0 when each run passed, 1 when one did not, 3 when one ended in an error, 130 after Ctrl-C.

    Raises:
        NotGraded: a grading left no run; what ended before is reported.
    """
    mine: list[Verdict] = []
    took: list[float] = []
    status = 0
    try:
        for number in range(1, times + 1):
            each = median(took) if took else None
            say(f"run {number} of {times} begins: {foretold(each, each and each * (times - number + 1))}")
            begun = clock()
            name, verdict = grade(lab, words, results)
            took.append(clock() - begun)
            mine.append(verdict)
            say(f"run {number} of {times}, {took[-1]:.0f} s, {name}: " + "\n".join(tell(verdict)))
    except KeyboardInterrupt:
        status = 130
        say("interrupted")
    finally:
        if mine:
            say("")
            folders = [path.parent for path in sorted((results / lab).glob("*/verdict.json"))]
            report(readable_verdicts(folders, say), results / lab, say)
    broken = any(verdict.status == "error" for verdict in mine)
    return status or (3 if broken else 1 if any(verdict.status != "passed" for verdict in mine) else 0)


def tell(verdict: Verdict) -> list[str]:
    """What is worth telling of a run: its points, then each check that did not pass and why."""
    missed = [each for each in verdict.checks if each.status != "passed"]
    again = [each.id for each in verdict.checks if each.attempts > 1]
    said = [f"{verdict.points}/{verdict.max_points}" + (f", measured again: {', '.join(again)}" if again else "")]
    said += [f"    {each.status}: {each.id}: {each.observed or each.why}" for each in missed]
    return [printed(each) for each in said]


def report(runs: Runs, folder: Path, say: Callable[[str], None] = print) -> Variance:
    """Prints what differs between the runs, and keeps it beside them, in place of an earlier report on such ones."""
    found = variance_of(runs)
    text = render(found)
    say(text.rstrip("\n"))
    place = folder / f"{VARIANCE}{found.key}"
    write_whole(place.with_suffix(".json"), pretty(found) + b"\n")
    write_whole(place.with_suffix(".txt"), text.encode())
    say(f"\nkept as {place}.json and .txt")
    return found
