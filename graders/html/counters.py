"""What servers and GPU exporters said of themselves over time, as lines of a plot. Pure.

Place: `evidence` makes these of each file of scrapes as it reads it, `telemetry` plots them. Limits: vLLM's names and
DCGM's; what a file does not tell is left out.
"""

import math
from collections.abc import Iterable, Mapping

import msgspec

from graders.html.loads import Points
from graders.metrics import VLLM, Labels, Metrics
from graders.sampler import brief
from graders.scrape import Round, Scrapes

SERVER = frozenset(filter(None, (VLLM.running, VLLM.waiting, VLLM.kv_usage, VLLM.preemptions)))
GPU = frozenset(f"DCGM_FI_DEV_{name}" for name in ("GPU_UTIL", "FB_USED", "POWER_USAGE", "GPU_TEMP"))
NAMES = SERVER | GPU
MOST_DEVICES = 4
"""A plot shows no more lines of one kind."""


class Trace(msgspec.Struct, frozen=True):
    """One metric over time: its name, whose it is ("" for a server's only replica), and its points.

    Moments are in seconds on the machine's monotonic clock.
    """

    metric: str
    of: str
    points: Points


class Counters(msgspec.Struct, frozen=True):
    """What one file of scrapes tells, by the name of the file without what all such files end with."""

    name: str
    traces: tuple[Trace, ...]

    def told(self, metric: str) -> tuple[Trace, ...]:
        """The lines of a metric; of many, the first few."""
        return tuple(trace for trace in self.traces if trace.metric == metric)[:MOST_DEVICES]


def counters_of(name: str, scrapes: Scrapes) -> Counters:
    """The lines of everything that is shown."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    rounds = (scrapes.before, *scrapes.during, scrapes.after)
    for moment, replica, metrics in _looks(rounds):
        for metric in NAMES & metrics.values.keys():
            for of, value in _values(metric, replica, metrics.values[metric]):
                found.setdefault((metric, of), []).append((moment, value))
    owners = {of for _, of in found}
    return Counters(
        name,
        tuple(
            Trace(metric, "" if len(owners) == 1 else of, tuple(sorted(points)))
            for (metric, of), points in sorted(found.items())
            if len(points) > max(2, len(rounds) / 2)  # some metrics are only told before a load and after it
        ),
    )


def _looks(rounds: Iterable[Round]) -> Iterable[tuple[float, str, Metrics]]:
    for scrape in (scrape for scrapes in rounds for scrape in scrapes):
        try:
            metrics = Metrics.parse(brief(scrape.text, NAMES))
        except ValueError:
            continue
        yield (scrape.asked + scrape.answered) / 2, scrape.replica, metrics


def _values(metric: str, replica: str, values: Mapping[Labels, float]) -> Iterable[tuple[str, float]]:
    """Of each GPU its own, of a server the sum over its engines."""
    if metric in SERVER:
        told = {replica: sum(values.values())}
    else:
        told = {f"{replica}, GPU {dict(labels).get('gpu', '?')}": value for labels, value in values.items()}
    return [(of, value) for of, value in told.items() if math.isfinite(value)]
