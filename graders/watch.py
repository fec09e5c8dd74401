"""Looks at the load client itself while it measures: loop lag, pauses, processor time, waiting for a core.

Place: a `client` has one; `samples` judges what it saw. Limits: one process; a pause shorter than a look may go unseen.
"""

import asyncio
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from graders.diagnosis import Health, Scheduling
from graders.plan import Plan

LOOK_SECONDS = 0.01
"""How often the event loop's lag is looked at; time-outs are at every tenth look."""
PAUSE_SECONDS = 0.005
"""A lag from here on is kept with its time."""


def hurry() -> Scheduling:
    """Asks to run as soon as there is work, before a server that keeps every core busy; says what was allowed.

    A client that waits for a core reads late what came in time. Only root, or who has RLIMIT_RTPRIO, is allowed to.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        return "normal"
    return "real-time"


def waited() -> float | None:
    """Seconds that this thread was ready to run and had no core, ever (second field of proc's schedstat), or None."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return None


class _Mark(NamedTuple):
    """What this process had used at a moment, in seconds."""

    time: float
    cpu: float
    user: float
    waited: float | None


class Watch:
    """Looks from `start` on; `each_tenth` is called with the time at every tenth look.

    `ran_out` counts streams that had no request left before the window ended, `connections` the most that were open at
    once; the client keeps both.
    """

    def __init__(
        self,
        plan: Plan,
        worker: int,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        each_tenth: Callable[[float], None],
    ) -> None:
        self.ran_out = self.connections = 0
        self._plan, self._worker, self._loop, self._clock, self._each_tenth = plan, worker, loop, clock, each_tenth
        self._t0 = self._expected = 0.0
        self._looks = 0
        self._lags: list[float] = []
        self._pauses: list[tuple[float, float]] = []
        self._window: list[_Mark] = []

    def start(self, t0: float) -> None:
        """Begins to look; the window is counted from `t0`."""
        self._t0 = t0
        for moment in (self._plan.ramp, self._plan.window_end):
            self._loop.call_later(max(0.0, t0 + moment - self._clock()), self._mark)
        self._arm()

    def health(self, *, uvloop: bool, scheduling: Scheduling) -> Health:
        """What was seen so far."""
        while len(self._window) < 2:
            self._mark()
        start, end = self._window[:2]
        before, after = start.waited, end.waited
        return Health(
            worker=self._worker,
            cpu=end.cpu - start.cpu,
            user=end.user - start.user,
            wall=end.time - start.time,
            waited=None if before is None or after is None else after - before,
            lags=tuple(self._lags),
            pauses=tuple(self._pauses),
            ran_out=self.ran_out,
            connections=self.connections,
            uvloop=uvloop,
            scheduling=scheduling,
        )

    def _mark(self) -> None:
        user = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        self._window.append(_Mark(self._clock(), time.process_time(), user, waited()))

    def _arm(self) -> None:
        self._expected = self._clock() + LOOK_SECONDS
        self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        now = self._clock()
        lag, at = max(0.0, now - self._expected), now - self._t0
        if self._plan.ramp <= at < self._plan.window_end:
            self._lags.append(lag)
        if lag >= PAUSE_SECONDS:
            self._pauses.append((at, lag))
        self._looks += 1
        if self._looks % 10 == 0:
            self._each_tenth(now)
        self._arm()
