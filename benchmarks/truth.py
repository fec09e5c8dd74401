"""Does the load generator recover the truth? Many streams from a stub that logs what it writes, up to its own limit.

    python -m benchmarks.truth [--seconds 5] [--workers 1]

Place: by hand; `tests/graders/test_truth.py` is the small version. A row is a run: what was written and what was
measured of TTFT, TPOT and the longest gap of an answer, in milliseconds, and what the client says of itself. A figure
is recovered when it is within 1 ms or 2 %. The last rows raise the rate until the client declares itself the
bottleneck; from there on it need not recover anything. Exit status 1 when it is wrong and does not say so.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.graders import truth
from tests.graders.truth import Comparison

TTFT = 0.05
ROWS = ((1, 0.005), (16, 0.005), (128, 0.025), (512, 0.05))
"""Streams, and seconds per token."""
HARDER = ((128, 0.016), (128, 0.012), (128, 0.008), (128, 0.006), (128, 0.004), (128, 0.003), (128, 0.002))
"""Tried in turn until the client gives up."""
TOKENS = 64
NEVER = 16
"""Up to so many streams the client must not declare itself the bottleneck on a quiet machine."""


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    print("streams  events/s  answers  figure     true ms  measured  error    verdict")
    right = True
    for streams, tpot in (*ROWS, *HARDER):
        row = measure(options, streams, tpot)
        tell(row)
        right = right and (row.right or bool(row.limits)) and not (streams <= NEVER and row.limits)
        if row.limits and (streams, tpot) in HARDER:
            break
    return 0 if right else 1


def measure(options: argparse.Namespace, streams: int, tpot: float) -> Comparison:
    """One run against a stub of its own."""
    with tempfile.TemporaryDirectory() as name, truth.stub(TTFT, tpot, Path(name)) as (child, target):
        plan = truth.plan_for(
            target,
            streams,
            ttft=TTFT,
            tpot=tpot,
            tokens=TOKENS,
            window=options.seconds,
            ramp=0.5 + TTFT + TOKENS * tpot,
            seed=streams,
        )
        return truth.measure(child, plan, Path(name), workers=options.workers)


def tell(row: Comparison) -> None:
    """One run, a line for each figure."""
    head = f"{row.streams:7d}  {row.events:8.0f}  {row.answers:7d}"
    for place, figure in enumerate(row.figures):
        print(
            f"{head if place == 0 else ' ' * len(head)}  {figure.name:9s}  {1000 * figure.true:7.2f}  "
            f"{1000 * figure.measured:8.2f}  {1000 * figure.error:+6.2f}  {'' if figure.right else 'off'}"
        )
    counts = f"{len(row.miscounted)} miscounted" if row.miscounted else "tokens and errors counted right"
    print(
        f"{' ' * len(head)}  {counts}; a request came {1000 * row.sending:.2f} ms after it was sent, a token was seen "
        f"{1000 * row.reading:.2f} ms after it was written (medians)"
    )
    verdict = "recovered" if row.right else "WRONG"
    said = f"the client was the bottleneck: {'; '.join(row.limits)}" if row.limits else verdict
    print(f"{' ' * len(head)}  {said}")


if __name__ == "__main__":
    sys.exit(main())
