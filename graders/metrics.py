"""What a server says of itself in Prometheus' text format: values, histograms, and what changed between two scrapes.

Place: `crosscheck` compares these with what the client saw. Pure. Limits: counters, gauges and classic histograms; a
value is found by the name of its sample (`..._total`, `..._bucket`), whatever its family is called, because vLLM's
histogram `iteration_tokens_total` ends like a counter. Series of one name are added over their labels, which for vLLM
are `model_name` and `engine`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import msgspec
from prometheus_client.parser import text_string_to_metric_families

STARTED = "process_start_time_seconds"
"""When the process that answers began, in seconds since the epoch, as every Prometheus client library tells it."""

Labels = tuple[tuple[str, str], ...]


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of server calls what is compared; None for what it does not tell.

    Counters count since the start of the process: requests `finished` for whatever reason, tokens, pre-emptions. Prefix
    cache queries and hits are in tokens. `running`, `waiting` and `kv_usage`, which is a share, are gauges, `ttft`,
    `tpot`, `e2e` histograms in seconds with one observation per request; `step_tokens` has one per step of the engine:
    tokens computed in it. The label `source` of `prompt_sources` says where prompt tokens came from.
    """

    finished: str
    prompt_tokens: str
    generation_tokens: str
    running: str
    waiting: str
    kv_usage: str | None = None
    preemptions: str | None = None
    prefix_queries: str | None = None
    prefix_hits: str | None = None
    prompt_sources: str | None = None
    source_computed: str = "local_compute"
    source_cached: str = "local_cache_hit"
    ttft: str | None = None
    tpot: str | None = None
    e2e: str | None = None
    request_prompt_tokens: str | None = None
    request_generation_tokens: str | None = None
    step_tokens: str | None = None

    @property
    def brief(self) -> tuple[str, ...]:
        """The few samples that rounds during the load keep: gauges, and counters that tell whether it works."""
        told = (self.kv_usage, self.preemptions)
        return (self.finished, self.generation_tokens, self.running, self.waiting, *filter(None, told), STARTED)

    @property
    def histograms(self) -> tuple[str, ...]:
        """The histograms that it has."""
        every = (
            self.ttft,
            self.tpot,
            self.e2e,
            self.request_prompt_tokens,
            self.request_generation_tokens,
            self.step_tokens,
        )
        return tuple(name for name in every if name)


# Names and meanings as in vllm/v1/metrics/loggers.py of vLLM 0.32.0.
VLLM = Names(
    finished="vllm:request_success_total",
    prompt_tokens="vllm:prompt_tokens_total",
    generation_tokens="vllm:generation_tokens_total",
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    kv_usage="vllm:kv_cache_usage_perc",
    preemptions="vllm:num_preemptions_total",
    prefix_queries="vllm:prefix_cache_queries_total",
    prefix_hits="vllm:prefix_cache_hits_total",
    prompt_sources="vllm:prompt_tokens_by_source_total",
    ttft="vllm:time_to_first_token_seconds",
    tpot="vllm:request_time_per_output_token_seconds",
    e2e="vllm:e2e_request_latency_seconds",
    request_prompt_tokens="vllm:request_prompt_tokens",
    request_generation_tokens="vllm:request_generation_tokens",
    step_tokens="vllm:iteration_tokens_total",
)
"""vLLM 0.32."""


