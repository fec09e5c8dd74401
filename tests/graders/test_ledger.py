"""What the client knows of all it sent: sums over complete answers, bounds for the rest, and who was in flight when."""

import math

import msgspec
import pytest

from graders import arrivals
from graders.ledger import ledger
from graders.plan import Plan, Request, Target
from graders.samples import Run, Sample
from graders.streaming import Asked

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def token(number: int, *, last: bool) -> bytes:
    choice = {"index": 0, "text": "x", "token_ids": [number], "finish_reason": "length" if last else None}
    return event({"model": "tiny", "choices": [choice]})


def answered(index: int, sent: float, times: list[float], *, cached: int | None = 4, resent: bool = False) -> Sample:
    """A complete answer with a token at each of these times, of a prompt of ten."""
    parts = [token(number, last=number == len(times) - 1) for number in range(len(times))]
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    usage = {"prompt_tokens": 10, "completion_tokens": len(times), **details}
    parts[0] = HEAD + parts[0]
    parts[-1] += event({"model": "tiny", "choices": [], "usage": usage}) + b"data: [DONE]\n\n"
    return Sample(
        index=index,
        planned=sent,
        started=sent,
        sent=sent,
        times=tuple(times),
        sizes=tuple(len(part) for part in parts),
        data=b"".join(parts),
        end=times[-1],
        closed=True,
        resent=resent,
    )


def failed(index: int, *, sent: float | None, end: float) -> Sample:
    return Sample(index=index, planned=1.0, started=1.0, sent=sent, end=end, failure="connection closed")


def run(*samples: Sample, t0: float = 100.0, prompt_tokens: int | None = 10) -> Run:
    asked = Asked(tokens=3, prompt_tokens=prompt_tokens, model="tiny")
    plan = Plan(
        target=Target(host="127.0.0.1", port=1),
        requests=tuple(Request(body=b"{}", asked=asked) for _ in samples),
        schedule=arrivals.Schedule(kind="constant", times=tuple(sorted(sample.planned for sample in samples))),
        window=10.0,
    )
    return Run(plan, t0, 0.0, (), samples)


def test_a_ledger_sums_complete_answers_and_bounds_the_rest() -> None:
    first = run(answered(0, 1.0, [1.5, 1.6, 1.8]), failed(1, sent=1.2, end=2.0), failed(2, sent=None, end=1.0))
    second = run(answered(0, 2.0, [2.25, 2.35, 2.45]), t0=200.0)
    found = ledger([first, second])
    assert (found.finished, found.prompt_tokens, found.output_tokens) == (2, 20, 6)
    assert (found.open, found.open_prompt_tokens, found.open_output_tokens) == (1, 10, 3)
    assert (found.usage_prompt_tokens, found.usage_output_tokens, found.cached_tokens) == (20, 6, 8)
    assert found.ttft == pytest.approx((0.5, 0.25))
    assert found.e2e == pytest.approx((0.8, 0.45))
    assert found.tpot == pytest.approx((0.15, 0.1))
    assert found.later_tokens == 4
    assert found.unseen == pytest.approx(0.25 + 2 * (0.1**2 + 0.2**2 + 0.1**2 + 0.1**2) / 0.5)
    assert found.flights == ((101.0, 101.8), (202.0, 202.45))
    assert found.open_flights == ((101.2, 102.0),)


def test_a_request_that_was_sent_twice_may_count_twice() -> None:
    found = ledger([run(answered(0, 1.0, [1.5, 1.6, 1.8], resent=True))])
    assert (found.finished, found.open, found.open_prompt_tokens, found.open_output_tokens) == (1, 1, 10, 3)


def test_what_nobody_says_is_unknown() -> None:
    found = ledger(
        [run(answered(0, 1.0, [1.5, 1.6, 1.8], cached=None), failed(1, sent=1.0, end=2.0), prompt_tokens=None)]
    )
    assert (found.cached_tokens, found.prompt_tokens, found.open_prompt_tokens) == (None, 10, math.inf)


def test_nothing_sent_is_nothing_known() -> None:
    found = ledger([])
    assert (found.finished, found.open, found.ttft, found.unseen, found.in_flight(1.0)) == (0, 0, (), 0.0, 0)


def test_requests_in_flight_at_a_moment() -> None:
    found = ledger([run(answered(0, 1.0, [1.5, 1.6, 1.8]), failed(1, sent=1.2, end=2.0))])
    moments = [100.9, 101.0, 101.3, 101.8, 102.0]
    assert [found.in_flight(moment) for moment in moments] == [0, 1, 1, 0, 0]
    assert [found.in_flight(moment, unseen=0.25) for moment in moments] == [0, 0, 1, 0, 0]
