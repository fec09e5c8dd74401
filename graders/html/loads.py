"""A load run reduced to what a report shows of it: latencies, tokens over time, requests over time. Pure.

Place: `evidence` reduces each load run as it reads it, `figures` draws them. Limits: definitions are those of
`samples`; a request that failed has no latency, so that the share of requests never reaches 1 beside one.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate, count

import msgspec

from graders import stats
from graders.arrivals import Schedule
from graders.samples import Answer, Run

MOST_POINTS = 160
"""A line of a small plot shows no more."""
BINS = 50
"""So many steps has a line of tokens per second."""
SHORTEST_BIN = 0.1
"""Seconds below which the steps of the engine itself would show."""
FEWEST = 40.0
"""Tokens in a step on average, below which it is noise that would show."""
FAILED = "failed"
"""What is told where a latency is that of a failure."""

Points = tuple[tuple[float, float], ...]


class Request(msgspec.Struct, frozen=True):
    """One request: when it was planned, in seconds from t0, and its TTFT in seconds, None where it failed."""

    planned: float
    ttft: float | None


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One load run.

    Attributes:
        name: of its file, without what all such files end with.
        side: on which server, the last word of the name; as a lab calls it.
        pattern: how requests came, in words, and which of a mixture they are.
        started_at: when, in seconds since the epoch; times below are in seconds from then.
        monotonic: the same moment on the machine's monotonic clock, on which scrapes have their times.
        window: from when to when was measured.
        end: when the last answer had come.
        open_loop: whether requests came at planned times, whatever the answers.
        seed: what its requests were drawn from.
        requests: all of them, in order of time.
        ttft: seconds, of each measured request, infinite for a failure.
        tpot: seconds a token, of each measured request that has one, infinite for a failure.
        tokens_per_second: over the window.
        rate: tokens per second over time.
        failed: how many measured requests failed.
        complaint: what was wrong with measured answers most often, None when nothing was.
    """

    name: str
    side: str
    pattern: str
    started_at: float
    monotonic: float
    window: tuple[float, float]
    end: float
    open_loop: bool
    seed: int | None
    requests: tuple[Request, ...]
    ttft: tuple[float, ...]
    tpot: tuple[float, ...]
    tokens_per_second: float
    rate: Points
    failed: int
    complaint: str | None


