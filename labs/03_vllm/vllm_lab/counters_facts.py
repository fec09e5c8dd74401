"""What is measured of the server's own metrics, and how that is judged. Pure.

Place: `counters` measures these facts, judges.py names the judge. Limits: comparisons are made when it is measured, as
`graders.crosscheck` makes them; here it is judged what they come to.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from graders.bounds import Disagreement
from graders.judging import Facts, Thresholds
from graders.rubric import Finding
from graders.stats import Outcome
from vllm_lab.loads import OUTPUT_TOKENS, Alone, Load, complaint, excuse
from vllm_lab.objective_facts import Objective

FAR = 5.0
"""An edge so many times above a bound still tells a request that is late."""
TIMED = ("mean_", "buckets_", "littles_law")
"""Comparisons of times, which a client that was late itself cannot make."""


class Edges(msgspec.Struct, frozen=True, kw_only=True):
    """The finite edges of a histogram, ascending, and of what its bound is."""

    name: str
    of: Literal["ttft", "tpot", "answer"]
    edges: tuple[float, ...]


class Counters(Facts, frozen=True, kw_only=True):
    """What the starter does alone, the load, which comparisons agree, and the histograms at its end.

    `left_out` are names of comparisons that could not be made, `unreadable` is why there are no histograms, None where
    the metrics could be read.
    """

    alone: Alone
    load: Load
    disagreements: tuple[Disagreement, ...]
    agreed: tuple[str, ...]
    histograms: tuple[Edges, ...]
    unreadable: str | None
    left_out: tuple[str, ...] = ()


def judge_counters(facts: Counters, threshold: Thresholds) -> Finding:
    """Whether all that was compared agrees, and whether histograms tell late requests from others."""
    objective, limits = Objective.of(threshold, facts.alone), facts.load.limits()
    unreadable = [f"the metrics cannot be read: {facts.unreadable}"] if facts.unreadable is not None else []
    blind = unreadable or blind_spots(facts.histograms, objective)
    said = [f"{each.name}: {each.sentence}" for each in facts.disagreements]
    sure = [each for each in facts.disagreements if not (limits and each.name.startswith(TIMED))]
    verdict: Outcome = "failed" if sure or blind else "inconclusive" if said or not facts.agreed else "passed"
    compared = len(facts.agreed) + len({each.name for each in facts.disagreements})
    told = f"{len(facts.agreed)} of {compared} comparisons agree over {len(facts.load.answers)} answers"
    told += f"; not made: {', '.join(facts.left_out)}" if facts.left_out else ""
    return Finding(
        expected=(
            "counters, gauges and histograms agree with what the client counted, and the histograms of TTFT, TPOT and "
            f"whole answers have an edge at their bound ({objective.words()}) or up to {FAR:g} times above"
        ),
        observed="; ".join([told, *said[:2], *blind]) + complaint([facts.load]) + excuse(limits if said else []),
        verdict=verdict,
        unit="share of comparisons",
        value=len(facts.agreed) / compared if compared else None,
        n=compared,
        hint=None if verdict == "passed" else "blind" if blind else "disagree",
        bounds=objective.bounds,
    )


def blind_spots(histograms: Sequence[Edges], objective: Objective) -> list[str]:
    """Histograms in which a request that is too late looks like one that is in time, a sentence each."""
    answer = objective.ttft + OUTPUT_TOKENS * objective.tpot
    bounds, said = {"ttft": objective.ttft, "tpot": objective.tpot, "answer": answer}, []
    for each in histograms:
        bound = bounds[each.of]
        if not any(bound <= edge <= FAR * bound for edge in each.edges):
            last = f"its last edge is {each.edges[-1]:g} s" if each.edges else "it has none"
            said.append(f"{each.name} has no edge from {bound:.3g} to {FAR * bound:.3g} s: {last}")
    return said
