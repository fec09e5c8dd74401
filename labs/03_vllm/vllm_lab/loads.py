"""One load as the record keeps it for judging: each request's outcome, tokens, and how the client did. Pure.

Place: the checks make a `Load` of each run that they measured, and judge that. Limits: samples as they came over the
wire are in the evidence, not here.
"""

import math
from collections.abc import Sequence
from typing import Self

import msgspec

from graders import diagnosis
from graders.diagnosis import Figures
from graders.samples import Answer, Run

OUTPUT_TOKENS = 64
"""Tokens that a request asks for, where its check does not say otherwise."""


class Alone(msgspec.Struct, frozen=True):
    """What the starter's configuration does for one user: median TTFT and TPOT in seconds, and requests per second.

    `limits` are why the client, not the server, bounds that; empty when it does not.
    """

    ttft: float
    tpot: float
    rate: float
    limits: tuple[str, ...] = ()


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """One request.

    `index` is its place in the plan, `good` whether nothing is wrong with its answer, `complete` whether all of it
    came, at whatever pace; TTFT and TPOT are in seconds, None for a failure, and TPOT where there is none.
    """

    index: int
    good: bool
    complete: bool
    ttft: float | None
    tpot: float | None

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """What is kept of an answer."""
        ttft, tpot = (None if each is None or math.isinf(each) else each for each in (answer.ttft, answer.tpot))
        return cls(answer.sample.index, answer.good, answer.complete, ttft, tpot)

    @property
    def waited(self) -> float:
        """TTFT in seconds, infinite for a failure."""
        return math.inf if self.ttft is None else self.ttft

    def met(self, *, ttft: float, tpot: float) -> bool:
        """Whether it is a success within both bounds (seconds)."""
        return self.good and self.waited <= ttft and (self.tpot or 0.0) <= tpot


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A run.

    `answers` are those to the requests planned in its window, `tokens` came in it, `client` is how the client did its
    part, `complaint` what was wrong with answers most often.
    """

    answers: tuple[Answered, ...]
    tokens: int
    client: Figures
    complaint: str | None

    @classmethod
    def of(cls, run: Run) -> Self:
        """What is kept of a run."""
        return cls(
            answers=tuple(map(Answered.of, run.measured)),
            tokens=run.tokens_in_window(),
            client=run.figures,
            complaint=next(iter(run.wrong()), None),
        )

    @property
    def failed(self) -> int:
        """Answers with which something is wrong."""
        return sum(not each.good for each in self.answers)

    @property
    def incomplete(self) -> int:
        """Answers of which something is missing or false."""
        return sum(not each.complete for each in self.answers)

    @property
    def tokens_per_second(self) -> float:
        """Over the window."""
        return self.tokens / self.client.window

    def limits(self, *, ttft: float | None = None, tpot: float | None = None) -> list[str]:
        """Why the client, not the server, bounds what was measured, where these bounds (seconds) are judged."""
        return diagnosis.limits(self.client, ttft=ttft, tpot=tpot)


def complaint(loads: Sequence[Load]) -> str:
    """What was wrong with answers most often, to be put behind a figure; empty when nothing was."""
    said = next((load.complaint for load in loads if load.complaint), None)
    return f"; most often: {said}" if said else ""


def bottleneck(limits: Sequence[str]) -> list[str]:
    """Limits of the client, as reasons why a load says nothing."""
    return [f"the client was the bottleneck: {limit}" for limit in limits]


def because(reasons: Sequence[str]) -> str:
    """The first reason why a load says nothing, to be put behind a figure; empty when it does say something."""
    return f"; {reasons[0]}" if reasons else ""


def excuse(limits: Sequence[str]) -> str:
    """That the client was the bottleneck, to be put behind a figure; empty when it was not."""
    return because(bottleneck(limits))
