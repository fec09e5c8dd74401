"""Whether the server's own metrics agree with what the client saw, and show what an operator must see.

Place: test_vllm.py measures with it. Limits: one replica, between two moments at which it is idle.
"""

import math

from clusters.api import Progress
from graders import arrivals
from graders.check import Check
from graders.metrics import VLLM, Metrics
from graders.rubric import Finding
from graders.samples import Run
from graders.stats import Outcome
from vllm_lab.bench import OUTPUT_TOKENS, SEEDS, Bench, complaint, excuse, within
from vllm_lab.performance import Objective, objective_of

EVERY_SECONDS = 0.2
"""Mean pause between two looks at the gauges."""
FAR = 5.0
"""An edge so many times above a bound still tells a request that is late."""
TIMED = ("mean_", "buckets_", "littles_law")
"""Comparisons of times, which a client that was late itself cannot make."""


def agree(check: Check, bench: Bench, progress: Progress, number: int) -> Finding:
    """Compares everything that server and client both count, under Poisson load that the starter could serve."""
    say, n = within(progress, "counters"), int(check.threshold("counters_requests"))
    objective = objective_of(check, bench.alone_last(say))
    rate = check.threshold("counters_load_factor") * objective.capacity

    def measure() -> Run:
        schedule = arrivals.poisson(rate, n / rate, seed=SEEDS.getrandbits(32))
        return bench.run("submission", f"counters-{number}", schedule, say, window=n / rate)

    observed = bench.observe(f"counters-{number}", say, measure, every=EVERY_SECONDS)
    found, limits = observed.found, observed.run.client_limits()
    blind = blind_spots(observed.scrapes.after[0].text, objective)
    said = [f"{each.name}: {each.sentence}" for each in found.disagreements]
    sure = [each for each in found.disagreements if not (limits and each.name.startswith(TIMED))]
    verdict: Outcome = "failed" if sure or blind else "inconclusive" if said or not found.agreed else "passed"
    compared = len(found.agreed) + len({each.name for each in found.disagreements})
    told = f"{len(found.agreed)} of {compared} comparisons agree over {len(observed.run.measured)} answers"
    return Finding(
        expected=(
            "counters, gauges and histograms agree with what the client counted, and the histograms of TTFT, TPOT and "
            f"whole answers have an edge at their bound ({objective.words()}) or up to {FAR:g} times above"
        ),
        observed="; ".join([told, *said[:2], *blind]) + complaint(observed.run) + excuse(limits if said else []),
        verdict=verdict,
        unit="share of comparisons",
        value=len(found.agreed) / compared if compared else None,
        n=compared,
        hint=None if verdict == "passed" else "blind" if blind else "disagree",
        evidence=observed.evidence,
    )


def blind_spots(text: str, objective: Objective) -> list[str]:
    """Histograms in which a request that is too late looks like one that is in time, a sentence each."""
    try:
        metrics = Metrics.parse(text)
    except ValueError as error:
        return [f"the metrics cannot be read: {error}"]
    answer = objective.ttft + OUTPUT_TOKENS * objective.tpot
    said = []
    for name, bound in ((VLLM.ttft, objective.ttft), (VLLM.tpot, objective.tpot), (VLLM.e2e, answer)):
        histogram = metrics.histogram(name or "")
        edges = [edge for edge in histogram.edges if math.isfinite(edge)] if histogram else []
        if not any(bound <= edge <= FAR * bound for edge in edges):
            last = f"its last edge is {edges[-1]:g} s" if edges else "it has none"
            said.append(f"{name} has no edge from {bound:.3g} to {FAR * bound:.3g} s: {last}")
    return said
