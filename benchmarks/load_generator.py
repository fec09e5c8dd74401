"""Measures what the load generator costs: microseconds of processor time per streamed event, against a stub server.

    python benchmarks/load_generator.py [--streams 64] [--seconds 5] [--tpot 0.004] [--workers 1]

The client's processor time is its own, over the window, kernel time included; an event is one token chunk. Reading the
bytes after the run is timed apart. The goal is at most 10 microseconds per event on one core. The stub is a process of
its own, in Python, so two cores are needed; it writes each token alone, and coalesced reads are counted.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from graders import arrivals, load, workload
from graders.plan import Plan, Target
from graders.process import Child
from graders.samples import Run


def measure(options: argparse.Namespace, folder: Path) -> tuple[Run, dict[str, Any]]:
    """One run against a stub of its own, and what the stub says that it did."""
    argv = [sys.executable, "-m", "tests.graders.stub_server", "0.02", str(options.tpot)]
    with Child(argv, log=folder / "stub.log") as stub:
        port = int(stub.hear(10) or 0)
        count = options.streams * (2 + int((options.seconds + 2) / (0.02 + options.tokens * options.tpot)))
        requests = workload.completions(
            seed=1, count=count, ids=range(100, 8000), prompt_tokens=32, output_tokens=options.tokens, model="stub"
        )
        plan = Plan(
            target=Target(host="127.0.0.1", port=port),
            requests=requests,
            schedule=arrivals.closed(options.streams),
            ramp=1.0,
            window=options.seconds,
            seed=1,
        )
        run = load.run(plan, folder=folder, progress=lambda text: print(text, file=sys.stderr), workers=options.workers)
        stub.tell("truth")
        return run, msgspec.json.decode(stub.hear(30) or "{}")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--tpot", type=float, default=0.004)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, truth = measure(options, Path(folder))
    begun = time.process_time()
    answers = run.answers
    reading = time.process_time() - begun
    events, all_events = run.tokens_in_window(), sum(len(each.stream.token_chunks) for each in answers)
    cpu = sum(worker.cpu for worker in run.workers)
    late = [
        each.stream.first_token - (truth[f"1-{each.sample.index}"]["writes"][0][0] - run.t0)
        for each in answers
        if each.stream.first_token is not None
    ]
    figures, rate = run.figures, events / options.seconds
    print(f"{options.streams} streams, {rate:.0f} events/s, {len(answers)} answers, wrong: {run.wrong() or 'none'}")
    print(f"client: {1e6 * cpu / events:.1f} µs of processor time per event (goal 10)")
    print(f"processor use: {100 * figures.cpu_share:.0f} % of a core")
    print(f"reading afterwards: {1e6 * reading / all_events:.1f} µs per event")
    print(f"reads with more than one token: {100 * (figures.coalesced or 0):.2f} %")
    print(f"loop lag p99: {1000 * figures.loop_lag:.2f} ms")
    print(f"first token seen {1000 * statistics.median(late):.3f} ms after the stub wrote it (median)")
    print(f"limits of the client: {run.client_limits() or 'none'}")


if __name__ == "__main__":
    main()
