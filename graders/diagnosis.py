"""Whether the load client itself was the bottleneck: its own lateness, processor time, arrivals and floor. Pure.

Place: `watch` and `floor` fill `Health` and `Floor`, `samples.Run` keeps both in the record and asks `limits` before a
figure is judged. Limits: it can say that a client was too slow, never that a server was fast.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from graders import stats
from graders.plan import Plan

Scheduling = Literal["real-time", "normal"]

LAG_FLOOR = 0.002
"""Seconds by which a client may be late whatever is measured: twice the resolution of its timers."""
LAG_OF_TTFT = 0.05
"""Part of the TTFT bound by which it may be late: a verdict that hangs on less is inconclusive by its interval."""
LAG_OF_TPOT = 0.05
"""As much for TPOT, times the tokens of an answer, as lateness moves only its first and its last token."""
LAG_OF_WINDOW = 0.01
"""Without bounds only throughput is measured, which lateness changes by at most its part of the window."""
CPU_SHARE = 0.7
"""Of one core; above it an event takes more than twice its own processing in a single-threaded client, as it queues
behind others (M/D/1: 1 + u / (2 (1 - u)) times at a use of u)."""
WAITED_SHARE = 0.01
"""Part of the window that a late worker waited for a core; above it free cores help, below it a faster client does.
Where a bound allows less than TICK it is too much by itself, as looks may miss the events that it made late; else it
excuses nothing: waiting that made nothing late did no harm."""
TICK = 0.004
"""Seconds that a process may wait for a core whose process is as urgent: until the kernel's next tick, at 250 Hz."""
RATE_ERROR = 0.01
"""Part of the planned arrivals that may miss the window, and at least one may: the last can be late by a hair."""
DISPERSION_ERROR = 0.25
"""Part by which the dispersion of sent requests may differ from the planned one. Both are of one draw, so that only
lateness parts them: a few arrivals that cross the end of a second do less, a client that stalls and catches up more."""
FLOOR_SHARE = 0.1
"""Part of a bound that the client's floor may be: what it adds always is no noise, and shifts every figure."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's own state while it measured.

    `cpu` and `wall` are seconds in the window, `user` those of `cpu` outside the kernel (None in older records);
    `waited` those of `wall` in which it was ready to run and had no core, None where the kernel does not count them;
    `lags` how late its event loop was each time it looked in the window, in seconds; `pauses` (time, lag) of the long
    ones at any time; `ran_out` streams that had no request left before the window ended; `connections` the most that it
    had open at once (None in older records); `uvloop` and `scheduling` how it ran.
    """

    worker: int
    cpu: float
    user: float | None = None
    wall: float
    waited: float | None = None
    lags: tuple[float, ...]
    pauses: tuple[tuple[float, float], ...]
    ran_out: int
    connections: int | None = None
    uvloop: bool
    scheduling: Scheduling


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """What the client adds of itself: measured against a server of ours that answers at once.

    Attributes:
        streams: how many requests were kept going, on `workers` processes, over TLS or not.
        events: tokens it was measured with.
        ttft: median of seconds from sending to the first token; the server's own time is in it.
        late: median of seconds from the server's writing of a token to the client's time for it.
        late_p99: 99th percentile of the same.
        cpu: seconds of processor time per token.
    """

    streams: int
    workers: int
    tls: bool
    events: int
    ttft: float
    late: float
    late_p99: float
    cpu: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How well the client did its part, over the window; lags in seconds are 99th percentiles.

    `cpu_share` is of one core, of the busiest worker, and `waited_share` the part of the window in which the one that
    waited most had no core, None where not counted; rates are requests per second, None for a closed loop, as are
    dispersions; `coalesced` is the share of token chunks that came in the same read as the one before, None without
    chunks; `refused_by_limit` requests that the connection limit kept back; `floor` None where it was not measured. The
    last three are the plan's, by which `limits` judges: `window` in seconds, `connections` at once at most, and `gaps`
    between the tokens of the shortest answer, over which the lateness of one token is spread.
    """

    send_lag: float
    loop_lag: float
    cpu_share: float
    waited_share: float | None
    planned_rate: float | None
    achieved_rate: float | None
    planned_dispersion: float | None
    achieved_dispersion: float | None
    coalesced: float | None
    refused_by_limit: int
    ran_out: int
    floor: Floor | None
    window: float
    connections: int
    gaps: int


def figures(
    plan: Plan,
    workers: Sequence[Health],
    sendings: Sequence[tuple[float, float]],
    *,
    coalesced: float | None,
    refused_by_limit: int,
    floor: Floor | None,
) -> Figures:
    """The figures of a run, from (planned, started) of each request in seconds from t0."""
    opened = plan.schedule.streams is None
    planned = [time for time in plan.schedule.times if plan.in_window(time)]
    started = [time for _, time in sendings if plan.in_window(time)]
    waits = [worker.waited / worker.wall for worker in workers if worker.waited is not None and worker.wall]
    return Figures(
        send_lag=p99([begun - due for due, begun in sendings if plan.in_window(due)]),
        loop_lag=max((p99(worker.lags) for worker in workers), default=0.0),
        cpu_share=max((worker.cpu / worker.wall for worker in workers if worker.wall), default=0.0),
        waited_share=max(waits, default=None),
        planned_rate=len(planned) / plan.window if opened else None,
        achieved_rate=len(started) / plan.window if opened else None,
        planned_dispersion=stats.dispersion(planned, plan.ramp, plan.window_end) if opened else None,
        achieved_dispersion=stats.dispersion(started, plan.ramp, plan.window_end) if opened else None,
        coalesced=coalesced,
        refused_by_limit=refused_by_limit,
        ran_out=sum(worker.ran_out for worker in workers),
        floor=floor,
        window=plan.window,
        connections=plan.connections,
        gaps=max(1, min((request.asked.tokens for request in plan.requests), default=1) - 1),
    )


def limits(figures: Figures, *, ttft: float | None = None, tpot: float | None = None) -> list[str]:
    """Why the client, not the server, bounds what was measured, and what would help; empty when it does not.

    Args:
        figures: of the run.
        ttft: bound of TTFT in seconds that will be judged, None when none is.
        tpot: bound of TPOT in seconds that will be judged, None when none is.
    """
    allowed, said = _allowed_lag(figures, ttft, tpot), []
    for what, lag in (("requests", figures.send_lag), ("looks at the sockets", figures.loop_lag)):
        if lag > allowed:
            said.append(
                f"1 % of the {what} were {1000 * lag:.1f} ms late or more, where {1000 * allowed:.1f} ms are allowed; "
                f"{_help(figures)}"
            )
    if not said and allowed < TICK and (waited := _waited(figures)):
        said.append(
            f"{waited}, up to {1000 * TICK:.0f} ms at a time, where {1000 * allowed:.1f} ms are allowed; "
            "free cores for it"
        )
    if figures.cpu_share > CPU_SHARE:
        said.append(
            f"a worker used {100 * figures.cpu_share:.0f} % of a core, where {100 * CPU_SHARE:.0f} % are allowed; "
            "use more workers, or fewer streams"
        )
    return said + _floor_limits(figures, ttft, tpot) + _arrival_limits(figures)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile by nearest rank; 0 of nothing."""
    return stats.nearest_rank(values, 0.99) if values else 0.0


