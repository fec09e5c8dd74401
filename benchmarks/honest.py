"""Is the honest stub ever accused? Many examinations, while other processes want the processors.

    python -m benchmarks.honest [--runs 200] [--busy 2]

Place: by hand; `tests/graders/test_liars.py` examines it a few times, and every liar. Each run is a whole examination
as in `tests/graders/inspection.py`, with prompts of a seed of its own. Exit status 1 when there is an accusation.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from graders.plan import Target
from graders.process import Child
from tests.graders import inspection

BUSY = "while True: pass"


def main() -> int:
    """Prints every accusation, and how busy the machine was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--busy", type=int, default=2, help="processes that do nothing but use a core each")
    options = parser.parse_args()
    begun, late = time.monotonic(), 0
    accusations: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        argv = [sys.executable, "-m", "tests.graders.stub_server", repr(inspection.TTFT), repr(inspection.TPOT)]
        stub = stack.enter_context(Child(argv, log=folder / "stub.log"))
        target = Target(host="127.0.0.1", port=int(stub.hear(30) or 0))
        for _ in range(options.busy):
            stack.enter_context(Child([sys.executable, "-c", BUSY], log=folder / "busy.log"))
        for seed in range(1, options.runs + 1):
            report = inspection.examine(target, seed, folder)
            late += bool(report.run.client_limits(ttft=inspection.TTFT, tpot=inspection.TPOT))
            left_out.update(report.crosscheck.left_out.keys())
            accusations.update(report.names)
            for accusation in report.accusations:
                print(f"run {seed}: {accusation.name}: {accusation.sentence}", flush=True)
    print(f"{options.runs} runs in {time.monotonic() - begun:.0f} s beside {options.busy} busy processes")
    print(f"accusations: {dict(accusations) or 'none'}")
    print(f"runs in which the client said that it was late: {late}")
    print(f"comparisons left out: {dict(left_out) or 'none'}")
    return 1 if accusations else 0


if __name__ == "__main__":
    sys.exit(main())
