"""Measures what the load generator costs: microseconds of processor time per streamed event, against a stub server.

    python -m benchmarks.load_generator [--rounds 5] [--streams 64] [--seconds 5] [--tpot 0.004] [--workers 1]

The client's processor time is its own, over the window, kernel time included; an event is one token chunk. The goal is
at most 10 microseconds per event on one core, as the median of the rounds. Nearly all of it is the price of waking a
process and reading a socket once per event, which depends on the machine: so each round also runs a loop that does
nothing else, at the same load, and says how many times its cost ours is. The hot path in Python is timed alone, too,
without a socket, and so is reading the bytes after the run. The stub is a process of its own, in Python, so two cores
are needed; it writes each token alone, and coalesced reads are counted. Then comes the run's diagnosis of itself, as it
stands in every record.
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

from benchmarks.peers import bare
from graders import arrivals, load, workload
from graders.connection import Connection, Flight
from graders.plan import Plan, Target
from graders.process import Child
from graders.samples import Run


def measure(options: argparse.Namespace, folder: Path) -> tuple[Run, dict[str, Any]]:
    """One run against a stub of its own, and what the stub says that it did."""
    with _stub(options, folder) as stub:
        plan = _plan(options, int(stub.hear(60) or 0))
        run = load.run(plan, folder=folder, progress=lambda text: print(text, file=sys.stderr), workers=options.workers)
        stub.tell("truth")
        return run, msgspec.json.decode(stub.hear(30) or "{}")


def waiting_and_reading(options: argparse.Namespace, folder: Path) -> float:
    """Microseconds of processor time per event of a loop that only waits and reads, against a stub of its own."""
    with _stub(options, folder) as stub:
        return bare.measure(_plan(options, int(stub.hear(60) or 0)), folder).cost


def _stub(options: argparse.Namespace, folder: Path) -> Child:
    argv = [sys.executable, "-m", "tests.graders.stub_server", "0.02", str(options.tpot)]
    return Child(argv, log=folder / "stub.log")


def _plan(options: argparse.Namespace, port: int) -> Plan:
    count = options.streams * (2 + int((options.seconds + 2) / (0.02 + options.tokens * options.tpot)))
    requests = workload.completions(
        seed=1, count=count, ids=range(100, 8000), prompt_tokens=32, output_tokens=options.tokens, model="stub"
    )
    return Plan(
        target=Target(host="127.0.0.1", port=port),
        requests=requests,
        schedule=arrivals.closed(options.streams),
        ramp=1.0,
        window=options.seconds,
        seed=1,
    )


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


def cost(run: Run) -> tuple[float, float]:
    """Microseconds of processor time per event of the window: in all, and in the kernel."""
    events, cpu = run.tokens_in_window(), sum(worker.cpu for worker in run.workers)
    user = sum(worker.user or 0.0 for worker in run.workers)
    return 1e6 * cpu / events, 1e6 * (cpu - user) / events


def reading(run: Run) -> float:
    """Seconds of processor time per event to read the answers of a run, which nobody has read yet."""
    begun = time.process_time()
    answers = run.answers
    return (time.process_time() - begun) / sum(len(each.stream.token_chunks) for each in answers)


def details(run: Run, truth: dict[str, Any]) -> list[str]:
    """What else a run shows, a line each."""
    answers = run.answers
    late = [
        each.stream.first_token - (truth[f"1-{each.sample.index}"]["writes"][0][0] - run.t0)
        for each in answers
        if each.stream.first_token is not None
    ]
    return [
        f"{len(answers)} answers, wrong: {run.wrong() or 'none'}",
        f"first token seen {1000 * statistics.median(late):.3f} ms after the stub wrote it (median)",
        *diagnosis(run),
    ]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--tpot", type=float, default=0.004)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    costs, floors, readings = [], [], []
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            run, truth = measure(options, Path(folder))
            floors.append(waiting_and_reading(options, Path(folder)))
        readings.append(reading(run))
        costs.append(cost(run))
        rate = run.tokens_in_window() / options.seconds
        print(
            f"round {number}: {rate:.0f} events/s, {costs[-1][0]:.1f} µs of processor time per event; a loop that only "
            f"waits and reads: {floors[-1]:.1f} µs",
            flush=True,
        )
    whole, kernel = (statistics.median(each) for each in zip(*costs, strict=True))
    ratio = statistics.median(mine / floor for (mine, _), floor in zip(costs, floors, strict=True))
    print(
        f"client, {options.streams} streams: median of {options.rounds} rounds {whole:.1f} µs per event (goal 10), of "
        f"which the kernel's: {kernel:.1f} µs; {ratio:.2f} times a loop that only waits and reads; hot path in Python "
        f"alone: {1e6 * hot_path():.2f} µs"
    )
    print(f"reading afterwards: median {1e6 * statistics.median(readings):.1f} µs per event")
    print("\n".join(["the last round:", *details(run, truth)]))


if __name__ == "__main__":
    main()
