"""What a measurement found: raw samples as the client kept them, read as answers, and the client's own health.

Place: `load.run` returns a `Run`; lab checks read it and keep `Run.encode()` as evidence, from which `Run.decode` makes
the same run without a server. Limits: all times are seconds from t0 on one monotonic clock; token gaps are not quoted
where reads coalesced, see `Figures.coalesced`.

Latencies exist from the planned time, by which we grade, and from sending. Those of a failed request are infinite.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import msgspec

from graders import stats
from graders.arrivals import digest
from graders.errors import HarnessError
from graders.faults import Fault, judge
from graders.plan import Plan
from graders.streaming import Asked, Stream, parse

Scheduling = Literal["real-time", "normal"]

FORMAT = "gpulab/load/v1"

LAG_FLOOR = 0.002
"""Seconds by which a client may be late whatever is measured: twice the resolution of its timers."""
LAG_OF_TTFT = 0.05
"""Part of the TTFT bound by which it may be late: a verdict that hangs on less is inconclusive by its interval."""
LAG_OF_TPOT = 0.05
"""As much for TPOT, times the tokens of an answer, as lateness moves only its first and its last token."""
LAG_OF_WINDOW = 0.01
"""Without bounds only throughput is measured, which lateness changes by at most its part of the window."""
CPU_SHARE = 0.7
"""Of one core; above it a single-threaded client queues events for itself."""
RATE_ERROR = 0.01
"""Part of the planned arrivals that may miss the window, and at least one may."""
DISPERSION_ERROR = 0.25
"""Part by which the dispersion of sent requests may differ from the planned one."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the client saw it, raw.

    Attributes:
        index: which of the plan's requests.
        planned: when it was to be sent; in a closed loop, when the answer before it on its stream ended.
        started: when the client turned to it.
        connected: when its new connection stood; None on one that was open already, or when none came.
        sent: when its bytes were handed to the socket; None when they never were.
        times: when each read returned.
        sizes: bytes of each read.
        data: all bytes read.
        end: when the answer was complete, or the failure was noticed.
        failure: name of what kept the answer from completing, None when it is complete.
        detail: the system's words for it, None where it has none.
        resent: whether the server closed an idle connection just as the request was sent on it, so that it was sent
            once more on a new one.
        closed: whether the server closed the connection.
    """

    index: int
    planned: float
    started: float
    connected: float | None = None
    sent: float | None = None
    times: tuple[float, ...] = ()
    sizes: tuple[int, ...] = ()
    data: bytes = b""
    end: float
    failure: str | None = None
    detail: str | None = None
    resent: bool = False
    closed: bool = False

    @property
    def first_byte(self) -> float | None:
        """When the first bytes of the answer came."""
        return self.times[0] if self.times else None

    @property
    def reads(self) -> list[tuple[float, bytes]]:
        """The reads, each with its time."""
        place, found = 0, []
        for time, size in zip(self.times, self.sizes, strict=True):
            found.append((time, self.data[place : place + size]))
            place += size
        return found


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's own state while it measured.

    `cpu` and `wall` are seconds in the window; `lags` how late its event loop was each time it looked in the window,
    in seconds; `pauses` (time, lag) of the long ones at any time; `ran_out` streams that had no request left before the
    window ended; `uvloop` and `scheduling` how it ran.
    """

    worker: int
    cpu: float
    wall: float
    lags: tuple[float, ...]
    pauses: tuple[tuple[float, float], ...]
    ran_out: int
    uvloop: bool
    scheduling: Scheduling


