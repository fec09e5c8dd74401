"""Whether the server's own metrics agree with what the client saw, and show what an operator must see.

Place: test_vllm.py measures with it; what it returns is judged in `counters_facts`. Limits: one replica, between two
moments at which it is idle.
"""

import math

from clusters.api import Progress, within
from graders import arrivals
from graders.check import Check
from graders.metrics import VLLM, Metrics
from graders.samples import Run
from vllm_lab.bench import SEEDS, Bench
from vllm_lab.counters_facts import Counters, Edges
from vllm_lab.loads import Load

EVERY_SECONDS = 0.2
"""Mean pause between two looks at the gauges."""


def agree(check: Check, bench: Bench, progress: Progress, number: int) -> Counters:
    """Compares everything that server and client both count, under Poisson load that the starter could serve."""
    say, n = within(progress, "counters"), int(check.threshold("counters_requests"))
    alone = bench.alone_last(say)
    rate = check.threshold("counters_load_factor") * alone.rate

    def measure() -> Run:
        seed = SEEDS.getrandbits(32)
        schedule = arrivals.poisson(rate, n / rate, seed=seed)
        return bench.run("submission", f"counters-{number}", schedule, say, window=n / rate, seed=seed)

    observed = bench.observe(f"counters-{number}", say, measure, every=EVERY_SECONDS)
    histograms, unreadable = edges(observed.scrapes.after[0].text)
    return Counters(
        alone=alone,
        load=Load.of(observed.run),
        disagreements=observed.found.disagreements,
        agreed=observed.found.agreed,
        left_out=tuple(observed.found.left_out),
        histograms=histograms,
        unreadable=unreadable,
        evidence=observed.evidence,
    )


def edges(text: str) -> tuple[tuple[Edges, ...], str | None]:
    """The edges of the three histograms, or why the metrics cannot be read."""
    try:
        metrics = Metrics.parse(text)
    except ValueError as error:
        return (), str(error)

    def finite(name: str | None) -> tuple[float, ...]:
        histogram = metrics.histogram(name or "")
        return tuple(edge for edge in histogram.edges if math.isfinite(edge)) if histogram else ()

    ttft, tpot, e2e = VLLM.ttft or "", VLLM.tpot or "", VLLM.e2e or ""
    return (
        Edges(name=ttft, of="ttft", edges=finite(ttft)),
        Edges(name=tpot, of="tpot", edges=finite(tpot)),
        Edges(name=e2e, of="answer", edges=finite(e2e)),
    ), None
