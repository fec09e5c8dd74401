"""Small facts of lab 03, one set for each check, as a submission leaves them that does what is asked.

Place: tests of the lab's judges and of its re-scoring. Limits: made by hand; those of real runs are in their records.
"""

from pathlib import Path
from typing import Any

import msgspec

from graders.bounds import Disagreement
from graders.budget import Budget, Used
from graders.diagnosis import Figures
from graders.judging import Facts
from graders.lab import Lab
from vllm_lab.availability_facts import Loss, Upgrade
from vllm_lab.caches_facts import KvCache, PrefixCache, is_shared
from vllm_lab.counters_facts import Counters, Edges
from vllm_lab.loads import Alone, Answered, Load
from vllm_lab.objective_facts import HighestLoad, Paced, ServiceLevel
from vllm_lab.performance_facts import Streams, Throughput
from vllm_lab.start_facts import Start

LAB = Lab.load(Path(__file__).resolve().parents[2] / "labs/03_vllm")
CALM = Figures(
    send_lag=0.0,
    loop_lag=0.0,
    cpu_share=0.1,
    waited_share=0.0,
    planned_rate=None,
    achieved_rate=None,
    planned_dispersion=None,
    achieved_dispersion=None,
    coalesced=0.0,
    refused_by_limit=0,
    ran_out=0,
    floor=None,
    window=2.0,
    connections=1024,
    gaps=63,
)
LATE = msgspec.structs.replace(CALM, send_lag=1.0)
LATE_WORDS = (
    "the client was the bottleneck: 1 % of the requests were 1000.0 ms late or more, where 20.0 ms are allowed; free "
    "cores for it, or use fewer streams"
)
ALONE = Alone(ttft=0.01, tpot=0.002, rate=10.0)


def good(index: int, ttft: float = 0.1, tpot: float | None = 0.005) -> Answered:
    return Answered(index, good=True, complete=True, ttft=ttft, tpot=tpot)


def broken(index: int) -> Answered:
    return Answered(index, good=False, complete=False, ttft=None, tpot=None)


def held(index: int) -> Answered:
    return Answered(index, good=False, complete=True, ttft=None, tpot=None)


def load(*answers: Answered, tokens: int = 1000, client: Figures = CALM) -> Load:
    bad = any(not each.good for each in answers)
    return Load(answers=answers, tokens=tokens, client=client, complaint="it broke" if bad else None)


def loads(n: int, *, late: int = 0, failed: int = 0, client: Figures = CALM) -> Load:
    """So many requests, of which some begin late and some fail, evenly among the others."""
    kinds = ["late"] * late + ["failed"] * failed
    wrong = dict(zip(range(0, n, max(1, n // max(1, len(kinds)))), kinds, strict=False))
    ways = {"late": lambda index: good(index, ttft=9.0), "failed": broken}
    return load(*(ways.get(wrong.get(index, ""), good)(index) for index in range(n)), client=client)


def paced(load: Load, *, change: float = 1.0) -> Paced:
    """A load after which the starter serves so many times as much as before."""
    after = msgspec.structs.replace(ALONE, rate=ALONE.rate * change)
    return Paced(before=ALONE, after=after, rate=20.0, load=load)


def pair(ratio: float, client: Figures = CALM) -> dict[str, Load]:
    return {
        "baseline": load(good(0), tokens=100),
        "submission": load(good(0), tokens=round(100 * ratio), client=client),
    }


def turns(gain: float, n: int = 20) -> Load:
    """Prompts in turns, of which those that begin alike are answered so many times sooner."""
    return load(*(good(index, ttft=0.1 if is_shared(index) else 0.1 * gain) for index in range(n)))


FACTS: dict[str, Facts] = {
    "resources_within_budget": Budget(
        foreign=(),
        uses=(
            Used("replicas", 2.0, "budget_replicas"),
            Used("GiB of memory a pod", 0.0, "budget_memory_gib", as_given=True),
            Used("MiB of KV cache", 256.0, "budget_kv_mib"),
        ),
    ),
    "server_comes_up": Start(seconds=21.4),
    "streams_are_correct": Streams(load=loads(40), same=40, both=40),
    "counters_agree": Counters(
        alone=ALONE,
        load=loads(40),
        disagreements=(),
        agreed=("finished_requests", "mean_ttft"),
        histograms=(
            Edges(name="ttft", of="ttft", edges=(0.001, 0.5)),
            Edges(name="tpot", of="tpot", edges=(0.025,)),
            Edges(name="e2e", of="answer", edges=(1.5,)),
        ),
        unreadable=None,
    ),
    "throughput": Throughput(streams=8, pairs=tuple(pair(ratio) for ratio in (5.9, 6.0, 6.1, 6.2, 6.3, 6.4)), gpu=None),
    "service_level_objective": ServiceLevel(parts=(paced(loads(60)), paced(loads(60, late=2)))),
    "highest_load": HighestLoad(
        rungs=((3.0, paced(loads(60))), (9.0, paced(loads(60, late=50))), (6.0, paced(loads(60))))
    ),
    "kv_cache": KvCache(
        streams=16, tokens=320, load=loads(40), flows=(1.5,) * 20, answers=40, preemptions=0.0, unread=()
    ),
    "prefix_cache": PrefixCache(shared=1536, load=turns(4.0), repeated=15360, hits=15000.0),
    "rolling_upgrade": Upgrade(
        load=loads(20), requests=20, failed=0, unanswered=0, seconds=40.0, took=31.0, unfinished=None, ending=False
    ),
    "replica_loss": Loss(load=loads(60), pods=2, seconds=12.0),
}
"""By check."""


def but(check: str, **changes: Any) -> Facts:
    return msgspec.structs.replace(FACTS[check], **changes)


DISAGREEMENTS = (Disagreement("mean_ttft", "expected 1, observed 2"),)
