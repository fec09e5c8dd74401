"""What the client knows of everything it sent between two scrapes, to hold a server's own counters against. Pure.

Place: lab checks make one of all runs between the scrapes, warm-ups included; `crosscheck` compares it. Limits: answers
under ignore_eos, whose length is known before. A request without a complete answer may or may not have been counted by
the server, so it widens what is expected instead of being guessed.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec

from graders.samples import Answer, Run


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over runs; times in seconds.

    Attributes:
        finished: complete answers.
        prompt_tokens: of complete answers, as planned where the plan says, else as usage says.
        output_tokens: of complete answers, by their token ids where there are any.
        open: requests that were sent and have no complete answer, or were sent twice.
        open_prompt_tokens: as many prompt tokens they have at most; infinite where nobody says.
        open_output_tokens: as many tokens they asked for.
        usage_prompt_tokens: what the server's usage says of the complete answers.
        usage_output_tokens: the same for output tokens.
        cached_tokens: prompt tokens that came from the prefix cache, as usage says; None where an answer does not say.
        ttft: from sent to the first token, one per complete answer.
        e2e: from sent to the last token, one per complete answer.
        tpot: per complete answer as vLLM counts it: 0 for an answer of one token.
        later_tokens: tokens after the first, over all complete answers.
        unseen: how long an engine's gauges may not know of a request that came, on average: until the end of the step
            that runs then, and of its own first one, see `unseen_seconds`.
        flights: when each request with a complete answer was with the server, from sent to its last token, on the
            machine's monotonic clock.
        open_flights: from sent to their failure, those that have none; when the server let go of them is not known.
    """

    finished: int
    prompt_tokens: int
    output_tokens: int
    open: int
    open_prompt_tokens: float
    open_output_tokens: int
    usage_prompt_tokens: int
    usage_output_tokens: int
    cached_tokens: int | None
    ttft: tuple[float, ...]
    e2e: tuple[float, ...]
    tpot: tuple[float, ...]
    later_tokens: int
    unseen: float
    flights: tuple[tuple[float, float], ...]
    open_flights: tuple[tuple[float, float], ...] = ()

    def in_flight(self, moment: float, *, unseen: float = 0.0) -> int:
        """How many requests with complete answers the server had for `unseen` s or more, at a moment of the clock."""
        return sum(sent + unseen <= moment < end for sent, end in self.flights)


def ledger(runs: Iterable[Run]) -> Ledger:
    """The ledger of these runs."""
    sent = [(run.t0, each) for run in runs for each in run.answers if each.sample.sent is not None]
    whole = [each for _, each in sent if each.complete]
    loose = [each for _, each in sent if not each.complete]
    # The first copy of a request that was sent twice can have reached the server after all.
    loose += [each for each in whole if each.sample.resent]
    cached = [each.stream.usage.cached_tokens for each in whole if each.stream.usage]
    pauses = [gap for each in whole for gap in each.stream.chunk_gaps]
    ttft = tuple(_since_sent(each, each.stream.first_token) for each in whole)
    return Ledger(
        finished=len(whole),
        prompt_tokens=sum(_prompt(each) for each in whole),
        output_tokens=sum(each.stream.tokens or 0 for each in whole),
        open=len(loose),
        open_prompt_tokens=sum(_prompt_at_most(each) for each in loose),
        open_output_tokens=sum(each.asked.tokens for each in loose),
        usage_prompt_tokens=sum(each.stream.usage.prompt_tokens for each in whole if each.stream.usage),
        usage_output_tokens=sum(each.stream.usage.completion_tokens for each in whole if each.stream.usage),
        cached_tokens=None if None in cached else sum(tokens or 0 for tokens in cached),
        ttft=ttft,
        e2e=tuple(_since_sent(each, each.stream.last_token) for each in whole),
        tpot=tuple(each.stream.tpot or 0.0 for each in whole),
        later_tokens=sum(max(0, (each.stream.tokens or 0) - 1) for each in whole),
        unseen=unseen_seconds(ttft, pauses),
        flights=tuple(_flight(t0, each) for t0, each in sent if each.complete),
        open_flights=tuple(_flight(t0, each) for t0, each in sent if not each.complete),
    )


def unseen_seconds(ttft: Sequence[float], pauses: Sequence[float]) -> float:
    """How long a request may be in an engine that sets its gauges at the end of each step before they know of it.

    The step that it meets is the mean one weighted by length, sum of squares over sum (the inspection paradox; Feller
    1971, volume II, section I.4); pauses between tokens stand for steps. Its own first step is another one, or where
    no other request runs, the shortest TTFT.
    """
    whole = math.fsum(pauses)
    met = math.fsum(pause * pause for pause in pauses) / whole if whole else 0.0
    return min(ttft, default=0.0) + 2 * met


def _prompt(answer: Answer) -> int:
    if answer.asked.prompt_tokens is not None:
        return answer.asked.prompt_tokens
    return answer.stream.usage.prompt_tokens if answer.stream.usage else 0


def _prompt_at_most(answer: Answer) -> float:
    if answer.asked.prompt_tokens is None and answer.stream.usage is None:
        return math.inf
    return _prompt(answer)


def _since_sent(answer: Answer, moment: float | None) -> float:
    sent = answer.sample.sent
    return math.inf if moment is None or sent is None else moment - sent


def _flight(t0: float, answer: Answer) -> tuple[float, float]:
    sent, last = answer.sample.sent or 0.0, answer.stream.last_token
    return t0 + sent, t0 + (last if answer.complete and last is not None else answer.sample.end)
