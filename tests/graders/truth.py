"""The truth bench: requests as the load client saw them, held against what the stub wrote.

Place: `test_truth` runs it small, `benchmarks/truth.py` in full. Limits: the stub's truth is when the
kernel had a request and when the stub handed it each chunk, by the machine's monotonic clock; the way through the
kernel in between is not the client's doing, but counts as its error. TTFT is from sending in a closed loop, from the
planned time with open arrivals, as grading has it: a late sending is an error, too, as the stub itself delays nobody.

Eight kinds of answers take turns, so that bursts, stalls, several tokens to a chunk and errors are among them.
"""

import itertools
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from graders import arrivals, stats, workload
from graders.diagnosis import Floor
from graders.plan import Plan, Request, Target
from graders.process import Child
from graders.samples import Answer, Run
from graders.workers import carry_out, most_workers
from tests.graders.liars import IDS
from tests.graders.stub_server import MODEL
from tests.patience import PATIENCE

SECONDS, PART = 0.001, 0.02
"""What a figure may be off: a millisecond, or 2 %, whichever is more."""
ERROR_AFTER = 5
STALLS: dict[str, Any] = {"stall_every": 8, "stall": 0.03}
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"each": 4},
    {},
    {**STALLS},
    {},
    {"each": 4, **STALLS},
    {"error_after": ERROR_AFTER},
)
"""Answers of other shapes, by the number of the request."""


class Log(msgspec.Struct, frozen=True):
    """What the stub says of one request: when it came, and (time, tokens) of each write; the machine's clock."""

    received: float
    writes: tuple[tuple[float, int], ...]
    ended: float | None


@dataclass(frozen=True)
class Figure:
    """One figure, true and measured, in seconds."""

    name: str
    true: float
    measured: float

    @property
    def error(self) -> float:
        """Measured minus true."""
        return self.measured - self.true

    @property
    def right(self) -> bool:
        """Whether it is recovered."""
        return abs(self.error) <= max(SECONDS, PART * self.true)


