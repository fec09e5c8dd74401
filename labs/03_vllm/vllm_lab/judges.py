"""Which function judges the facts of which check.

Place: `graders.judging` loads it, to grade and to re-score; what each part means is said there. Limits: a threshold
that measuring asks for, and that is neither judged by nor named as effort here, is a condition of what was claimed.
"""

from graders import budget
from graders.judging import Judge, Judges
from vllm_lab import availability_facts as availability
from vllm_lab import caches_facts as caches
from vllm_lab import counters_facts as counters
from vllm_lab import objective_facts as objective
from vllm_lab import performance_facts as performance
from vllm_lab import start_facts as start

JUDGES: Judges = {
    "resources_within_budget": Judge("03_vllm/budget/v1", budget.Budget, budget.judge_budget),
    "server_comes_up": Judge("03_vllm/start/v1", start.Start, start.judge_start),
    "streams_are_correct": Judge(
        "03_vllm/streams/v1",
        performance.Streams,
        performance.judge_streams,
        effort=("correctness_streams", "correctness_seconds"),
    ),
    "counters_agree": Judge(
        "03_vllm/counters/v1",
        counters.Counters,
        counters.judge_counters,
        effort=("counters_requests", "counters_load_factor"),
    ),
    "throughput": Judge(
        "03_vllm/throughput/v1",
        performance.Throughput,
        performance.judge_throughput,
        effort=("throughput_pairs", "throughput_seconds"),
    ),
    "service_level_objective": Judge(
        "03_vllm/objective/v2",
        objective.ServiceLevel,
        objective.judge_service_level,
        effort=("slo_requests", "slo_seconds"),
    ),
    "highest_load": Judge(
        "03_vllm/highest_load/v2", objective.HighestLoad, objective.judge_highest_load, effort=("knee_requests",)
    ),
    "kv_cache": Judge("03_vllm/kv_cache/v1", caches.KvCache, caches.judge_kv_cache, effort=("kv_seconds",)),
    "prefix_cache": Judge(
        "03_vllm/prefix_cache/v1", caches.PrefixCache, caches.judge_prefix_cache, effort=("prefix_seconds",)
    ),
    "rolling_upgrade": Judge("03_vllm/upgrade/v1", availability.Upgrade, availability.judge_upgrade),
    "replica_loss": Judge("03_vllm/loss/v1", availability.Loss, availability.judge_loss),
}
