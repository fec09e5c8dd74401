"""What the checks of 03_vllm compute besides measuring: joined values, pairs, agreement, edges. No server."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from graders import arrivals
from graders.errors import SubmissionError
from graders.gpu_telemetry import MEMORY, UTILISATION
from graders.lab import Lab
from graders.plan import Plan, Target
from graders.sampler import Scrape
from graders.samples import Run, Sample
from graders.submission import parse_values
from vllm_lab import caches, caches_facts, counters, gpu, objective_facts, performance
from vllm_lab.bench import completions
from vllm_lab.counters_facts import blind_spots
from vllm_lab.loads import Load
from vllm_lab.objective_facts import Objective, Probe, Tally
from vllm_lab.sides import chart_values, uses

ROOT = Path(__file__).resolve().parents[2]
LAB = Lab.load(ROOT / "labs/03_vllm")


def joined(own: dict[str, Any], level: str = "values-cpu.yaml") -> dict[str, Any]:
    chart = ROOT / "charts/vllm"
    defaults, given = (parse_values((chart / name).read_text(), name) for name in ("values.yaml", level))
    return chart_values(defaults, given, own, threshold)


def threshold(name: str) -> float:
    return {**LAB.thresholds["L1"], "budget_gpu_memory": 0.9}[name]


def used(own: dict[str, Any], level: str = "values-cpu.yaml") -> dict[str, float]:
    """How much of each thing counts for these values."""
    return {each.what: each.amount(threshold(each.budget)) for each in uses(own, joined(own, level))}


def test_who_says_nothing_gets_what_is_given() -> None:
    values = joined({})

    assert values["resources"] == {"limits": {"memory": "4Gi", "nvidia.com/gpu": 1}}
    assert values["engine"]["kvCacheMemoryBytes"] == 268435456
    assert [(use.what, use.amount(threshold(use.budget)), threshold(use.budget)) for use in uses({}, values)] == [
        ("replicas", 1, 2),
        ("pods during an upgrade", 2, 3),
        ("threads of the engine", 1, 1),
        ("GiB of memory a pod", 4, 4),
        ("cores a pod", 0, 2),
        ("MiB of KV cache", 256, 256),
    ]


def test_requests_and_limits_count_and_the_larger_is_told() -> None:
    resources = {"requests": {"cpu": "500m", "memory": "8Gi"}, "limits": {"cpu": 3}}
    found = used({"resources": resources})

    assert (found["GiB of memory a pod"], found["cores a pod"]) == (8, 3)


def test_on_a_gpu_its_memory_counts_instead_of_the_machines() -> None:
    found = used({}, "values-gpu.yaml")

    assert found["of a GPU's memory"] == 0.9
    assert "MiB of KV cache" not in found


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(SubmissionError) as caught:
        used({"replicaCount": "two"})
    assert str(caught.value) == "replicaCount is 'two', where a number belongs; correct it"


def answer(index: int, planned: float, first: float, tokens: tuple[int, ...], text: str = "x") -> Sample:
    """An answer whose tokens come a tenth of a second apart."""
    events = [
        {"choices": [{"index": 0, "text": text, "token_ids": [token]}], "model": "gpulab-tiny"} for token in tokens
    ]
    events[-1]["choices"][0]["finish_reason"] = "length"  # type: ignore[index]
    usage = {"choices": [], "usage": {"prompt_tokens": 1600, "completion_tokens": len(tokens)}}
    lines = [b"data: " + msgspec.json.encode(each) + b"\n\n" for each in [*events, usage]] + [b"data: [DONE]\n\n"]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    times = [first, *(first + 0.1 * place for place in range(len(lines)))]
    pieces = [head, *lines]
    return Sample(
        index=index,
        planned=planned,
        started=planned,
        sent=planned,
        times=tuple(times),
        sizes=tuple(map(len, pieces)),
        data=b"".join(pieces),
        end=times[-1],
        closed=True,
    )


def run(samples: list[Sample], window: float = 10.0) -> Run:
    requests = caches.alternating(7, 12, 1536)
    plan = Plan(
        target=Target(host="127.0.0.1", port=1), requests=requests, schedule=arrivals.closed(1), window=window, seed=7
    )
    return Run(plan, 0.0, 0.0, (), tuple(samples))


def prompt(request: Any) -> list[int]:
    return list(msgspec.json.decode(request.body)["prompt"])


def test_every_other_prompt_begins_like_the_others_of_its_kind() -> None:
    requests = [prompt(each) for each in caches.alternating(7, 12, 1536)]
    kinds = [caches_facts.is_shared(index) for index in range(12)]

    assert kinds == [True, False, False, True] * 3
    assert {len(each) for each in requests} == {1600}
    assert len({tuple(each[:1536]) for each, kind in zip(requests, kinds, strict=True) if kind}) == 1
    assert len({tuple(each[:4]) for each, kind in zip(requests, kinds, strict=True) if not kind}) == 6
    assert len({tuple(each[1536:]) for each in requests}) == 12


def test_a_gain_is_the_ratio_in_a_pair_and_the_first_pair_fills_the_cache() -> None:
    first = {0: 0.8, 1: 0.8, 2: 0.6, 3: 0.2, 4: 0.1, 5: 0.5, 6: 0.5}
    samples = [answer(index, float(index), index + wait, (1,) * 8) for index, wait in first.items()]

    assert caches_facts.gains(Load.of(run(samples)).answers) == pytest.approx([3.0, 5.0])


def test_concurrency_counts_answers_between_first_and_last_token() -> None:
    # Each flows for 0.7 s; the last one begins 0.2 s before the window of 2 s ends.
    samples = [answer(0, 0.0, 0.5, (1,) * 8), answer(1, 0.0, 0.5, (1,) * 8), answer(2, 1.0, 1.8, (1,) * 8)]

    assert sum(caches.flows(run(samples, 2.0))) / 2 == pytest.approx((0.7 + 0.7 + 0.2) / 2)


def test_answers_agree_when_they_begin_with_the_same_token() -> None:
    one = run([answer(0, 0.0, 0.1, (5,) * 8), answer(1, 1.0, 1.1, (6,) * 8), answer(2, 2.0, 2.1, (7,) * 8)])
    other = run([answer(0, 0.0, 0.1, (5,) * 8), answer(1, 1.0, 1.1, (9,) * 8)])

    assert performance.agreement(one, other) == (1, 2)
    assert performance.agreement(one, run([])) == (0, 0)


def test_a_token_is_the_same_only_with_the_same_text() -> None:
    one = run([answer(0, 0.0, 0.1, (5,) * 8), answer(1, 1.0, 1.1, (6,) * 8)])
    other = run([answer(0, 0.0, 0.1, (5,) * 8), answer(1, 1.0, 1.1, (6,) * 8, text="y")])

    assert performance.agreement(one, other) == (1, 2)


METRICS = """
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{le="0.001"} 0
vllm:time_to_first_token_seconds_bucket{le="TTFT"} 1
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 1
vllm:time_to_first_token_seconds_count 1
vllm:time_to_first_token_seconds_sum 0.1
# TYPE vllm:request_time_per_output_token_seconds histogram
vllm:request_time_per_output_token_seconds_bucket{le="0.025"} 1
vllm:request_time_per_output_token_seconds_bucket{le="+Inf"} 1
vllm:request_time_per_output_token_seconds_count 1
vllm:request_time_per_output_token_seconds_sum 0.01
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{le="2.0"} 1
vllm:e2e_request_latency_seconds_bucket{le="+Inf"} 1
vllm:e2e_request_latency_seconds_count 1
vllm:e2e_request_latency_seconds_sum 1
"""
BOUNDS = Objective(ttft=0.4, tpot=0.016, capacity=6.0)


def blind(text: str) -> list[str]:
    histograms, unreadable = counters.edges(text)
    assert unreadable is None
    return blind_spots(histograms, BOUNDS)


def probe(outcomes: tuple[bool, ...], late: int = 0, failed: int = 0, limits: tuple[str, ...] = ()) -> Probe:
    return Probe(Tally(outcomes, late, failed), list(limits))


def test_parts_count_together_and_those_with_a_late_client_not_at_all() -> None:
    hits, misses = probe((True,) * 30), probe((False,) * 30, late=30, limits=("it read 9 ms late",))

    assert objective_facts.decided(0.9, [hits]) == "inconclusive"
    assert objective_facts.decided(0.9, [hits, misses, hits]) == "passed"
    assert objective_facts.decided(0.9, [misses]) == "inconclusive"
    assert objective_facts.decided(0.9, [probe((False,) * 30, late=30)]) == "failed"


def test_a_hint_is_of_what_most_requests_suffered_from() -> None:
    tally = Tally.of([probe((True, False, False), late=1), probe((False,) * 4, late=1, failed=1)])

    assert (tally.met, tally.late, tally.slow, tally.failed, tally.hint) == (1, 2, 3, 1, "slow_tokens")


def test_edges_up_to_five_times_the_bound_show_the_tail() -> None:
    assert blind(METRICS.replace("TTFT", "0.5")) == []
    assert blind(METRICS.replace("TTFT", "0.4")) == []
    assert blind(METRICS.replace("TTFT", "2.0")) == []


@pytest.mark.parametrize("edge", ["0.005", "0.39", "2.1"])
def test_edges_elsewhere_hide_it(edge: str) -> None:
    assert blind(METRICS.replace("TTFT", edge)) == [
        f"vllm:time_to_first_token_seconds has no edge from 0.4 to 2 s: its last edge is {edge} s"
    ]


def test_a_missing_histogram_hides_it_too() -> None:
    assert blind("# nothing\n")[0] == ("vllm:time_to_first_token_seconds has no edge from 0.4 to 2 s: it has none")


def dcgm(moment: float, util: float, mib: float, pod: str = "mine") -> Scrape:
    text = "".join(f'{name}{{gpu="0",pod="{pod}"}} {value}\n' for name, value in ((UTILISATION, util), (MEMORY, mib)))
    return Scrape(replica="exporter", round=0, asked=moment, answered=moment, status=200, text=text)


def test_the_use_of_a_gpu_is_that_of_its_pod_in_the_windows() -> None:
    load = run([answer(0, 0.0, 0.5, (1,) * 8)], 2.0)
    looks = [
        dcgm(-1.0, 0, 100),
        dcgm(0.5, 80, 2048),
        dcgm(1.0, 60, 4096),
        dcgm(1.5, 10, 9999, "other"),
        dcgm(3.0, 0, 0),
    ]

    found = gpu.gpu_seen(looks, [load], "mine")

    assert found is not None
    use = found.use({"gpu_weights_gb": 3.0, "gpu_bandwidth_gbs": 100.0}.__getitem__)
    assert (use.utilisation, use.used_gib, use.bandwidth) == pytest.approx((70, 4, 0.3))
    assert gpu.gpu_seen(looks, [load], "nobody's") is None


def test_a_gpu_out_of_its_bounds_is_told() -> None:
    goals = {"gpu_utilisation": 70.0, "gpu_memory_gib": 22.0, "gpu_bandwidth_share": 0.3}.__getitem__

    assert gpu.GpuUse(utilisation=70, used_gib=22, bandwidth=0.3).shortfalls(goals) == []
    assert gpu.GpuUse(utilisation=20, used_gib=23, bandwidth=1.2).shortfalls(goals) == [
        "it was 20 % busy, where 70 % are the goal",
        "it held 23.0 GiB, where 22 are given",
        "decoding read weights at 120% of the bandwidth, where 30% to 100 % can be",
    ]


def test_every_level_has_every_number() -> None:
    numbers = {level: set(numbers) for level, numbers in LAB.thresholds.items()}

    assert numbers["L1"] - numbers["L3"] == {"budget_kv_mib"}
    assert {name for name in numbers["L3"] - numbers["L1"] if not name.startswith("gpu_")} == {"budget_gpu_memory"}


def test_the_prompts_of_a_measurement_are_the_labs_own() -> None:
    assert completions(3, 4) == completions(3, 4) != completions(4, 4)
    assert caches.alternating(3, 4, 128) == caches.alternating(3, 4, 128)