@dataclass(frozen=True)
class Comparison:
    """All figures of one run.

    `streams` is None for open arrivals, `rate`, in requests per second, for a closed loop; `answers` counts those
    compared, `events` token chunks per second in the window as written; `miscounted` are requests whose tokens or whose
    error the client saw otherwise; `sending` and `reading` are medians of seconds from the client's time of sending to
    the request's arrival, and from a first token's writing to the client's time for it; `cpu` is the client's use of a
    core, and `limits` its own diagnosis.
    """

    streams: int | None
    rate: float | None
    answers: int
    events: float
    figures: tuple[Figure, ...]
    miscounted: tuple[int, ...]
    sending: float
    reading: float
    cpu: float
    limits: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether everything is recovered."""
        return self.answers > 0 and not self.miscounted and all(each.right for each in self.figures)

    def figure(self, name: str) -> Figure:
        """The figure of that name."""
        return next(each for each in self.figures if each.name == name)


@contextmanager
def stub(ttft: float, tpot: float, folder: Path) -> Iterator[tuple[Child, Target]]:
    """An honest stub in a process of its own."""
    argv = [sys.executable, "-m", "tests.graders.stub_server", repr(ttft), repr(tpot)]
    with Child(argv, log=folder / "stub.log") as child:
        yield child, Target(host="127.0.0.1", port=int(child.hear(PATIENCE) or 0))


def plan_for(
    target: Target, streams: int, *, ttft: float, tpot: float, tokens: int, window: float, ramp: float, seed: int
) -> Plan:
    """A closed loop with as many requests as even a stub without delays would answer."""
    rounds = 3 + int((ramp + window) / (ttft + ERROR_AFTER * tpot))
    # Over the rounds of a stream the shapes take turns, too, whatever the number of streams.
    order = [(number + number // streams) % len(SHAPES) for number in range(streams * rounds)]
    return _planned(target, arrivals.closed(streams), order, tokens=tokens, window=window, ramp=ramp, seed=seed)


def open_plan_for(target: Target, rate: float, *, tokens: int, window: float, ramp: float, seed: int) -> Plan:
    """Poisson arrivals of so many requests per second."""
    schedule = arrivals.poisson(rate, ramp + window, seed)
    order = [number % len(SHAPES) for number in range(len(schedule.times))]
    return _planned(target, schedule, order, tokens=tokens, window=window, ramp=ramp, seed=seed)


def _planned(
    target: Target,
    schedule: arrivals.Schedule,
    order: Sequence[int],
    *,
    tokens: int,
    window: float,
    ramp: float,
    seed: int,
) -> Plan:
    requests = _shaped(order, tokens, seed)
    return Plan(target=target, requests=requests, schedule=schedule, ramp=ramp, window=window, drain=60.0, seed=seed)


def _shaped(order: Sequence[int], tokens: int, seed: int) -> tuple[Request, ...]:
    """A request for each number of a shape."""
    kinds = [
        workload.completions(
            seed=seed + number,
            count=order.count(number),
            ids=IDS,
            prompt_tokens=8,
            output_tokens=tokens,
            model=MODEL,
            extra={"shape": shape},
        )
        for number, shape in enumerate(SHAPES)
    ]
    places = [iter(each) for each in kinds]
    return tuple(next(places[kind]) for kind in order)


def measure(
    child: Child,
    plan: Plan,
    folder: Path,
    *,
    workers: int = 1,
    enter: Callable[[Sequence[str]], list[str]] = list,
    floor: Floor | None = None,
) -> Comparison:
    """Runs the plan against the stub and compares what both saw; `enter` may keep the client from a core."""
    plan.check()
    run = carry_out(plan, count=min(workers, most_workers(plan)), folder=folder, enter=enter, floor=floor)
    child.tell("truth")
    logs = msgspec.json.decode(child.hear(PATIENCE) or "{}", type=dict[str, Log])
    return compare(run, logs)


def compare(run: Run, logs: Mapping[str, Log]) -> Comparison:
    """Percentiles of what was measured beside those of what was written, over the same complete answers."""
    pairs = [(each, logs[f"{run.seed}-{each.sample.index}"]) for each in run.measured]
    whole = [(answer, log) for answer, log in pairs if answer.complete]
    columns: dict[str, list[tuple[float, float]]] = {"TTFT": [], "TPOT": [], "gap": []}
    for answer, log in whole:
        sample, stream = answer.sample, answer.stream
        begun = sample.planned if run.plan.schedule.streams is None else sample.sent or 0.0
        times, (_, first) = [time for time, _ in log.writes], log.writes[0]
        rest = sum(tokens for _, tokens in log.writes) - first
        columns["TTFT"].append((times[0] - log.received, (stream.first_token or 0.0) - begun))
        columns["TPOT"].append(((times[-1] - times[0]) / rest, stream.tpot or 0.0))
        columns["gap"].append((max(gaps(times)), max(stream.chunk_gaps)))
    figures = [
        Figure(f"{name} p{100 * p:g}", *(stats.nearest_rank([pair[side] for pair in pairs], p) for side in (0, 1)))
        for name, pairs in columns.items()
        for p in (0.5, 0.99)
        if pairs
    ]
    written = [time - run.t0 for log in logs.values() for time, _ in log.writes]
    sendings = [log.received - run.t0 - (answer.sample.sent or 0.0) for answer, log in whole]
    readings = [(answer.stream.first_token or 0.0) - log.writes[0][0] + run.t0 for answer, log in whole]
    # As a lab would judge it; the fastest answers of a stub that catches up are no measure.
    bounds = {name: stats.nearest_rank([true for true, _ in pairs], 0.5) for name, pairs in columns.items() if pairs}
    return Comparison(
        streams=run.plan.schedule.streams,
        rate=run.plan.schedule.rate,
        answers=len(whole),
        events=sum(run.plan.in_window(time) for time in written) / run.plan.window,
        figures=tuple(figures),
        miscounted=tuple(answer.sample.index for answer, log in pairs if not same(answer, log)),
        sending=statistics.median(sendings or [math.nan]),
        reading=statistics.median(readings or [math.nan]),
        cpu=run.figures.cpu_share,
        limits=tuple(run.client_limits(ttft=bounds.get("TTFT"), tpot=bounds.get("TPOT"))),
    )


def same(answer: Answer, log: Log) -> bool:
    """Whether the client counted the tokens that were written, and saw an error where there was one, and only there."""
    written = sum(tokens for _, tokens in log.writes)
    failed = [fault.name for fault in answer.faults if fault.name != "held_back"]
    as_told = failed[:1] == ["error_inside"] if written == ERROR_AFTER else failed == []
    return as_told and sum(len(chunk.ids or ()) for chunk in answer.stream.chunks) == written


def gaps(times: Sequence[float]) -> list[float]:
    """Seconds between writes."""
    return [later - sooner for sooner, later in itertools.pairwise(times)]
