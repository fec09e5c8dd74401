"""Servers that each lie in one way, on top of the honest stub: one process, one port for each.

    python -m tests.graders.liars TTFT TPOT

Place: `test_liars` examines each of them and says what it must be accused of; this says their ports by name on standard
output, as JSON. On the port of the honest stub the field `stub` of a request asks for a lie of that answer alone. A few
here do not lie, but could be taken for liars. Limits: each lies all the time, and about nothing else.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from graders import workload
from tests.graders.engine_metrics import EngineMetrics
from tests.graders.lying_answers import ANSWERS, FAILURES, refuse
from tests.graders.stub_server import Answer, Request, Stub
from tests.graders.stub_wire import Wire, start

KNOWN_SEED = 1
"""What the prompts are drawn from that everybody knows."""


@dataclass
class AnswerLiar(Stub):
    """Lies in every answer; the honest one where a request asks for it."""

    lie: str = "honest"

    def answer(self, wire: Wire, request: Request) -> None:
        name = request.fields.get("stub", self.lie)
        (ANSWERS.get(name) or FAILURES[name])(self, wire, request).begin()


@dataclass
class ResponseCache(Stub):
    """A prompt that was answered before is answered from memory, ten times as fast."""

    known: set[int] = field(default_factory=set)

    def answer(self, wire: Wire, request: Request) -> None:
        answer = Answer(self, wire, request)
        if request.key in self.known:
            answer.steps = [(moment / 10, size) for moment, size in answer.steps]
        self.known.add(request.key)
        answer.begin()


@dataclass
class FirstSeedOnly(Stub):
    """Fast for the prompts that everybody knows, three times as slow for all others."""

    known: set[tuple[int, ...]] = field(default_factory=set)

    def answer(self, wire: Wire, request: Request) -> None:
        if not self.known:
            self.known = known_prompts(len(request.prompt))
        answer = Answer(self, wire, request)
        if tuple(request.prompt) not in self.known:
            answer.steps = [(3 * moment, size) for moment, size in answer.steps]
        answer.begin()


def known_prompts(tokens: int) -> set[tuple[int, ...]]:
    requests = workload.completions(
        seed=KNOWN_SEED, count=300, ids=IDS, prompt_tokens=tokens, output_tokens=1, model="stub"
    )
    return {tuple(json.loads(each.body)["prompt"]) for each in requests}


IDS = range(100, 8000)
"""Token ids of prompts."""


@dataclass
class DropsUnderLoad(Stub):
    """Refuses what comes while three are running."""

    def answer(self, wire: Wire, request: Request) -> None:
        if self.running < 3:
            super().answer(wire, request)
        else:
            refuse(wire)


@dataclass
class HealthyWhileProbed(Stub):
    """Serves for a moment after each probe."""

    probed: float = 0.0

    def get(self, wire: Wire, path: str) -> None:
        if path == "/health":
            self.probed = time.monotonic()
        super().get(wire, path)

    def answer(self, wire: Wire, request: Request) -> None:
        if time.monotonic() - self.probed < PROBED_SECONDS:
            super().answer(wire, request)
        else:
            refuse(wire)


PROBED_SECONDS = 0.04


class ClosingWire(Wire):
    """Promises to keep the connection, and closes it after each answer."""

    def free(self) -> None:
        super().free()
        self.close()


@dataclass
class ClosesConnections(Stub):
    wire: type[Wire] = ClosingWire


class HangingUpWire(Wire):
    """Closes a connection when a second request comes on it."""

    def read(self, data: bytes, received: float) -> None:
        if self.used:
            self.close()
        else:
            super().read(data, received)


@dataclass
class HangsUp(Stub):
    wire: type[Wire] = HangingUpWire


def changed(text: str, sample: str, change: Callable[[float], float]) -> str:
    """A scrape with the values of one sample changed."""
    line = re.compile(rf"^({re.escape(sample)}(?:{{.*}})?) (\S+)$", re.MULTILINE)
    return line.sub(lambda found: f"{found[1]} {change(float(found[2]))}", text)


@dataclass
class FrozenMetrics(Stub):
    """Says for ever what it said first."""

    first: str = ""

    def metrics(self) -> str:
        self.first = self.first or super().metrics()
        return self.first


@dataclass
class IdleGauges(Stub):
    """Never admits that a request is running."""

    def metrics(self) -> str:
        return changed(super().metrics(), "vllm:num_requests_running", lambda _: 0.0)


@dataclass
class FakedHistogram(Stub):
    """Its TTFT histogram has a sum that its own buckets do not allow."""

    def metrics(self) -> str:
        return changed(super().metrics(), "vllm:time_to_first_token_seconds_sum", lambda value: value / 100)


@dataclass
class CounterReset(Stub):
    """Has served before; its counters begin anew in between."""

    began: float = field(default_factory=time.time)
    fallen: bool = False

    def __post_init__(self) -> None:
        self.engine = EngineMetrics(started=self.began)
        for _ in range(200):
            self.engine.serve(8, [0.01, 0.02])

    def metrics(self) -> str:
        if len(self.truth) >= 30 and not self.fallen:
            self.fallen, self.engine = True, EngineMetrics(started=self.began)
        return super().metrics()


@dataclass
class CountsDouble(Stub):
    """Counts every generated token twice."""

    def metrics(self) -> str:
        return changed(super().metrics(), "vllm:generation_tokens_total", lambda value: 2 * value)


@dataclass
class CountsOthers(Stub):
    """Is not alone: as many requests of somebody else are among its own."""

    def count(self, answer: Answer) -> None:
        super().count(answer)
        super().count(answer)


@dataclass
class ClaimsHits(Stub):
    """Claims more prefix cache hits than there were queries."""

    def metrics(self) -> str:
        return changed(super().metrics(), "vllm:prefix_cache_hits_total", lambda _: 1000.0 * len(self.truth))


@dataclass
class FastClock(Stub):
    """Its clock runs twice as fast, so its histograms hold times that nobody can have seen."""

    def count(self, answer: Answer) -> None:
        received = answer.request.received
        answer.writes = [[received + 2 * (moment - received), size] for moment, size in answer.writes]
        super().count(answer)


@dataclass
class Flatters(Stub):
    """Its TPOT histogram is possible, and half of what is true."""

    def count(self, answer: Answer) -> None:
        first = answer.writes[0][0]
        answer.writes = [[first + (moment - first) / 2, size] for moment, size in answer.writes]
        super().count(answer)


@dataclass
class PosesAsGpu(Stub):
    """Shows the telemetry of a busy GPU, whatever it does."""

    labels: str = 'gpu="0",UUID="GPU-0",modelName="NVIDIA H100 80GB HBM3"'

    def metrics(self) -> str:
        readings = {
            "DCGM_FI_DEV_GPU_UTIL": 97,
            "DCGM_FI_DEV_POWER_USAGE": 512.5,
            "DCGM_FI_DEV_FB_USED": 61440,
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 123456789,
        }
        return super().metrics() + "".join(f"{name}{{{self.labels}}} {value}\n" for name, value in readings.items())


@dataclass
class SaysItSimulates(PosesAsGpu):
    """No liar: the same telemetry, marked as simulated."""

    labels: str = 'gpu="0",modelName="NVIDIA H100 80GB HBM3",simulated="true"'


@dataclass
class PrefixCache(Stub):
    """No liar: a prompt that came before needs half the time to its first token, and is counted as a hit."""

    known: set[int] = field(default_factory=set)
    hits: set[str] = field(default_factory=set)

    def answer(self, wire: Wire, request: Request) -> None:
        answer = Answer(self, wire, request)
        if request.key in self.known:
            self.hits.add(request.name)
            answer.steps = [(moment - self.ttft / 2, size) for moment, size in answer.steps]
        self.known.add(request.key)
        answer.begin()

    def cached(self, answer: Answer) -> int:
        return len(answer.request.prompt) // 2 if answer.request.name in self.hits else 0


SERVERS: dict[str, type[Stub]] = {
    "prefix_cache": PrefixCache,
    "says_it_simulates": SaysItSimulates,
    "response_cache": ResponseCache,
    "first_seed_only": FirstSeedOnly,
    "drops_under_load": DropsUnderLoad,
    "healthy_while_probed": HealthyWhileProbed,
    "closes_connections": ClosesConnections,
    "hangs_up": HangsUp,
    "frozen_metrics": FrozenMetrics,
    "idle_gauges": IdleGauges,
    "faked_histogram": FakedHistogram,
    "counter_reset": CounterReset,
    "counts_double": CountsDouble,
    "counts_others": CountsOthers,
    "claims_hits": ClaimsHits,
    "fast_clock": FastClock,
    "flatters": Flatters,
    "poses_as_gpu": PosesAsGpu,
}
"""Servers by name: two that do not lie, and those that do."""


if __name__ == "__main__":
    ttft, tpot = float(sys.argv[1]), float(sys.argv[2])
    stubs: dict[str, Stub] = {name: AnswerLiar(ttft, tpot, lie=name) for name in ANSWERS}
    stubs |= {name: kind(ttft, tpot) for name, kind in SERVERS.items()}
    start(stubs, json.dumps)
