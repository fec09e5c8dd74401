"""Facts of lab 03 that fall short in one way each, with the verdict, the hint and the words that they come to.

Place: test_judges.py. Limits: as `facts_03_vllm`, of which each is a variation.
"""

import msgspec

from graders.budget import Used
from tests.labs.facts_03_vllm import (
    ALONE,
    DISAGREEMENTS,
    LATE,
    LATE_WORDS,
    broken,
    but,
    good,
    held,
    load,
    loads,
    paced,
    pair,
)
from tests.labs.shortfalls import Failure
from tests.labs.shortfalls_03_vllm_replicas import REPLICAS
from vllm_lab.counters_facts import Edges
from vllm_lab.gpu import GpuSeen
from vllm_lab.objective_facts import Paced

LATELY = msgspec.structs.replace(ALONE, limits=("it came late",))


FAILURES: dict[str, Failure] = {
    "a value that is not theirs": (
        "resources_within_budget",
        but("resources_within_budget", foreign=("engine.extraArgs",)),
        "failed",
        "not_yours",
        "engine.extraArgs is not yours to set",
    ),
    "more than is given": (
        "resources_within_budget",
        but(
            "resources_within_budget",
            uses=(Used("replicas", 3.0, "budget_replicas"), Used("MiB of KV cache", None, "budget_kv_mib")),
        ),
        "failed",
        "too_much",
        "3 replicas, where 2 are given; inf MiB of KV cache, where 256 are given",
    ),
    "no server at all": (
        "resources_within_budget",
        but(
            "resources_within_budget",
            uses=(Used("replicas", 0.0, "budget_replicas", least=1.0), Used("MiB of KV cache", 0.0, "budget_kv_mib")),
        ),
        "failed",
        "too_little",
        "0 replicas, where at least 1 is needed",
    ),
    **{
        f"a server that is {kind}": (
            "server_comes_up",
            but("server_comes_up", seconds=None, problem="it is not ready", kind=kind),
            "failed",
            kind,
            "it is not ready",
        )
        for kind in ("ending", "unready", "starting")
    },
    "an answer that broke off": (
        "streams_are_correct",
        but("streams_are_correct", load=load(good(0), broken(1))),
        "failed",
        "broken",
        "1 of 2 are complete, 0 came in bursts, 40 of 40 begin with the starter's token; most often: it broke",
    ),
    "answers in bursts": (
        "streams_are_correct",
        but("streams_are_correct", load=load(good(0), held(1))),
        "failed",
        "broken",
        "2 of 2 are complete, 1 came in bursts, 40 of 40 begin with the starter's token; most often: it broke",
    ),
    "no answers": (
        "streams_are_correct",
        but("streams_are_correct", load=load()),
        "failed",
        "broken",
        "0 of 0 are complete, 0 came in bursts, 40 of 40 begin with the starter's token",
    ),
    "other words": (
        "streams_are_correct",
        but("streams_are_correct", same=19),
        "failed",
        "other_words",
        "40 of 40 are complete, 0 came in bursts, 19 of 40 begin with the starter's token",
    ),
    "other words beside a late client": (
        "streams_are_correct",
        but("streams_are_correct", same=19, load=loads(2, client=LATE)),
        "inconclusive",
        "other_words",
        f"2 of 2 are complete, 0 came in bursts, 19 of 40 begin with the starter's token; {LATE_WORDS}",
    ),
    "counters that disagree": (
        "counters_agree",
        but("counters_agree", disagreements=DISAGREEMENTS, agreed=("finished_requests",)),
        "failed",
        "disagree",
        "1 of 2 comparisons agree over 40 answers; mean_ttft: expected 1, observed 2",
    ),
    "times that a late client cannot compare": (
        "counters_agree",
        but("counters_agree", disagreements=DISAGREEMENTS, load=loads(2, client=LATE)),
        "inconclusive",
        "disagree",
        f"2 of 3 comparisons agree over 2 answers; mean_ttft: expected 1, observed 2; {LATE_WORDS}",
    ),
    "nothing to compare": (
        "counters_agree",
        but("counters_agree", agreed=(), left_out=("mean_ttft", "littles_law")),
        "inconclusive",
        "disagree",
        "0 of 0 comparisons agree over 40 answers; not made: mean_ttft, littles_law",
    ),
    "a histogram that hides the tail": (
        "counters_agree",
        but("counters_agree", histograms=(Edges(name="ttft", of="ttft", edges=(0.1,)),)),
        "failed",
        "blind",
        "2 of 2 comparisons agree over 40 answers; ttft has no edge from 0.4 to 2 s: its last edge is 0.1 s",
    ),
    "metrics that cannot be read": (
        "counters_agree",
        but("counters_agree", histograms=(), unreadable="no such line"),
        "failed",
        "blind",
        "2 of 2 comparisons agree over 40 answers; the metrics cannot be read: no such line",
    ),
    "as slow as the starter": (
        "throughput",
        but("throughput", pairs=tuple(pair(1.1) for _ in range(6))),
        "failed",
        "slow",
        "1.10 times: 55 tokens/s against 50",
    ),
    "fast now and then": (
        "throughput",
        but("throughput", pairs=tuple(pair(ratio) for ratio in (1, 1, 1, 4, 4, 4))),
        "inconclusive",
        "slow",
        "2.50 times: 125 tokens/s against 50",
    ),
    "fast beside a late client": (
        "throughput",
        but("throughput", pairs=tuple(pair(6, LATE) for _ in range(6))),
        "inconclusive",
        None,
        f"6.00 times: 300 tokens/s against 50; {LATE_WORDS}",
    ),
    "answers that break under load": (
        "throughput",
        but("throughput", pairs=tuple({**pair(1), "submission": load(broken(0), tokens=0)} for _ in range(6))),
        "failed",
        "broken",
        "0.00 times: 0 tokens/s against 50; most often: it broke",
    ),
    "a GPU that hardly works": (
        "throughput",
        but("throughput", gpu=GpuSeen(utilisation=20.0, used_gib=4.0, tpot=0.005)),
        "failed",
        "slow",
        "6.15 times: 308 tokens/s against 50; the GPU was 20 % busy, held 4.0 GiB and spent 66% of its bandwidth on "
        "weights; it was 20 % busy, where 70 % are the goal",
    ),
    "a queue": (
        "service_level_objective",
        but("service_level_objective", parts=(paced(loads(60, late=30)),)),
        "failed",
        "queueing",
        "30 of 60 requests (50%); 30 began late, 0 flowed slowly, 0 failed",
    ),
    "tokens that come slowly": (
        "service_level_objective",
        but("service_level_objective", parts=(paced(load(*(good(each, tpot=0.5) for each in range(60)))),)),
        "failed",
        "slow_tokens",
        "0 of 60 requests (0%); 0 began late, 60 flowed slowly, 0 failed",
    ),
    "failures under load": (
        "service_level_objective",
        but("service_level_objective", parts=(paced(loads(60, failed=30)),)),
        "failed",
        "broken",
        "30 of 60 requests (50%); 0 began late, 0 flowed slowly, 30 failed; most often: it broke",
    ),
    "parts in which the client was late": (
        "service_level_objective",
        but("service_level_objective", parts=(paced(loads(60, client=LATE)),)),
        "inconclusive",
        None,
        "0 of 0 requests (0%); 0 began late, 0 flowed slowly, 0 failed; " + LATE_WORDS,
    ),
    "a machine that got faster beside one that got slower": (
        "service_level_objective",
        but("service_level_objective", parts=(paced(loads(60), change=1.3), paced(loads(30, late=30), change=0.7))),
        "inconclusive",
        None,
        "0 of 0 requests (0%); 0 began late, 0 flowed slowly, 0 failed; the machine's speed changed: the starter "
        "served 1.30 times as much after it as before",
    ),
    "a part that counts beside one that does not": (
        "service_level_objective",
        but("service_level_objective", parts=(paced(loads(60), change=1.3), paced(loads(60, late=30), change=0.8))),
        "failed",
        "queueing",
        "30 of 60 requests (50%); 30 began late, 0 flowed slowly, 0 failed",
    ),
    "a starter that a late client saw": (
        "service_level_objective",
        but(
            "service_level_objective",
            parts=(
                Paced(
                    before=ALONE,
                    after=msgspec.structs.replace(ALONE, limits=("it came late",)),
                    rate=9.0,
                    load=loads(60),
                ),
            ),
        ),
        "inconclusive",
        None,
        "0 of 0 requests (0%); 0 began late, 0 flowed slowly, 0 failed; the client was the bottleneck: it came late",
    ),
    **{
        f"a low knee with {hint}": (
            "highest_load",
            but("highest_load", rungs=((3.0, wrong), (1.5, paced(loads(60))), (2.0, wrong))),
            "failed",
            hint,
            "it holds at 1.5 times; in time were 60 of 60 at 1.5, 30 of 60 at 2, 30 of 60 at 3",
        )
        for hint, wrong in (("queueing", paced(loads(60, late=30))), ("broken", paced(loads(60, failed=30))))
    },
    "a low knee with slow tokens": (
        "highest_load",
        but("highest_load", rungs=((3.0, paced(load(*(good(each, tpot=0.5) for each in range(60))))),)),
        "failed",
        "slow_tokens",
        "it holds at 0 times; in time were 0 of 60 at 3",
    ),
    "a knee that a late client hides": (
        "highest_load",
        but("highest_load", rungs=((3.0, paced(loads(60, client=LATE))), (1.5, paced(loads(60))))),
        "inconclusive",
        None,
        f"it holds at 1.5 times; in time were 60 of 60 at 1.5, 60 of 60 at 3; {LATE_WORDS}",
    ),
    "a knee that a machine's speed hides": (
        "highest_load",
        but(
            "highest_load",
            rungs=(
                (6.0, paced(loads(60))),  # what counts is the load that was put last
                (6.0, paced(loads(60), change=1.6)),
                (9.0, paced(loads(60, late=60), change=0.5)),
            ),
        ),
        "inconclusive",
        "queueing",
        "it holds at 0 times; in time were 60 of 60 at 6, 0 of 60 at 9; the machine's speed changed: the starter "
        "served 1.60 times as much after it as before",
    ),
    **REPLICAS,
}