class Group(msgspec.Struct, frozen=True):
    """Loads of one pattern on one server, which are shown as one line."""

    side: str
    pattern: str
    loads: tuple[Load, ...]

    @property
    def ttft(self) -> tuple[float, ...]:
        """Of all measured requests."""
        return tuple(each for load in self.loads for each in load.ttft)

    @property
    def tpot(self) -> tuple[float, ...]:
        """Of all measured requests that have one."""
        return tuple(each for load in self.loads for each in load.tpot)

    @property
    def failed(self) -> int:
        """How many measured requests failed."""
        return sum(load.failed for load in self.loads)

    @property
    def typical(self) -> Load:
        """The load whose tokens per second are the median, the lower one of two: one stands for all over time."""
        ranked = sorted(self.loads, key=lambda load: load.tokens_per_second)
        return ranked[(len(ranked) - 1) // 2]

    @property
    def worst(self) -> Load:
        """The load in which most requests failed; of equals the typical one."""
        most = max(load.failed for load in self.loads)
        return self.typical if self.typical.failed == most else next(x for x in self.loads if x.failed == most)


def loads_of(name: str, run: Run) -> tuple[Load, ...]:
    """What a report shows of a run: one load, or one for each of the workloads that were mixed in it."""
    kinds = {run.plan.requests[sample.index].workload for sample in run.samples}
    if len(kinds) < 2:
        return (_load(name, run, None),)
    return tuple(_load(name, _only(run, kind), kind) for kind in sorted(kinds, key=str))


def _only(run: Run, kind: str | None) -> Run:
    """The run as if there had been no other workload."""
    kept = tuple(sample for sample in run.samples if run.plan.requests[sample.index].workload == kind)
    return dataclasses.replace(run, samples=kept)


def _load(name: str, run: Run, kind: str | None) -> Load:
    words = pattern(run.plan.schedule)
    chunks = [
        (chunk.time, float(len(chunk.ids or (0,)))) for answer in run.answers for chunk in answer.stream.token_chunks
    ]
    end = max([run.plan.window_end, *(answer.sample.end for answer in run.answers)])
    return Load(
        name=name,
        side=name.rpartition("-")[2],
        pattern=f"{words}, {kind}" if kind else words,
        started_at=run.started_at,
        monotonic=run.t0,
        window=(run.plan.ramp, run.plan.window_end),
        end=end,
        open_loop=run.plan.schedule.streams is None,
        seed=run.seed,
        requests=tuple(
            Request(each.sample.planned, _begun(each))
            for each in sorted(run.answers, key=lambda answer: answer.sample.planned)
        ),
        ttft=tuple(run.ttft()),
        tpot=tuple(run.tpot()),
        tokens_per_second=run.tokens_per_second(),
        rate=per_second(chunks, end),
        failed=len(run.incomplete),
        complaint=next(iter(run.wrong()), None),
    )


def _begun(answer: Answer) -> float | None:
    first = answer.stream.first_token
    return first - answer.sample.planned if answer.complete and first is not None else None


def pattern(schedule: Schedule) -> str:
    """How requests came, in words."""
    if schedule.streams is not None:
        return f"{schedule.streams} stream{'' if schedule.streams == 1 else 's'}"
    if schedule.rate is None:
        return "recorded times"
    if schedule.end_rate is not None:
        return f"{schedule.rate:.3g} to {schedule.end_rate:.3g} requests/s"
    return f"{schedule.rate:.3g} requests/s"


def groups(loads: Iterable[Load]) -> tuple[Group, ...]:
    """Loads of one side and pattern together, in the order in which they came."""
    found: dict[tuple[str, str], list[Load]] = {}
    for load in sorted(loads, key=lambda each: each.started_at):
        found.setdefault((load.side, load.pattern), []).append(load)
    return tuple(Group(side, words, tuple(members)) for (side, words), members in found.items())


def per_second(amounts: Iterable[tuple[float, float]], end: float) -> Points:
    """Amounts at moments as amounts per second: the left edge of each bin with its rate, and the end of the last."""
    known = list(amounts)
    total = sum(amount for _, amount in known)
    width = max(SHORTEST_BIN, end / BINS, min(end, FEWEST * end / total) if total else 0.0)
    sums = [0.0] * max(1, math.ceil(end / width))
    for moment, amount in known:
        sums[min(len(sums) - 1, max(0, int(moment / width)))] += amount
    edges = [index * width for index in range(len(sums))]
    return (*((edge, each / width) for edge, each in zip(edges, sums, strict=True)), (len(sums) * width, 0.0))


def shares(values: Sequence[float]) -> Points:
    """The empirical distribution: each value with the share of values up to it; infinite ones count and are not shown.

    Of many values as many are shown as a plot can show, the least and the most among them.
    """
    ranked = sorted(value for value in values if math.isfinite(value))
    if not ranked:
        return ()
    kept = thinned(range(len(ranked)))
    return ((ranked[0], 0.0), *((ranked[place], (place + 1) / len(values)) for place in kept))


def thinned(items: Sequence[int], most: int = MOST_POINTS) -> list[int]:
    """At most so many of them, evenly spread, with the first and the last."""
    if len(items) <= most:
        return list(items)
    steps = accumulate([(len(items) - 1) / (most - 1)] * (most - 1), initial=0.0)
    return [items[min(len(items) - 1, round(step))] for step in steps]


def quantile(values: Sequence[float], p: float) -> tuple[str, ...]:
    """A percentile in words: its value, and in brackets its interval at 95 %, or else of how many it could be told.

    Args:
        values: seconds, infinite for a failure.
        p: the share of values up to it.
    """
    if not values:
        return ("–",)
    found = stats.percentile(values, p)
    if found.value is None or found.interval is None:
        return "n too small", f"({found.n} of {fewest(p)})"
    value, (low, high) = found.value, found.interval
    if math.isinf(low):
        return (FAILED,)
    unit = " ms" if math.isinf(value) else ""
    return (FAILED if math.isinf(value) else milliseconds(value)), f"({_number(low)}{unit} to {_number(high)})"


@cache
def fewest(p: float) -> int:
    """Fewest values of which there is such a percentile."""
    return next(n for n in count(stats.smallest_n(p)) if stats.percentile([0.0] * n, p).value is not None)


def milliseconds(seconds: float) -> str:
    """A time as it is told: three digits, and no more places than they need."""
    return f"{_number(seconds)} ms"


def _number(seconds: float) -> str:
    """The same without its unit, or that it is the time of a failure."""
    if math.isinf(seconds):
        return FAILED
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
