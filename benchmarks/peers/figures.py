"""What a client cost and how far it was from the truth: pure arithmetic over its reports, the stub's log and samples.

Place: `load_peers` prints these. Limits: latencies are compared request by request, by the names both sides gave.

Two figures of cost. "In the window": the events that the stub wrote between two looks at the client's processor time,
over the growth of that time, while every stream was busy; starting up and adding up afterwards are outside. "To the
end": all events of the load over all processor time from its first request until the command ended, which has in it
what the client does with its records.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from benchmarks.peers.reports import Report
from graders.stats import nearest_rank, smallest_n

LEAST_WINDOW = 1.0
"""Seconds; over less the processor time, kept by the kernel in hundredths of a second, says little."""


class Truth(msgspec.Struct, frozen=True):
    """One request as the stub saw it: when it came, and (time, tokens) of each write, in seconds on its clock."""

    received: float
    writes: tuple[tuple[float, int], ...]

    @property
    def ttft(self) -> float:
        """Seconds until the first token was written."""
        return self.writes[0][0] - self.received

    @property
    def tokens(self) -> int:
        """Tokens written."""
        return sum(count for _, count in self.writes)

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first write; None for a single write."""
        rest = self.tokens - self.writes[0][1]
        return (self.writes[-1][0] - self.writes[0][0]) / rest if rest else None


@dataclass(frozen=True)
class Load:
    """What every client is asked for: a closed loop of `streams`, each sending `rounds` requests in turn."""

    streams: int
    rounds: int
    tokens: int
    ttft: float
    tpot: float

    @property
    def requests(self) -> int:
        """How many requests in all."""
        return self.streams * self.rounds

    @property
    def request_seconds(self) -> float:
        """How long one request takes, by the stub's timing."""
        return self.ttft + (self.tokens - 1) * self.tpot

    @property
    def seconds(self) -> float:
        """How long all take."""
        return self.rounds * self.request_seconds


@dataclass(frozen=True)
class Measured:
    """One run of a client: its reports, the stub's log by name, looks at its processor time, and all of that it took.

    `looks` are (time on the stub's clock, seconds of processor time so far); `cpu` is of the whole command.
    """

    load: Load
    reports: Sequence[Report]
    truth: Mapping[str, Truth]
    looks: Sequence[tuple[float, float]]
    cpu: float


@dataclass(frozen=True)
class Accuracy:
    """How far reports are from the truth.

    `p50` and `p99` are percentiles (nearest rank) of reported - true in seconds, `error` is the mean of
    |reported - true| / true. `p99` is None below `smallest_n(0.99)` requests, where it would say nothing.
    """

    p50: float
    p99: float | None
    error: float


@dataclass(frozen=True)
class Figures:
    """One row: None where something was not measured.

    `rate` is events per second while all streams were busy, `in_window` and `to_the_end` are per second of processor
    time; `miscounted` requests are those with another number of tokens than was written.
    """

    requests: int
    miscounted: int
    rate: float | None
    in_window: float | None
    to_the_end: float | None
    ttft: Accuracy | None
    tpot: Accuracy | None


def judge(run: Measured) -> Figures:
    """The figures of one run."""
    pairs = [(each, run.truth[each.name]) for each in run.reports if each.name in run.truth]
    rate, per_core = window(run)
    return Figures(
        requests=len(pairs),
        miscounted=sum(said.tokens != true.tokens for said, true in pairs),
        rate=rate,
        in_window=per_core,
        to_the_end=to_the_end(run),
        ttft=compare([(said.ttft, true.ttft) for said, true in pairs]),
        tpot=compare([(said.tpot, true.tpot) for said, true in pairs if said.tpot is not None and true.tpot]),
    )


def window(run: Measured) -> tuple[float | None, float | None]:
    """Events per second, and per second of processor time, while all streams were busy.

    That is from one request's length after the first request came until the last one did.
    """
    came = _came(run)
    if not came:
        return None, None
    inside = [look for look in run.looks if came[0] + run.load.request_seconds <= look[0] <= came[-1]]
    if len(inside) < 2 or inside[-1][0] - inside[0][0] < LEAST_WINDOW:
        return None, None
    (start, before), (end, after) = inside[0], inside[-1]
    times = sorted(time for each in run.truth.values() for time, _ in each.writes)
    events = bisect_left(times, end) - bisect_left(times, start)
    return events / (end - start), events / (after - before) if after > before else None


def to_the_end(run: Measured) -> float | None:
    """Events per second of processor time from the last look before the first request until the command ended."""
    came = _came(run)
    before = [cpu for time, cpu in run.looks if came and time <= came[0]]
    if not before:
        return None
    # What no process has waited for is seen only while it lives.
    used = max(run.cpu, run.looks[-1][1]) - before[-1]
    events = sum(len(each.writes) for each in run.truth.values() if each.received >= came[0])
    return events / used if used > 0 else None


def _came(run: Measured) -> list[float]:
    """When the reported requests came; without what a client sends first to see whether the server is there."""
    return sorted(run.truth[each.name].received for each in run.reports if each.name in run.truth)


def compare(pairs: Sequence[tuple[float, float | None]]) -> Accuracy | None:
    """How far reported seconds are from the true ones; None without any."""
    known = [(said, true) for said, true in pairs if true]
    if not known:
        return None
    added = [said - true for said, true in known]
    error = math.fsum(abs(said - true) / true for said, true in known) / len(known)
    p99 = nearest_rank(added, 0.99) if len(added) >= smallest_n(0.99) else None
    return Accuracy(nearest_rank(added, 0.5), p99, error)