class Histogram(msgspec.Struct, frozen=True):
    """Observations by bucket: `below[i]` of them are at most `edges[i]`, the last edge is infinite."""

    edges: tuple[float, ...]
    below: tuple[float, ...]
    count: float
    sum: float

    @property
    def mean(self) -> float | None:
        """Mean of the observations, None without any."""
        return self.sum / self.count if self.count else None

    def faults(self) -> list[str]:
        """Why no set of non-negative observations can have given this; empty when one can.

        An observation in the bucket from a to b adds between a and b to the sum, so the sum lies between those of the
        buckets' lower and upper edges.
        """
        said = []
        if any(map(math.isnan, self.edges)):
            return ["an edge of its buckets is not a number"]
        if not self.edges or self.edges[-1] != math.inf:
            said.append("it has no bucket +Inf")
        for edge, (lower, upper) in zip(self.edges[1:], pairwise(self.below), strict=True):
            if upper < lower:
                said.append(f"{upper:g} observations are at most {edge:g}, but {lower:g} at most a smaller edge")
        if any(value < 0 or math.isnan(value) for value in (*self.below, self.count)):
            said.append("it counts less than nothing")
        if self.below and self.below[-1] != self.count:
            said.append(f"its buckets hold {self.below[-1]:g} observations, its count says {self.count:g}")
        return said or self._sum_faults()

    def _sum_faults(self) -> list[str]:
        inside = [self.below[0], *(upper - lower for lower, upper in pairwise(self.below))]
        floors = (0.0, *self.edges[:-1])
        least = sum(n * floor for n, floor in zip(inside, floors, strict=True))
        most = sum(n * edge for n, edge in zip(inside, self.edges, strict=True) if n)
        slack = 1e-9 * max(1.0, least)
        if least - slack <= self.sum <= most + slack:
            return []
        return [f"its sum is {self.sum:g}, its buckets allow {least:g} to {most:g}"]


def _edge(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True)
class Metrics:
    """The samples of one scrape: values by name and labels, and which names only ever grow.

    `started` is when its process began (seconds since the epoch), None where it does not say.
    """

    values: Mapping[str, Mapping[Labels, float]]
    growing: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads Prometheus' text format; raises ValueError where it is none."""
        values: dict[str, dict[Labels, float]] = {}
        growing: set[str] = set()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                if labels in values.setdefault(sample.name, {}):
                    raise ValueError(f"{sample.name} comes twice with the same labels")
                values[sample.name][labels] = sample.value
                if family.type in ("counter", "histogram"):
                    growing.add(sample.name)
        return cls(values, frozenset(growing))

    @property
    def started(self) -> float | None:
        """When its process began, in seconds since the epoch."""
        return self.total(STARTED)

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of the samples of that name that have these labels, None when there are none."""
        found = [
            value
            for key, value in self.values.get(name, {}).items()
            if all(dict(key).get(label) == wanted for label, wanted in labels.items())
        ]
        return sum(found) if found else None  # not fsum, which raises where a server tells infinities

    def histogram(self, name: str) -> Histogram | None:
        """The histogram of that name, None where there is none; series with other labels are added by edge."""
        count, total = self.total(f"{name}_count"), self.total(f"{name}_sum")
        if count is None or total is None:
            return None
        below: dict[float, float] = {}
        for key, value in self.values.get(f"{name}_bucket", {}).items():
            edge = _edge(dict(key).get("le", ""))
            below[edge] = below.get(edge, 0.0) + value
        edges = tuple(sorted(below))
        return Histogram(edges, tuple(below[edge] for edge in edges), count, total)


@dataclass(frozen=True)
class Change:
    """What happened at one replica between two scrapes.

    `by` has the differences; series that came up in between count from zero. `fell` names counters that went down or
    away though the process is the same, `restarted` says that it is not; then the differences mean nothing.
    """

    by: Metrics
    fell: tuple[str, ...]
    restarted: bool


def change(before: Metrics, after: Metrics) -> Change:
    """What happened between two scrapes of the same replica."""
    differences: dict[str, dict[Labels, float]] = {}
    fell = []
    for name in before.values.keys() | after.values.keys():
        was, now = before.values.get(name, {}), after.values.get(name, {})
        differences[name] = {key: now.get(key, 0.0) - was.get(key, 0.0) for key in was.keys() | now.keys()}
        if name in before.growing | after.growing and any(value < 0 for value in differences[name].values()):
            fell.append(name)
    restarted = before.started is not None and after.started is not None and after.started != before.started
    growing = before.growing | after.growing
    return Change(Metrics(differences, growing), () if restarted else tuple(sorted(fell)), restarted)


def merge(several: Sequence[Histogram]) -> Histogram | None:
    """The sum of several replicas' histograms over the edges that all of them have, None of none."""
    if not several:
        return None
    shared = sorted(set.intersection(*(set(each.edges) for each in several)))
    below = [sum(each.below[each.edges.index(edge)] for each in several) for edge in shared]
    count, total = sum(each.count for each in several), sum(each.sum for each in several)
    return Histogram(tuple(shared), tuple(below), count, total)
