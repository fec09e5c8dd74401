"""When requests are sent: schedules built from a seed before the clock starts. Pure.

Place: lab checks make a schedule, `load` sends by it, the record keeps its digest. Limits: constant, Poisson, gamma and
closed loop. Planned times are seconds from t0; gaps are never rescaled to fit a length or a count, as that changes the
process that was asked for.
"""

import hashlib
import math
import random
from collections.abc import Callable
from typing import Literal

import msgspec

from graders.errors import HarnessError

Kind = Literal["constant", "poisson", "gamma", "closed"]


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When to send.

    Attributes:
        kind: the arrival process.
        seed: of the process; None where it has no randomness.
        rate: mean arrivals per second; None for a closed loop.
        burstiness: shape of the gamma distribution of gaps; None for other processes.
        times: planned seconds from t0, ascending; the n-th is for the n-th request. Empty for a closed loop.
        streams: how many requests a closed loop keeps going at once; None for the others.
    """

    kind: Kind
    seed: int | None = None
    rate: float | None = None
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
    """A Poisson process: exponential gaps of mean 1/rate, by inversion, until before `seconds`."""
    _positive("rate", rate)
    source = random.Random(seed)  # noqa: S311 - a reproducible schedule, not a secret
    times = _accumulate(lambda: -math.log(1.0 - source.random()) / rate, seconds)
    return Schedule(kind="poisson", seed=seed, rate=float(rate), times=times)


def gamma(rate: float, seconds: float, seed: int, burstiness: float) -> Schedule:
    """Gaps from a gamma distribution of mean 1/rate and shape `burstiness`, until before `seconds`.

    As in `vllm bench serve --burstiness`: 1 is Poisson, below 1 is burstier, above 1 is more even; the coefficient of
    variation of the gaps is 1/sqrt(burstiness).
    """
    _positive("rate", rate)
    _positive("burstiness", burstiness)
    source = random.Random(seed)  # noqa: S311 - a reproducible schedule, not a secret
    times = _accumulate(lambda: source.gammavariate(burstiness, 1.0 / (rate * burstiness)), seconds)
    return Schedule(kind="gamma", seed=seed, rate=float(rate), burstiness=float(burstiness), times=times)


def closed(streams: int) -> Schedule:
    """A closed loop: `streams` requests at once, and each that ends is followed by the next at once."""
    _positive("number of streams", streams)
    return Schedule(kind="closed", streams=streams)


def shard(schedule: Schedule, workers: int) -> tuple[tuple[int, ...], ...]:
    """For each worker the indices it serves: of requests, or of streams for a closed loop; every n-th one."""
    _positive("number of workers", workers)
    count = len(schedule.times) if schedule.streams is None else schedule.streams
    return tuple(tuple(range(worker, count, workers)) for worker in range(workers))


def digest(schedule: Schedule) -> str:
    """SHA-256 (hex) of a schedule, the same for the same schedule on every machine."""
    return hashlib.sha256(msgspec.json.encode(schedule)).hexdigest()


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