def _help(figures: Figures) -> str:
    """What would make a late client less late, by what it spent its time on."""
    if waited := _waited(figures):
        return f"{waited}: free cores for it"
    if figures.cpu_share > CPU_SHARE:
        return "it was busy itself: use more workers, or fewer streams"
    return "free cores for it, or use fewer streams"


def _waited(figures: Figures) -> str | None:
    """How long it waited for a core; None where that was not too long, or is not known."""
    if figures.waited_share is None or figures.waited_share <= WAITED_SHARE:
        return None
    return f"it waited for a core in {100 * figures.waited_share:.0f} % of the window"


def _allowed_lag(figures: Figures, ttft: float | None, tpot: float | None) -> float:
    allowed = [LAG_OF_TTFT * ttft] if ttft is not None else []
    allowed += [LAG_OF_TPOT * tpot * figures.gaps] if tpot is not None else []
    return max(LAG_FLOOR, min(allowed, default=LAG_OF_WINDOW * figures.window))


def _floor_limits(figures: Figures, ttft: float | None, tpot: float | None) -> list[str]:
    bounds = [("TTFT", ttft)] if ttft is not None else []
    bounds += [("time of an answer's tokens", tpot * figures.gaps)] if tpot is not None else []
    floor = figures.floor
    if floor is None:
        return []
    return [
        f"the client of itself sees a token {1000 * floor.late:.2f} ms late at {floor.streams} streams, where "
        f"{1000 * FLOOR_SHARE * bound:.2f} ms are allowed of the {name}; use fewer streams, more workers, or free cores"
        for name, bound in bounds
        if floor.late > FLOOR_SHARE * bound
    ]


def _arrival_limits(figures: Figures) -> list[str]:
    said = []
    planned, achieved = figures.planned_rate, figures.achieved_rate
    if planned is not None and achieved is not None:
        missed = abs(planned - achieved) * figures.window
        if missed > max(1.0, RATE_ERROR * planned * figures.window) + 1e-6:
            said.append(
                f"{achieved:.2f} requests/s were sent in the window, where {planned:.2f} were planned; "
                "use more workers, or free cores"
            )
    before, after = figures.planned_dispersion, figures.achieved_dispersion
    if before is not None and after is not None and abs(after - before) > DISPERSION_ERROR * max(before, 1.0):
        said.append(
            f"arrivals had a dispersion of {after:.2f}, where {before:.2f} was planned; use more workers, or free cores"
        )
    if figures.refused_by_limit:
        said.append(f"{figures.refused_by_limit} requests met the limit of {figures.connections} connections; raise it")
    if figures.ran_out:
        said.append(
            f"{figures.ran_out} streams had no request left before the window ended; give the plan more requests"
        )
    return said
