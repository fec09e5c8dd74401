"""What a server is accused of over a run, and what is no reason to; whole servers are in test_liars.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from graders import honesty
from graders.arrivals import Schedule
from graders.diagnosis import Health
from graders.honesty import Accusation, Groups
from graders.plan import Plan, Request, Target
from graders.samples import Run, Sample
from graders.streaming import Asked

TOKENS = 16


@dataclass
class Told:
    """One request and how it went, times in seconds from t0."""

    sent: float
    prompt: str = ""
    ttft: float = 0.1
    tpot: float = 0.01
    first: int = 0
    status: int = 200
    failure: str | None = None
    connected: bool = False
    resent: bool = False
    head: str = ""
    created: int = 1000


def run_of(told: Sequence[Told], *, streams: int | None = None, started_at: float = 1000.0) -> Run:
    requests, samples = [], []
    for index, each in enumerate(told):
        body = msgspec.json.encode({"prompt": each.prompt or str(index)})
        requests.append(Request(body=body, asked=Asked(tokens=TOKENS)))
        samples.append(sample_of(index, each))
    times = () if streams else tuple(sorted(each.sent for each in told))
    schedule = Schedule(kind="closed" if streams else "constant", times=times, streams=streams)
    plan = Plan(target=Target(host="::1", port=1), requests=tuple(requests), schedule=schedule, window=1000.0)
    worker = Health(worker=0, cpu=0.0, wall=1.0, lags=(0.0,), pauses=(), ran_out=0, uvloop=True, scheduling="normal")
    return Run(plan, 500.0, started_at, (worker,), tuple(samples))


def sample_of(index: int, told: Told) -> Sample:
    head = f"HTTP/1.1 {told.status} X\r\ncontent-type: text/event-stream\r\n{told.head}"
    if told.status != 200:
        head += "content-length: 0\r\n"
    pieces, times = [f"{head}\r\n".encode()], [told.sent]
    for place in range(TOKENS if told.status == 200 and not told.failure else 0):
        ids = [1 + (told.first or 100 * index) + place]
        choice = {"text": "x", "token_ids": ids, "finish_reason": "length" if place == TOKENS - 1 else None}
        event = msgspec.json.encode({"choices": [choice], "created": told.created})
        pieces.append(b"data: " + event + b"\n\n")
        times.append(told.sent + told.ttft + place * told.tpot)
    usage = {"prompt_tokens": 1, "completion_tokens": TOKENS}
    if told.status == 200 and not told.failure:
        pieces.append(b"data: " + msgspec.json.encode({"usage": usage}) + b"\n\ndata: [DONE]\n\n")
        times.append(times[-1])
    return Sample(
        index=index,
        planned=told.sent,
        started=told.sent,
        connected=told.sent if told.connected or told.resent else None,
        sent=told.sent,
        times=tuple(times),
        sizes=tuple(map(len, pieces)),
        data=b"".join(pieces),
        end=times[-1],
        failure=told.failure,
        resent=told.resent,
        closed=told.status == 200,
    )


def in_turn(count: int, fresh: Told, other: Told) -> tuple[Run, frozenset[int], frozenset[int]]:
    """A run of requests that take turns, and the indices of both kinds; the others repeat the prompts of the fresh."""
    told: list[Told] = []
    for number in range(count):
        for kind in (fresh, other):
            told.append(Told(**{**vars(kind), "sent": float(len(told)), "prompt": f"p{number}"}))
    return run_of(told), frozenset(range(0, 2 * count, 2)), frozenset(range(1, 2 * count, 2))


def test_an_answer_cache_is_no_prefix_cache() -> None:
    run, fresh, repeats = in_turn(12, Told(0), Told(0, ttft=0.01))
    assert list(honesty.response_cache(run, Groups(fresh=fresh, repeats=repeats))) == []
    run, fresh, repeats = in_turn(12, Told(0), Told(0, ttft=0.01, tpot=0.001))
    assert list(honesty.response_cache(run, Groups(fresh=fresh, repeats=repeats))) == [
        Accusation(
            "response_cache",
            "answers to 12 repeated prompts came 10.0 times as fast, 1.0 ms per token against 10.0 ms, "
            "which only a cache of answers explains",
        )
    ]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (Told(0), None),
        (Told(0, tpot=0.005), "2.0 times as fast, 5.0 ms per token against 10.0 ms"),
        (Told(0, ttft=0.02), "5.0 times as fast, 20.0 ms to the first token against 100.0 ms"),
        (Told(0, ttft=0.08, tpot=0.009), None),
    ],
)
def test_a_public_seed_is_no_faster(known: Told, words: str | None) -> None:
    run, fresh, others = in_turn(12, Told(0), known)
    found = list(honesty.tuned_to_seed(run, Groups(fresh=fresh, known=others)))
    sentence = f"prompts of the public seed were served {words} for prompts drawn in this run"
    assert found == ([Accusation("tuned_to_seed", sentence)] if words else [])


def test_failures_under_load_are_told_from_failures_always() -> None:
    alone = [Told(float(number)) for number in range(20)]
    together = [Told(100 + 0.001 * number, status=200 if number < 3 else 503) for number in range(20)]
    assert list(honesty.drops_under_load(run_of([*alone, *together]))) == [
        Accusation(
            "drops_under_load",
            "17 of 17 requests failed while more than 2 others were on their way, 0 of 23 otherwise",
        )
    ]
    always = [Told(each.sent, status=503) for each in [*alone, *together]]
    assert list(honesty.drops_under_load(run_of(always))) == []
    slow = [Told(each.sent, failure=honesty.UNFINISHED if each.status == 503 else None) for each in together]
    assert list(honesty.drops_under_load(run_of([*alone, *slow]))) == []


def test_health_only_near_probes_is_found() -> None:
    told = [Told(number * 0.5, status=200 if number % 2 else 503) for number in range(24)]
    probes = [500.0 + each.sent - 0.01 for each in told if each.status == 200]
    run = run_of(told)
    assert list(honesty.healthy_while_probed(run, probes)) == [
        Accusation(
            "healthy_while_probed",
            "12 of 12 requests failed when no health probe was near, 0 of 12 within 30 ms after one",
        )
    ]
    assert list(honesty.healthy_while_probed(run, [])) == []
    assert list(honesty.healthy_while_probed(run_of([Told(each.sent) for each in told]), probes)) == []


def test_connections_that_the_client_lets_go_are_no_reproach() -> None:
    def accusations(gap: float, *, streams: int | None = None, **how: Any) -> list[str]:
        told = [Told(gap * number, connected=number > 0 or not streams, **how) for number in range(6)]
        return [each.sentence for each in honesty.keep_alive(run_of(told, streams=streams))]

    gone = "requests found that the server had closed its idle connections, though no answer said connection: close"
    assert accusations(1.0) == [f"5 of 5 {gone}"]
    assert accusations(1.0, resent=True) == [f"5 of 5 {gone}"]
    assert accusations(1.0, streams=1) == [f"5 of 6 {gone}"]
    assert accusations(1.0, head="connection: close\r\n") == []
    assert accusations(5.0) == []  # the client itself does not use them again
    assert accusations(0.01) == []  # all at once, so each needs one of its own
    assert [*honesty.keep_alive(run_of([Told(float(number), connected=number == 0) for number in range(6)]))] == []


@pytest.mark.parametrize(
    ("created", "said"),
    [
        (1002, None),
        (1006, None),
        (2000, "the server's clock is 998 s ahead, by `created`"),
        (100, "the server's clock is 901 s behind, by `created`"),
    ],
)
def test_a_clock_may_be_off_by_seconds(created: int, said: str | None) -> None:
    run = run_of([Told(2.0, created=created)])
    assert [each.sentence for each in honesty.clock(run)] == ([said] if said else [])


def test_the_same_answer_to_the_same_prompt_is_not_canned() -> None:
    same = run_of([Told(float(number), prompt="p", first=7) for number in range(6)])
    assert list(honesty.canned(same)) == []
    two_alike = run_of([Told(float(number), first=7 if number < 2 else 0) for number in range(6)])
    assert list(honesty.canned(two_alike)) == []
    canned = run_of([Told(float(number), first=7) for number in range(6)])
    assert list(honesty.canned(canned)) == [
        Accusation("canned_tokens", "6 of 6 prompts got an answer that is, token by token, also another prompt's")
    ]


def test_text_is_held_against_the_models_tokenizer() -> None:
    run = run_of([Told(0.0), Told(1.0)])
    assert list(honesty.tokenizer(run, lambda ids: "x" * len(ids))) == []
    assert list(honesty.tokenizer(run, lambda ids: "y" * len(ids))) == [
        Accusation("tokenizer", "the text of 2 of 2 answers is not that of their token ids, as in 'xxxxxxxxxxxxxxxx'")
    ]


def test_bursts_of_a_few_answers_are_the_machines() -> None:
    held = Told(0.0, ttft=0.3, tpot=0.0)
    some = run_of([Told(float(number), tpot=0.0 if number < 2 else 0.01) for number in range(6)])
    assert list(honesty.answers(some)) == []
    assert [each.name for each in honesty.answers(run_of([held]))] == ["held_back"]
