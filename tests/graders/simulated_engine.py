"""A simulated engine that computes in steps and tells the truth, with its client, on a clock of its own.

Place: `test_honest_runs` holds the cross-checks against many of them. Limits: one engine; what it computes is how long
a step takes, nothing else. It takes requests in between steps and sets its gauges at the end of each, as vLLM does.
"""

import bisect
import random
from dataclasses import dataclass, field

from graders.ledger import Ledger, unseen_seconds
from graders.metrics import VLLM
from graders.sampler import Scrape
from graders.scrape import Scrapes
from tests.graders.engine_metrics import EngineMetrics

PROMPT = 64


@dataclass(frozen=True)
class Setting:
    """One engine and its load.

    `rate` requests per second (Poisson) or `streams` in a closed loop; `seats` sequences at most in a step; a step
    takes `base` seconds, `prefill` for each prompt token in it and `decode` for each sequence; each event reaches the
    client `path` seconds later on average, and one in a hundred `stall` seconds later.
    """

    rate: float = 0.0
    streams: int = 0
    requests: int = 80
    tokens: int = 24
    seats: int = 8
    base: float = 0.015
    prefill: float = 0.0004
    decode: float = 0.002
    path: float = 0.003
    stall: float = 0.05


@dataclass
class Flight:
    """A request: when it was sent and when it came to the engine; when each token left, and when the client read it."""

    sent: float
    came: float
    left: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)


class Simulation:
    """Runs a setting to its end."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting, self.source = setting, random.Random(seed)
        self.engine = EngineMetrics()
        self.flights: list[Flight] = []
        self.states: list[tuple[float, int, int]] = [(-1.0, 0, 0)]
        self.finished: list[float] = []
        self.now = 0.0
        self.todo = sorted(self._arrivals(), reverse=True)

    def _arrivals(self) -> list[float]:
        if self.setting.streams:
            return [0.0] * self.setting.streams
        time, times = 0.0, []
        for _ in range(self.setting.requests):
            time += self.source.expovariate(self.setting.rate)
            times.append(time)
        return times

    def _delay(self) -> float:
        stalled = self.source.random() < 0.01
        return self.source.expovariate(1 / self.setting.path) + stalled * self.setting.stall

    def run(self) -> tuple[Scrapes, Ledger]:
        """What was scraped, and what the client knows."""
        before = self._whole(0)
        waiting: list[Flight] = []
        running: list[Flight] = []
        while self.todo or waiting or running:
            if not waiting and not running:
                self.now = max(self.now, self.todo[-1])
            waiting += self._come()
            fresh = waiting[: max(0, self.setting.seats - len(running))]
            del waiting[: len(fresh)]
            running += fresh
            if running:
                running = self._step(running, fresh)
            self.states.append((self.now, len(running), len(waiting)))
        during = self._passing()
        return Scrapes(before=(before,), during=during, after=(self._whole(len(during) + 1),)), self._ledger()

    def _come(self) -> list[Flight]:
        came = []
        while self.todo and self.todo[-1] <= self.now:
            sent = self.todo.pop()
            came.append(Flight(sent, sent + min(self._delay(), max(0.0, self.now - sent))))
        self.flights += came
        return came

    def _step(self, running: list[Flight], fresh: list[Flight]) -> list[Flight]:
        setting = self.setting
        work = setting.base + setting.prefill * PROMPT * len(fresh) + setting.decode * len(running)
        self.now += work * self.source.lognormvariate(0.0, 0.2)
        for _ in fresh:
            self.engine.admit(PROMPT)
        if len(running) > len(fresh):
            self.engine.step(len(running) - len(fresh))
        for each in running:
            each.left.append(self.now)
            each.read.append(max(self.now + self._delay(), each.read[-1] if each.read else 0.0))
        for each in running:
            if len(each.left) == setting.tokens:
                self._end(each)
        return [each for each in running if len(each.left) < setting.tokens]

    def _end(self, each: Flight) -> None:
        first, last = each.left[0], each.left[-1]
        tpot = (last - first) / (len(each.left) - 1)
        self.engine.finish(
            prompt=PROMPT, tokens=len(each.left), ttft=first - each.came, e2e=last - each.came, tpot=tpot
        )
        self.finished.append(self.now)
        if self.setting.streams and len(self.flights) + len(self.todo) < self.setting.requests:
            bisect.insort(self.todo, each.read[-1], key=lambda time: -time)

    def _whole(self, number: int) -> Scrape:
        return Scrape(replica="a", round=number, asked=0.0, answered=0.0, status=200, text=self.engine.text())

    def _passing(self) -> tuple[tuple[Scrape, ...], ...]:
        found: list[tuple[Scrape, ...]] = []
        moment = self.source.expovariate(2.0)
        while moment < self.now:
            place = bisect.bisect_right(self.states, moment, key=lambda state: state[0]) - 1
            _, running, waiting = self.states[place]
            finished = bisect.bisect_right(self.finished, moment)
            text = f"{VLLM.running} {running}\n{VLLM.waiting} {waiting}\n{VLLM.finished} {finished}\n"
            scrape = Scrape(replica="a", round=len(found) + 1, asked=moment, answered=moment, status=200, text=text)
            found.append((scrape,))
            moment += self.source.expovariate(2.0)
        return tuple(found)

    def _ledger(self) -> Ledger:
        flights, tokens = self.flights, self.setting.tokens
        gaps = [later - sooner for each in flights for sooner, later in zip(each.read, each.read[1:], strict=False)]
        ttft = tuple(each.read[0] - each.sent for each in flights)
        return Ledger(
            finished=len(flights),
            prompt_tokens=PROMPT * len(flights),
            output_tokens=tokens * len(flights),
            open=0,
            open_prompt_tokens=0,
            open_output_tokens=0,
            usage_prompt_tokens=PROMPT * len(flights),
            usage_output_tokens=tokens * len(flights),
            cached_tokens=0,
            ttft=ttft,
            e2e=tuple(each.read[-1] - each.sent for each in flights),
            tpot=tuple((each.read[-1] - each.read[0]) / (tokens - 1) for each in flights),
            later_tokens=(tokens - 1) * len(flights),
            unseen=unseen_seconds(ttft, gaps),
            flights=tuple((each.sent, each.read[-1]) for each in flights),
        )