@dataclass(frozen=True)
class Answer:
    """A sample with what its bytes say: `faults` is empty for a success."""

    sample: Sample
    asked: Asked
    stream: Stream
    faults: tuple[Fault, ...] = ()

    @property
    def good(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.faults

    @property
    def complete(self) -> bool:
        """Whether all of it came as asked, at whatever pace."""
        return all(fault.name == "held_back" for fault in self.faults)

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is wrong with it, in sentences."""
        return tuple(fault.sentence for fault in self.faults)

    @property
    def ttft(self) -> float:
        """Seconds from the planned time to the first token."""
        return self._since(self.sample.planned, self.stream.first_token)

    @property
    def ttft_from_sent(self) -> float:
        """Seconds from sending to the first token."""
        return self._since(self.sample.sent, self.stream.first_token)

    @property
    def e2e(self) -> float:
        """Seconds from the planned time to the last token."""
        return self._since(self.sample.planned, self.stream.last_token)

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first chunk; None for a success whose first chunk brought all tokens."""
        return self.stream.tpot if self.good else math.inf

    def met(self, *, ttft: float, tpot: float) -> bool:
        """Whether it is a success within both bounds (seconds)."""
        return self.good and self.ttft <= ttft and (self.tpot or 0.0) <= tpot

    def _since(self, start: float | None, end: float | None) -> float:
        return end - start if self.good and start is not None and end is not None else math.inf


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How well the client did its part, over the window; lags in seconds are 99th percentiles.

    `cpu_share` is of one core, of the busiest worker; rates are requests per second, None for a closed loop, as are
    dispersions; `coalesced` is the share of token chunks that came in the same read as the one before, None without
    chunks; `refused_by_limit` requests that the connection limit kept back.
    """

    send_lag: float
    loop_lag: float
    cpu_share: float
    planned_rate: float | None
    achieved_rate: float | None
    planned_dispersion: float | None
    achieved_dispersion: float | None
    coalesced: float | None
    refused_by_limit: int
    ran_out: int


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    digest: str
    t0: float
    started_at: float
    plan: Plan
    workers: tuple[Health, ...]


@dataclass(frozen=True)
class Run:
    """A measurement: its plan, its raw samples by index, and its workers' health.

    `t0` is on the machine's monotonic clock, `started_at` the same moment in seconds since the epoch.
    """

    plan: Plan
    t0: float
    started_at: float
    workers: tuple[Health, ...]
    samples: tuple[Sample, ...]

    @property
    def seed(self) -> int | None:
        """What the requests were drawn from."""
        return self.plan.seed

    @property
    def digest(self) -> str:
        """SHA-256 of the schedule."""
        return digest(self.plan.schedule)

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """Every sample, read and judged."""
        pauses = [pause for worker in self.workers for pause in worker.pauses]
        return tuple(_read(sample, self.plan.requests[sample.index].asked, pauses) for sample in self.samples)

    @property
    def measured(self) -> tuple[Answer, ...]:
        """The answers to requests planned in the window."""
        return tuple(each for each in self.answers if self._in_window(each.sample.planned))

    @property
    def failures(self) -> tuple[Answer, ...]:
        """The measured answers with which something is wrong."""
        return tuple(each for each in self.measured if not each.good)

    @property
    def incomplete(self) -> tuple[Answer, ...]:
        """The measured answers of which something is missing or false."""
        return tuple(each for each in self.measured if not each.complete)

    def tokens_in_window(self) -> int:
        """Output tokens that came in the window, by their own times, of complete answers whenever planned."""
        return round(sum(self._tokens(each.stream) for each in self.answers if each.complete))

    def tokens_per_second(self) -> float:
        """Output tokens per second over the window."""
        return self.tokens_in_window() / self.plan.window

    def ttft(self) -> list[float]:
        """TTFT in seconds from the planned time of each measured request; infinite for a failure."""
        return [each.ttft for each in self.measured]

    def tpot(self) -> list[float]:
        """TPOT in seconds of each measured request that has one; infinite for a failure."""
        return [each.tpot for each in self.measured if each.tpot is not None]

    def met(self, *, ttft: float, tpot: float) -> int:
        """How many measured requests are successes within both bounds (seconds)."""
        return sum(each.met(ttft=ttft, tpot=tpot) for each in self.measured)

    def wrong(self) -> dict[str, int]:
        """What is wrong with measured answers, and how many it concerns, most first."""
        said = [sentence for each in self.failures for sentence in each.wrong]
        return {each: said.count(each) for each in sorted(set(said), key=lambda each: (-said.count(each), each))}

    @cached_property
    def figures(self) -> Figures:
        """How well the client did its part."""
        plan = self.plan
        samples = [each for each in self.samples if self._in_window(each.planned)]
        opened = plan.schedule.streams is None
        planned = [each for each in plan.schedule.times if self._in_window(each)]
        started = [each.started for each in self.samples if self._in_window(each.started)]
        return Figures(
            send_lag=_p99([each.started - each.planned for each in samples]),
            loop_lag=max((_p99(worker.lags) for worker in self.workers), default=0.0),
            cpu_share=max((worker.cpu / worker.wall for worker in self.workers if worker.wall), default=0.0),
            planned_rate=len(planned) / plan.window if opened else None,
            achieved_rate=len(started) / plan.window if opened else None,
            planned_dispersion=stats.dispersion(planned, plan.ramp, plan.window_end) if opened else None,
            achieved_dispersion=stats.dispersion(started, plan.ramp, plan.window_end) if opened else None,
            coalesced=_coalesced([each.stream for each in self.measured]),
            refused_by_limit=sum(each.failure == "connection limit" for each in self.samples),
            ran_out=sum(worker.ran_out for worker in self.workers),
        )

    def client_limits(self, *, ttft: float | None = None, tpot: float | None = None) -> list[str]:
        """Why this client, not the server, bounds what was measured; empty when it does not.

        Args:
            ttft: bound of TTFT in seconds that will be judged, None when none is.
            tpot: bound of TPOT in seconds that will be judged, None when none is.
        """
        figures, allowed = self.figures, self._allowed_lag(ttft, tpot)
        late = (
            "of the {} were {:.1f} ms late or more, where {:.1f} ms are allowed; leave the client more processor time"
        )
        said = []
        if figures.send_lag > allowed:
            said.append("1 % " + late.format("requests", 1000 * figures.send_lag, 1000 * allowed))
        if figures.loop_lag > allowed:
            said.append("1 % " + late.format("looks at the sockets", 1000 * figures.loop_lag, 1000 * allowed))
        if figures.cpu_share > CPU_SHARE:
            said.append(
                f"a worker used {100 * figures.cpu_share:.0f} % of a core, where {100 * CPU_SHARE:.0f} % are allowed; "
                "use more workers"
            )
        return said + _arrival_limits(figures, self.plan)

    def encode(self) -> bytes:
        """The run as JSON lines: a header that names the format, then a sample each."""
        header = _Header(
            format=FORMAT,
            digest=self.digest,
            t0=self.t0,
            started_at=self.started_at,
            plan=self.plan,
            workers=self.workers,
        )
        return msgspec.json.Encoder().encode_lines([header, *self.samples])

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """The run that `encode` gave these lines; raises HarnessError for any others."""
        first, _, rest = text.partition(b"\n")
        try:
            header = msgspec.json.decode(first, type=_Header)
            samples = msgspec.json.Decoder(Sample).decode_lines(rest)
        except msgspec.DecodeError as error:
            raise HarnessError(f"these lines are no load run that can be read: {error}; measure again") from error
        if header.format != FORMAT or header.digest != digest(header.plan.schedule):
            raise HarnessError(
                f"these lines are a load run of format {header.format!r} or were changed; this program reads {FORMAT!r}"
            )
        return cls(header.plan, header.t0, header.started_at, header.workers, tuple(samples))

    def write(self, path: Path) -> None:
        """Writes the lines to a new file."""
        with path.open("xb") as file:
            file.write(self.encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote."""
        return cls.decode(path.read_bytes())

    def _in_window(self, time: float) -> bool:
        return self.plan.ramp <= time < self.plan.window_end

    def _tokens(self, stream: Stream) -> float:
        carrying = stream.token_chunks
        inside = [chunk for chunk in carrying if self._in_window(chunk.time)]
        if stream.has_ids:
            return sum(len(chunk.ids or ()) for chunk in inside)
        return (stream.tokens or 0) * len(inside) / len(carrying) if carrying else 0.0

    def _allowed_lag(self, ttft: float | None, tpot: float | None) -> float:
        tokens = min((request.asked.tokens for request in self.plan.requests), default=1)
        allowed = [LAG_OF_TTFT * ttft] if ttft is not None else []
        allowed += [LAG_OF_TPOT * tpot * max(1, tokens - 1)] if tpot is not None else []
        return max(LAG_FLOOR, min(allowed, default=LAG_OF_WINDOW * self.plan.window))


def _read(sample: Sample, asked: Asked, pauses: Sequence[tuple[float, float]]) -> Answer:
    stream = parse(sample.reads, closed=sample.closed)
    if sample.failure:
        words = f"{sample.failure}{f': {sample.detail}' if sample.detail else ''}"
        return Answer(sample, asked, stream, (Fault("broken_off", words),))
    begun = sample.planned if sample.sent is None else sample.sent
    pause = max((lag for time, lag in pauses if time >= begun and time - lag <= sample.end), default=0.0)
    return Answer(sample, asked, stream, tuple(judge(stream, asked, client_pause=pause)))


def _arrival_limits(figures: Figures, plan: Plan) -> list[str]:
    said = []
    planned, achieved = figures.planned_rate, figures.achieved_rate
    if planned is not None and achieved is not None:
        missed = abs(planned - achieved) * plan.window
        if missed > max(1.0, RATE_ERROR * planned * plan.window) + 1e-6:
            said.append(f"{achieved:.2f} requests/s were sent in the window, where {planned:.2f} were planned")
    before, after = figures.planned_dispersion, figures.achieved_dispersion
    if before is not None and after is not None and abs(after - before) > DISPERSION_ERROR * max(before, 1.0):
        said.append(f"arrivals had a dispersion of {after:.2f}, where {before:.2f} was planned")
    if figures.refused_by_limit:
        said.append(f"{figures.refused_by_limit} requests met the limit of {plan.connections} connections; raise it")
    if figures.ran_out:
        said.append(
            f"{figures.ran_out} streams had no request left before the window ended; give the plan more requests"
        )
    return said


def _coalesced(streams: Sequence[Stream]) -> float | None:
    gaps = [gap for stream in streams for gap in stream.chunk_gaps]
    return sum(not gap for gap in gaps) / len(gaps) if gaps else None


def _p99(values: Sequence[float]) -> float:
    return stats.nearest_rank(values, 0.99) if values else 0.0
