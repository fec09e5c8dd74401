"""When requests are sent: schedules built from a seed before the clock starts. Pure.

Place: lab checks make a schedule, `load` sends by it, the record keeps it whole. Limits: constant, Poisson, gamma,
ramp, recorded times and closed loop. Planned times are seconds from t0; gaps are never rescaled to fit a length or a
count, as that changes the process that was asked for, and answers never move them.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from graders.errors import HarnessError
from graders.seeds import source

Kind = Literal["constant", "poisson", "gamma", "ramp", "trace", "closed"]


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When to send.

    Attributes:
        kind: the arrival process.
        seed: of the process; None where it has no randomness.
        rate: mean arrivals per second, at the beginning of a ramp; None for a trace and a closed loop.
        end_rate: mean arrivals per second at the end of a ramp; None for other processes.
        burstiness: shape of the gamma distribution of gaps; None for other processes.
        times: planned seconds from t0, ascending; the n-th is for the n-th request. Empty for a closed loop.
        streams: how many requests a closed loop keeps going at once; None for the others.
    """

    kind: Kind
    seed: int | None = None
    rate: float | None = None
    end_rate: float | None = None
    burstiness: float | None = None
    times: tuple[float, ...] = ()
    streams: int | None = None


def constant(rate: float, seconds: float) -> Schedule:
    """One arrival every 1/rate seconds from 0 until before `seconds`; raises HarnessError for a rate not above 0."""
    _positive("rate", rate)
    count = math.ceil(rate * seconds)
    times = tuple(each for each in (index / rate for index in range(count)) if each < seconds)
    return Schedule(kind="constant", rate=float(rate), times=times)


def poisson(rate: float, seconds: float, seed: int) -> Schedule:
    """A Poisson process: exponential gaps of mean 1/rate, by inversion (Devroye 1986, II.2), until before `seconds`."""
    _positive("rate", rate)
    draws = source(seed, "arrivals")
    times = _accumulate(lambda: -math.log(1.0 - draws.random()) / rate, seconds)
    return Schedule(kind="poisson", seed=seed, rate=float(rate), times=times)


def gamma(rate: float, seconds: float, seed: int, burstiness: float) -> Schedule:
    """Gaps from a gamma distribution of mean 1/rate and shape `burstiness`, until before `seconds`.

    As in `vllm bench serve --burstiness`: 1 is Poisson, below 1 is burstier, above 1 is more even; the coefficient of
    variation of the gaps is 1/sqrt(burstiness) (Johnson, Kotz and Balakrishnan 1994, chapter 17).
    """
    _positive("rate", rate)
    _positive("burstiness", burstiness)
    draws = source(seed, "arrivals")
    times = _accumulate(lambda: draws.gammavariate(burstiness, 1.0 / (rate * burstiness)), seconds)
    return Schedule(kind="gamma", seed=seed, rate=float(rate), burstiness=float(burstiness), times=times)


def ramp(rate: float, end_rate: float, seconds: float, seed: int) -> Schedule:
    """A Poisson process whose rate goes linearly from `rate` at 0 to `end_rate` at `seconds`, up or down.

    By inversion of the expected count L(t) = rate*t + (end_rate - rate)*t^2/(2*seconds): the arrivals G of a process of
    rate 1 come at t where L(t) = G (Cinlar 1975, "Introduction to stochastic processes", section 4.7). Solved as
    t = 2G/(rate + sqrt(rate^2 + 2G*(end_rate - rate)/seconds)), which loses no digits where the slope is small.
    """
    if min(rate, end_rate) < 0 or max(rate, end_rate) <= 0 or not seconds > 0:
        raise HarnessError(
            f"a ramp was asked for from {rate:g} to {end_rate:g} requests per second in {seconds:g} s; "
            "give rates of 0 or more, one of them above 0, and a length above 0"
        )
    draws = source(seed, "arrivals")
    counts = _accumulate(lambda: -math.log(1.0 - draws.random()), (rate + end_rate) / 2 * seconds)
    slope = (end_rate - rate) / seconds
    times = [2 * count / (rate + math.sqrt(max(0.0, rate**2 + 2 * slope * count))) for count in counts]
    inside = tuple(time for time in times if time < seconds)  # rounding may put the last of a falling ramp at the end
    return Schedule(kind="ramp", seed=seed, rate=float(rate), end_rate=float(end_rate), times=inside)


def recorded(times: Sequence[float]) -> Schedule:
    """Arrivals at the recorded times, in seconds from t0; raises HarnessError when they do not ascend from 0."""
    if not times or times[0] < 0 or any(later < sooner for sooner, later in pairwise(times)):
        raise HarnessError("a schedule was asked for from times that do not ascend from 0; cut the trace and sort it")
    return Schedule(kind="trace", times=tuple(map(float, times)))


def closed(streams: int) -> Schedule:
    """A closed loop: `streams` requests at once, and each that ends is followed by the next at once."""
    _positive("number of streams", streams)
    return Schedule(kind="closed", streams=streams)


def shard(schedule: Schedule, workers: int) -> tuple[tuple[int, ...], ...]:
    """For each worker the indices it serves: of requests, or of streams for a closed loop; every n-th one."""
    _positive("number of workers", workers)
    count = len(schedule.times) if schedule.streams is None else schedule.streams
    return tuple(tuple(range(worker, count, workers)) for worker in range(workers))


def _accumulate(gap: Callable[[], float], seconds: float) -> tuple[float, ...]:
    times: list[float] = []
    now = gap()
    while now < seconds:
        times.append(now)
        now += gap()
    return tuple(times)


def _positive(what: str, value: float) -> None:
    if not value > 0:
        raise HarnessError(f"a schedule was asked for with a {what} of {value:g}; it must be above 0")
