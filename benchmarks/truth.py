"""Does the load generator recover the truth? Answers of a stub that logs what it writes, up to the client's limit.

    python -m benchmarks.truth [--seconds 5] [--workers 1]

Place: by hand; `tests/graders/test_truth.py` is the small version. A row is a run: what was written and what was
measured of TTFT, TPOT and the longest gap of an answer, in milliseconds, and what the client says of itself. A figure
is recovered when it is within 1 ms or 2 %; percentiles are nearest ranks over the same answers on both sides, so they
compare also where they are of few. A client that declares itself the bottleneck need not recover anything. One row is
of Poisson arrivals, whose TTFT is from the planned time, as in grading; the others are closed loops, from sending.

The second part raises the rate until the client gives up or the stub writes no more events per second than before.
The third keeps the client from a core: no real-time scheduling, one core shared with a busy process, and ever less of
it. Exit status 1 when the client is wrong and does not say so, or gives up on a free machine at 16 streams or fewer, or
at those arrivals.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from graders import floor
from graders.plan import Plan
from graders.process import Child
from tests.graders import truth
from tests.graders.truth import Comparison

TTFT, TOKENS = 0.05, 32
ROWS = ((1, 0.005), (16, 0.005), (128, 0.025), (512, 0.05))
"""Streams, and seconds per token."""
OPEN = (40.0, 0.005)
"""Requests per second, and seconds per token: some ten at once."""
HARDER = (0.016, 0.012, 0.008, 0.006, 0.004, 0.003, 0.002)
"""Seconds per token of 128 streams, tried in turn."""
MORE = 1.05
"""By what factor the rate must rise for the stub not to be the limit."""
STARVED = ((16, 0.005, 0), (16, 0.005, 10), (16, 0.005, 19), (128, 0.012, 0), (128, 0.012, 19))
"""Streams, seconds per token, and how nice the client is to the busy process."""
NEVER = 16
"""Up to so many streams the client must not declare itself the bottleneck on a free machine."""
BUSY = "while True: pass"


class Bench:
    """Prints a table as it measures, and knows whether all of it was right."""

    def __init__(self, seconds: float, workers: int, folder: Path) -> None:
        self.seconds, self.workers, self.folder = seconds, workers, folder
        self.right = True

    def row(self, streams: int, tpot: float, *, enter: Callable[[Sequence[str]], list[str]] = list) -> Comparison:
        """One run against a stub of its own."""
        with truth.stub(TTFT, tpot, self.folder) as (child, target):
            ramp = 0.5 + TTFT + TOKENS * tpot
            plan = truth.plan_for(
                target, streams, ttft=TTFT, tpot=tpot, tokens=TOKENS, window=self.seconds, ramp=ramp, seed=streams
            )
            return self._measured(child, plan, enter)

    def open_row(self, rate: float, tpot: float) -> Comparison:
        """One run of Poisson arrivals against a stub of its own."""
        with truth.stub(TTFT, tpot, self.folder) as (child, target):
            ramp = 0.5 + TTFT + TOKENS * tpot
            plan = truth.open_plan_for(target, rate, tokens=TOKENS, window=self.seconds, ramp=ramp, seed=int(rate))
            return self._measured(child, plan, list)

    def _measured(self, child: Child, plan: Plan, enter: Callable[[Sequence[str]], list[str]]) -> Comparison:
        own = floor.measured(plan, self.workers, self.folder)
        found = truth.measure(child, plan, self.folder, workers=self.workers, enter=enter, floor=own)
        self.right = self.right and (found.right or bool(found.limits))
        tell(found)
        return found


def main() -> int:
    """Prints the three parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(options.seconds, options.workers, Path(name))
        print("   load  events/s  answers  figure     true ms  measured   error")
        for streams, tpot in ROWS:
            found = bench.row(streams, tpot)
            bench.right = bench.right and not (streams <= NEVER and found.limits)
        found = bench.open_row(*OPEN)
        bench.right = bench.right and not found.limits
        harder(bench)
        starved(bench)
    return 0 if bench.right else 1


def harder(bench: Bench) -> None:
    """Raises the rate of 128 streams."""
    print("more events per second")
    before = 0.0
    for tpot in HARDER:
        found = bench.row(128, tpot)
        if found.limits:
            return
        if found.events < MORE * before:
            print(f"the stub writes no more than {before:.0f} events/s; the client is not at its limit")
            return
        before = found.events


def starved(bench: Bench) -> None:
    """Keeps the client from a core."""
    core = str(min(os.sched_getaffinity(0)))
    with contextlib.ExitStack() as stack:
        argv = ["taskset", "--cpu-list", core, sys.executable, "-c", BUSY]
        stack.enter_context(Child(argv, log=bench.folder / "busy.log"))
        # Root may ask for real time, which would take the core from the busy process.
        modest = ["setpriv", "--bounding-set", "-sys_nice"] if os.geteuid() == 0 else []
        for streams, tpot, nice in STARVED:
            print(f"a client of niceness {nice} beside a busy process on its core")
            keep = [*modest, "taskset", "--cpu-list", core, "nice", "-n", str(nice)]
            bench.row(streams, tpot, enter=lambda argv, keep=keep: [*keep, *argv])  # type: ignore[misc]


def tell(row: Comparison) -> None:
    """One run, a line for each figure."""
    load = f"{row.rate:g}/s" if row.streams is None else str(row.streams)
    head = f"{load:>7s}  {row.events:8.0f}  {row.answers:7d}"
    blank = " " * len(head)
    for place, figure in enumerate(row.figures):
        print(
            f"{blank if place else head}  {figure.name:9s}  {1000 * figure.true:7.2f}  {1000 * figure.measured:8.2f}  "
            f"{1000 * figure.error:+6.2f}{'' if figure.right else '  off'}"
        )
    counts = f"{len(row.miscounted)} answers miscounted" if row.miscounted else "all tokens and errors counted"
    print(
        f"{blank}  {counts}; requests came {1000 * row.sending:.2f} ms after they were sent, tokens were seen "
        f"{1000 * row.reading:.2f} ms after they were written (medians); {100 * row.cpu:.0f} % of a core"
    )
    verdict = "recovered" if row.right else "WRONG"
    said = f"the client says that it was the bottleneck: {'; '.join(row.limits)}" if row.limits else verdict
    print(f"{blank}  {said}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
