"""Is the reference of 03_vllm ever graded as less than it is? Gradings in a row, alone or beside another process.

    python -m benchmarks.references [--runs 10] [--busy 0.5]

Place: by hand; each grading takes four to five minutes, on a cluster of its own. Alone, every run must have all points;
beside a process that wants a core some of the time, checks may be inconclusive, and none may fail. Exit status 1 when
one did, or when a run ended with an error.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from graders.process import ROOT, Child
from graders.rubric import Verdict
from tests.grading import Grading

REFERENCE = ROOT / "tests" / "solutions" / "03_vllm"
LONGEST = 1200.0
"""Seconds for one grading, in which every check may have been measured twice."""
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


def tell(verdict: Verdict) -> list[str]:
    """What is worth telling of a run: its points, then each check that did not pass and why."""
    missed = [each for each in verdict.checks if each.status != "passed"]
    again = [each.id for each in verdict.checks if each.attempts > 1]
    said = [f"{verdict.points}/{verdict.max_points}" + (f", measured twice: {', '.join(again)}" if again else "")]
    return said + [f"    {each.status}: {each.id}: {each.observed or each.why}" for each in missed]


def main() -> int:
    """Prints a line for each run, more where a check did not pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--busy", type=float, default=0.0, help="share of a core that another process uses")
    options = parser.parse_args()
    whole = missed = wrong = 0
    with tempfile.TemporaryDirectory(prefix="references-") as name, contextlib.ExitStack() as stack:
        if options.busy:
            argv = [sys.executable, "-c", WORK, str(options.busy), str(PERIOD)]
            stack.enter_context(Child(argv, log=Path(name) / "busy.log"))
        for number in range(1, options.runs + 1):
            begun, place = time.monotonic(), Path(name) / str(number)
            place.mkdir()
            grading = Grading(REFERENCE, place)
            try:
                grading.child.wait(LONGEST)
            finally:
                grading.child.stop()
            verdict = msgspec.convert(grading.verdict(), Verdict)
            print(f"run {number}, {time.monotonic() - begun:.0f} s: " + "\n".join(tell(verdict)), flush=True)
            statuses = {each.status for each in verdict.checks}
            whole += statuses == {"passed"}
            missed += "inconclusive" in statuses
            wrong += bool(statuses - {"passed", "inconclusive", "skipped"})
    print(
        f"{options.runs} runs: {whole} with all points, {missed} with an inconclusive check, {wrong} failed or broken"
    )
    return 1 if wrong or (missed and not options.busy) else 0


if __name__ == "__main__":
    sys.exit(main())
