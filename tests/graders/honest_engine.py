"""An honest engine, its client, and ways to change what it says: twenty requests, one each half second.

Place: tests of the cross-checks. Limits: one request at a time; the client sees everything `PATH` seconds later.
"""

import re
from collections.abc import Callable, Sequence

import msgspec

from graders.crosscheck import Crosscheck, compare
from graders.ledger import Ledger
from graders.metrics import VLLM
from graders.sampler import Scrape
from graders.scrape import Scrapes
from tests.graders.engine_metrics import EngineMetrics

PATH = 0.004
"""Seconds by which the client of these tests sees everything later than the server."""
PROMPT, TOKENS, TTFT, TPOT = 64, 32, 0.05, 0.02


def times(number: int) -> list[float]:
    """When the tokens of the number-th request leave the server, in seconds after it came."""
    first = TTFT * (1 + number % 5)
    return [first + place * TPOT for place in range(TOKENS)]


def scrape(text: str, replica: str = "a", *, number: int = 0, at: float = 0.0) -> Scrape:
    return Scrape(replica=replica, round=number, asked=at - 0.001, answered=at + 0.001, status=200, text=text)


def books(count: int = 20, **changes: object) -> Ledger:
    """What the client knows of that many requests, one each half second."""
    flights = [(0.5 * number, 0.5 * number + times(number)[-1] + PATH) for number in range(count)]
    ledger = Ledger(
        finished=count,
        prompt_tokens=count * PROMPT,
        output_tokens=count * TOKENS,
        open=0,
        open_prompt_tokens=0,
        open_output_tokens=0,
        usage_prompt_tokens=count * PROMPT,
        usage_output_tokens=count * TOKENS,
        cached_tokens=count * 16,
        ttft=tuple(times(number)[0] + PATH for number in range(count)),
        e2e=tuple(times(number)[-1] + PATH for number in range(count)),
        tpot=(TPOT,) * count,
        later_tokens=count * (TOKENS - 1),
        unseen=0.0,
        flights=tuple(flights),
    )
    return msgspec.structs.replace(ledger, **changes)


def served(engine: EngineMetrics, count: int = 20) -> EngineMetrics:
    for number in range(count):
        engine.serve(PROMPT, times(number), cached=16)
    return engine


def gauges(ledger: Ledger, rounds: int = 40, part: float = 1.0) -> list[list[Scrape]]:
    """Rounds in passing whose gauges show that part of what the client has in flight."""
    found = []
    for number in range(rounds):
        moment = 0.13 + 0.25 * number
        running = part * ledger.in_flight(moment)
        finished = 3 + sum(end - PATH <= moment for _, end in ledger.flights)
        text = f"{VLLM.running} {running}\n{VLLM.waiting} 0\n{VLLM.finished} {finished}\n"
        found.append([scrape(text, number=number, at=moment)])
    return found


def around(before: Sequence[Scrape], after: Sequence[Scrape], during: Sequence[Sequence[Scrape]] = ()) -> Scrapes:
    return Scrapes(before=tuple(before), during=tuple(tuple(each) for each in during), after=tuple(after))


def judged(
    *,
    client: Ledger | None = None,
    always: Callable[[str], str] = str,
    later: Callable[[str], str] = str,
    during: Sequence[Sequence[Scrape]] = (),
) -> Crosscheck:
    """Both ends of an engine that had served three requests before, told through a lie, at the later end another."""
    engine = served(EngineMetrics(), 3)
    before = scrape(always(engine.text()))
    after = scrape(later(always(served(engine).text())))
    return compare(VLLM, around([before], [after], during), client or books(), path_seconds=0.02)


def number(name: str, change: Callable[[float], float]) -> Callable[[str], str]:
    """A lie: the samples of one name, or of those that a pattern with labels takes, changed."""
    line = re.compile(rf"^({name}{'' if '{' in name else '(?:{.*})?'}) (\S+)$", re.MULTILINE)
    return lambda text: line.sub(lambda found: f"{found[1]} {change(float(found[2]))}", text)


def scaled(name: str, factor: float) -> Callable[[str], str]:
    return number(name, lambda value: value * factor)
