"""Is the reference of 03_vllm ever graded as less than it is? Gradings in a row, alone or beside another process.

    python -m benchmarks.references [--runs 10] [--busy 0.5]

Place: by hand; each grading takes four to five minutes, on a cluster of its own, and its runs are kept in
results/references/, so that the figures grow over days. Alone, every run must have all points; beside a process that
wants a core some of the time, checks may be inconclusive, and none may fail. Exit status 1 when one did, or when a run
ended with an error. `gpulab grade --repeat` does the same for any submission.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from commands.places import RESULTS
from commands.repeat import graded, repeat
from graders.process import ROOT, Child
from graders.rubric import Verdict

REFERENCE = ROOT / "tests" / "solutions" / "03_vllm"
PERIOD = 0.1
"""Seconds in which the other process works its share and sleeps for the rest."""
WORK = """
import sys, time
share, period = float(sys.argv[1]), float(sys.argv[2])
while True:
    begun = time.monotonic()
    while time.monotonic() < begun + share * period:
        pass
    time.sleep((1 - share) * period)
"""


def wrong(verdict: Verdict, *, busy: bool) -> bool:
    """Whether the reference was graded as something that it is not."""
    excused = {"passed", "inconclusive", "skipped"} if busy else {"passed"}
    return any(check.status not in excused for check in verdict.checks)


def main() -> int:
    """Prints a line for each run, more where a check did not pass, and what differs between all so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--busy", type=float, default=0.0, help="share of a core that another process uses")
    options = parser.parse_args()
    results = RESULTS / "references" / (f"busy-{options.busy:g}" if options.busy else "alone")
    verdicts: list[Verdict] = []

    def grade(lab: str, words: Sequence[str], results: Path) -> tuple[str, Verdict]:
        name, verdict = graded(lab, words, results)
        verdicts.append(verdict)
        return name, verdict

    with tempfile.TemporaryDirectory(prefix="references-") as name, contextlib.ExitStack() as stack:
        if options.busy:
            argv = [sys.executable, "-c", WORK, str(options.busy), str(PERIOD)]
            stack.enter_context(Child(argv, log=Path(name) / "busy.log"))
        words = ["--name=references", f"--submission={REFERENCE}"]
        repeat("03_vllm", words, results=results, times=options.runs, grade=grade)
    return 1 if any(wrong(verdict, busy=bool(options.busy)) for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
