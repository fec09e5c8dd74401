"""Measures what the load generator costs: microseconds of processor time per streamed event, against a stub server.

    python benchmarks/load_generator.py [--streams 64] [--seconds 5] [--tpot 0.004] [--workers 1]

The client's processor time is its own, over the window, kernel time included; an event is one token chunk. The goal is
at most 10 microseconds per event on one core. Most of it is the kernel's: waking the process and reading the socket
once per event. The hot path in Python is also timed alone, without a socket, and so is reading the bytes after the run.
The stub is a process of its own, in Python, so two cores are needed; it writes each token alone, and coalesced reads
are counted. Then comes the run's diagnosis of itself, as it stands in every record.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from graders import arrivals, load, workload
from graders.connection import Connection, Flight
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


class Nobody:
    """A client whose one connection has no socket."""

    clock = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.encoded = {0: b""}
        self.flying: set[Connection] = set()
        self.idle: list[Connection] = []

    def write(self, data: bytes) -> None:
        """Sends nothing."""

    def is_closing(self) -> bool:
        """Never."""
        return False

    def abort(self) -> None:
        """Closes nothing."""

    def dispatch(self, flight: Flight, *, fresh: bool = False) -> None:
        """Is not asked to."""

    def finish(self, flight: Flight, now: float, failure: str | None = None, *, closed: bool = False) -> None:
        """Is not told."""

    def forget(self, connection: Connection) -> None:
        """Has nothing to forget."""


def hot_path(reads: int = 200_000) -> float:
    """Seconds of processor time per read in the hot path alone: the least of five rounds."""
    best = float("inf")
    for _ in range(5):
        nobody = Nobody()
        connection = Connection(nobody)
        connection.connection_made(nobody)
        connection.send(Flight(0, 0.0, 0.0, None))
        connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        pieces = [b"fa\r\n" + b"x" * 250 + b"\r\n" for _ in range(reads)]
        gc.disable()  # as in a worker
        begun = time.process_time()
        for piece in pieces:
            connection.data_received(piece)
        best = min(best, (time.process_time() - begun) / reads)
        gc.enable()
    return best


def diagnosis(run: Run) -> list[str]:
    """What the run says of its client, a line each."""
    figures, floor = run.figures, run.floor
    waited = "not counted" if figures.waited_share is None else f"{100 * figures.waited_share:.1f} % of the window"
    lines = [
        f"processor use: {100 * figures.cpu_share:.0f} % of a core; waited for one: {waited}",
        f"lag, p99: {1000 * figures.send_lag:.2f} ms in sending, {1000 * figures.loop_lag:.2f} ms in the event loop",
        f"reads with more than one token: {100 * (figures.coalesced or 0):.2f} %",
    ]
    if floor:
        lines.append(
            f"null server, {floor.streams} streams: first token {1000 * floor.ttft:.3f} ms after sending, tokens seen "
            f"{1000 * floor.late:.3f} ms late (median; p99 {1000 * floor.late_p99:.3f} ms)"
        )
    return [*lines, f"limits of the client: {'; '.join(run.client_limits()) or 'none'}"]


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
    user = sum(worker.user or 0.0 for worker in run.workers)
    rate = events / options.seconds
    print(f"{options.streams} streams, {rate:.0f} events/s, {len(answers)} answers, wrong: {run.wrong() or 'none'}")
    print(
        f"client: {1e6 * cpu / events:.1f} µs of processor time per event (goal 10), of which the kernel's: "
        f"{1e6 * (cpu - user) / events:.1f} µs; hot path in Python alone: {1e6 * hot_path():.2f} µs"
    )
    print(f"reading afterwards: {1e6 * reading / all_events:.1f} µs per event")
    print(f"first token seen {1000 * statistics.median(late):.3f} ms after the stub wrote it (median)")
    print("\n".join(diagnosis(run)))


if __name__ == "__main__":
    main()
