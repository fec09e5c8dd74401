"""What a measurement found: raw samples as the client kept them, read as answers, and the client's own health.

Place: `load.run` returns a `Run`; lab checks read it and keep `Run.encode()` as evidence, from which `Run.decode` makes
the same run without a server. Limits: all times are seconds from t0 on one monotonic clock; token gaps are not quoted
where reads coalesced, see `Figures.coalesced`.

Latencies count from the planned time, by which we grade; that of the first token exists from sending too. Those of a
failed request are infinite.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import msgspec

from graders import diagnosis
from graders.diagnosis import Figures, Floor, Health
from graders.errors import HarnessError
from graders.faults import Fault, judge
from graders.lines import headed
from graders.plan import Plan, Target
from graders.streaming import Asked, Stream, parse

FORMAT = "gpulab/load/v2"


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


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    digest: str
    t0: float
    started_at: float
    plan: Plan
    workers: tuple[Health, ...]
    floor: Floor | None = None


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
    floor: Floor | None = None

    @property
    def seed(self) -> int | None:
        """What the requests were drawn from."""
        return self.plan.seed

    @property
    def digest(self) -> str:
        """SHA-256 of the schedule and the requests."""
        return self.plan.digest

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """Every sample, read and judged."""
        pauses = [pause for worker in self.workers for pause in worker.pauses]
        return tuple(_read(sample, self.plan.requests[sample.index].asked, pauses) for sample in self.samples)

    @property
    def measured(self) -> tuple[Answer, ...]:
        """The answers to requests planned in the window."""
        return tuple(each for each in self.answers if self.plan.in_window(each.sample.planned))

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

    def wrong(self) -> dict[str, int]:
        """What is wrong with measured answers, and how many it concerns, most first."""
        said = [sentence for each in self.failures for sentence in each.wrong]
        return {each: said.count(each) for each in sorted(set(said), key=lambda each: (-said.count(each), each))}

    @cached_property
    def figures(self) -> Figures:
        """How well the client did its part."""
        return diagnosis.figures(
            self.plan,
            self.workers,
            [(each.planned, each.started) for each in self.samples],
            coalesced=_coalesced([each.stream for each in self.measured]),
            refused_by_limit=sum(each.failure == "connection limit" for each in self.samples),
            floor=self.floor,
        )

    def client_limits(self, *, ttft: float | None = None, tpot: float | None = None) -> list[str]:
        """Why this client, not the server, bounds what was measured; empty when it does not.

        Args:
            ttft: bound of TTFT in seconds that will be judged, None when none is.
            tpot: bound of TPOT in seconds that will be judged, None when none is.
        """
        return diagnosis.limits(self.figures, ttft=ttft, tpot=tpot)

    def encode(self) -> bytes:
        """The run as JSON lines: a header that names the format, then a sample each; without the secrets of headers."""
        header = _Header(
            format=FORMAT,
            digest=self.digest,
            t0=self.t0,
            started_at=self.started_at,
            plan=msgspec.structs.replace(self.plan, target=_without_secrets(self.plan.target)),
            workers=self.workers,
            floor=self.floor,
        )
        return msgspec.json.Encoder().encode_lines([header, *self.samples])

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """The run that `encode` gave these lines; raises HarnessError for any others."""
        header, samples = headed(text, _Header, Sample, what="load run", remedy="measure again")
        if header.format != FORMAT or header.digest != header.plan.digest:
            raise HarnessError(
                f"these lines are a load run of format {header.format!r} or were changed; this program reads {FORMAT!r}"
            )
        return cls(header.plan, header.t0, header.started_at, header.workers, tuple(samples), header.floor)

    def write(self, path: Path) -> None:
        """Writes the lines to a new file, as they are."""
        with path.open("xb") as file:
            file.write(self.encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote, or a record kept, compressed or not."""
        from graders.stored import unpacked  # here, as each process of the load client imports this module

        return cls.decode(unpacked(path.name, path.read_bytes()))

    def _tokens(self, stream: Stream) -> float:
        carrying = stream.token_chunks
        inside = [chunk for chunk in carrying if self.plan.in_window(chunk.time)]
        if stream.has_ids:
            return sum(len(chunk.ids or ()) for chunk in inside)
        return (stream.tokens or 0) * len(inside) / len(carrying) if carrying else 0.0


def _read(sample: Sample, asked: Asked, pauses: Sequence[tuple[float, float]]) -> Answer:
    stream = parse(sample.reads, closed=sample.closed)
    if sample.failure:
        words = f"{sample.failure}{f': {sample.detail}' if sample.detail else ''}"
        return Answer(sample, asked, stream, (Fault("broken_off", words),))
    begun = sample.planned if sample.sent is None else sample.sent
    pause = max((lag for time, lag in pauses if time >= begun and time - lag <= sample.end), default=0.0)
    return Answer(sample, asked, stream, tuple(judge(stream, asked, client_pause=pause)))


def _without_secrets(target: Target) -> Target:
    from graders.redact import Redactor  # here, as `unpacked` above

    return msgspec.structs.replace(target, headers=Redactor().fields(target.headers))


def _coalesced(streams: Sequence[Stream]) -> float | None:
    gaps = [gap for stream in streams for gap in stream.chunk_gaps]
    return sum(not gap for gap in gaps) / len(gaps) if gaps else None
