"""A server's counters against its client: an honest one agrees in all, and each lie is named in a whole sentence."""

import math
import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders.bounds import Disagreement
from graders.crosscheck import Crosscheck, compare
from graders.metrics import VLLM
from tests.graders.engine_metrics import EngineMetrics
from tests.graders.honest_engine import (
    PATH,
    PROMPT,
    TOKENS,
    around,
    books,
    gauges,
    judged,
    number,
    scaled,
    scrape,
    served,
    times,
)


def test_an_honest_server_agrees_in_everything() -> None:
    client = books()
    found = judged(client=client, during=gauges(client))
    assert {name: each.count for name, each in found.histograms.items()} == {"ttft": 20, "tpot": 20, "e2e": 20}
    assert msgspec.structs.replace(found, histograms={}) == Crosscheck(
        disagreements=(),
        agreed=(
            "impossible_histogram",
            "finished_requests",
            "prompt_tokens",
            "generation_tokens",
            "usage_tokens",
            "prefix_cache_queries",
            "prefix_cache_hits",
            "prompt_sources",
            "step_tokens",
            "histogram_counts",
            "mean_tpot",
            "buckets_tpot",
            "counters_during",
            "littles_law",
            "mean_ttft",
            "buckets_ttft",
            "mean_e2e",
            "buckets_e2e",
        ),
        by_replica={"a": 20},
        preemptions=0,
        prefix_queries=1280,
        prefix_hits=320,
    )


def quick(text: str) -> str:
    """A lie: each TTFT is 1 ms, sum and buckets in agreement."""
    count = float(re.findall(r"time_to_first_token_seconds_count{.*} (\S+)", text)[0])
    return number(f"{TTFT_NAME}_sum", lambda _: count / 1000)(number(f"{TTFT_NAME}_bucket", lambda _: count)(text))


TTFT_NAME = "vllm:time_to_first_token_seconds"
E2E_NAME = "vllm:e2e_request_latency_seconds"
TPOT_NAME = "vllm:request_time_per_output_token_seconds"
QUERIES, HITS, STEPS = "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "vllm:iteration_tokens_total"
SOURCES, PROMPTS = "vllm:prompt_tokens_by_source_total", "vllm:prompt_tokens_total"


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (
            scaled(VLLM.finished, 0.9),
            {
                "finished_requests": "finished requests: expected 20, as the client counted, observed 18 by "
                "vllm:request_success_total"
            },
        ),
        (
            scaled(VLLM.generation_tokens, 10),
            {
                "generation_tokens": "generation tokens: expected 640, as the client counted, observed 6400 by "
                "vllm:generation_tokens_total",
                "step_tokens": "tokens computed or generated: expected 7360, observed 1600 by "
                "vllm:iteration_tokens_total_sum",
            },
        ),
        (
            scaled(PROMPTS, 2),
            {
                "prompt_tokens": "prompt tokens: expected 1280, as the client counted, observed 2560 by "
                "vllm:prompt_tokens_total",
                "prefix_cache_queries": "prompt tokens by vllm:prompt_tokens_total: expected 2560, observed 1280 by "
                "vllm:prefix_cache_queries_total",
                "prompt_sources": "prompt tokens by vllm:prompt_tokens_total: expected 2560, observed 1280 by "
                "vllm:prompt_tokens_by_source_total",
            },
        ),
        (
            scaled(QUERIES, 2),
            {
                "prefix_cache_queries": "prompt tokens by vllm:prompt_tokens_total: expected 1280, observed 2560 by "
                "vllm:prefix_cache_queries_total"
            },
        ),
        (
            scaled(HITS, 20),
            {
                "prefix_cache_hits": "prefix cache hits: expected at most the 1280 tokens of "
                "vllm:prefix_cache_queries_total, observed 6400 by vllm:prefix_cache_hits_total"
            },
        ),
        (
            lambda text: scaled(HITS, 2)(scaled(f'{SOURCES}{{engine="0",model_name="gpulab-tiny",.*hit"}}', 2)(text)),
            {
                "prefix_cache_hits": "cached tokens by usage: expected 320, observed 640 by "
                "vllm:prefix_cache_hits_total",
                "prompt_sources": "prompt tokens by vllm:prompt_tokens_total: expected 1280, observed 1600 by "
                "vllm:prompt_tokens_by_source_total",
            },
        ),
        (
            scaled(f"{STEPS}_sum", 1.1),
            {
                "step_tokens": "tokens computed or generated: expected 1600, observed 1760 by "
                "vllm:iteration_tokens_total_sum"
            },
        ),
        (
            scaled("vllm:request_generation_tokens_sum", 1.1),
            {
                "histogram_counts": "histogram counts: expected 640, as the client counted, observed 704 by "
                "vllm:request_generation_tokens_sum"
            },
        ),
        (
            scaled(f"{TTFT_NAME}_sum", 1.07),
            {
                "mean_ttft": "mean TTFT: expected at most the 154.0 ms that the client saw, as it sees each answer "
                "later than the server, observed 160.5 ms at the server"
            },
        ),
        (
            scaled(f"{E2E_NAME}_sum", 0.91),
            {
                "mean_e2e": "mean E2E: expected at most 20.0 ms below the 774.0 ms that the client saw, observed "
                "700.7 ms at the server"
            },
        ),
        (
            scaled(f"{TPOT_NAME}_sum", 0.9),
            {
                "mean_tpot": "mean TPOT: expected within 1.2 ms of the 20.0 ms that the client saw, observed 18.0 ms "
                "at the server"
            },
        ),
        (
            quick,
            {
                "mean_ttft": "mean TTFT: expected at most 20.0 ms below the 154.0 ms that the client saw, observed "
                "1.0 ms at the server",
            },
        ),
        (
            scaled(f'{TTFT_NAME}_bucket{{engine="0",le="0.(?:06|08|1)",.*}}', 0.5),
            {
                "buckets_ttft": "TTFT up to 0.06 s: expected at least 4 answers, as the client saw, observed 2 in the "
                "server's buckets",
            },
        ),
    ],
)
def test_what_a_server_always_says_is_held_against_its_client(lie: Callable[[str], str], said: dict[str, str]) -> None:
    found = judged(always=lie)
    assert found.disagreements == tuple(Disagreement(name, sentence) for name, sentence in said.items())
    assert not said.keys() & set(found.agreed)


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (
            number(f"{TTFT_NAME}_bucket", lambda value: 23.0),
            "vllm:time_to_first_token_seconds of a after the load: its sum is 3.3, its buckets allow 0 to 0.023",
        ),
        (
            scaled(f"{TTFT_NAME}_sum", 0.5),
            "vllm:time_to_first_token_seconds of a after the load: its sum is 1.65, its buckets allow 1.9 to 4.05",
        ),
        (
            scaled(f"{TTFT_NAME}_sum", 1.2),
            "vllm:time_to_first_token_seconds of a between the two scrapes: its sum is 3.66, its buckets allow 1.68 "
            "to 3.64",
        ),
        (
            scaled(f"{TTFT_NAME}_sum", math.nan),
            "vllm:time_to_first_token_seconds of a after the load: its sum is nan, its buckets allow 1.9 to 4.05",
        ),
        (
            number(f"{TTFT_NAME}_bucket", lambda value: value if value == 23 else 23 - value),
            "vllm:time_to_first_token_seconds of a after the load: 18 observations are at most 0.06, but 23 at most a "
            "smaller edge",
        ),
    ],
)
def test_a_histogram_that_nothing_can_have_given_is_impossible(lie: Callable[[str], str], sentence: str) -> None:
    found = judged(later=lie)
    assert found.disagreements[0] == Disagreement("impossible_histogram", sentence)
    assert found.left_out["mean_ttft"] == "the server tells no such histogram that can be"


@pytest.mark.parametrize(
    ("lie", "name", "sentence"),
    [
        (lambda _: "<html>", "scrape", "the metrics of a after the load cannot be read: invalid metric name:<html>"),
        (
            lambda text: text.replace("num_requests_waiting", "queue"),
            "missing_metric",
            "a does not tell vllm:num_requests_waiting",
        ),
        (
            number("process_start_time_seconds", lambda value: value + 1),
            "restart",
            "a began anew during the load, so its counters lost what was before",
        ),
        (
            number(PROMPTS, lambda _: 3.0),
            "counter_reset",
            "vllm:prompt_tokens_total of a went down during the load without a restart",
        ),
        (
            number(VLLM.waiting, lambda _: 3.0),
            "idle_after",
            "a was not idle after the load: 3 requests ran or waited in it",
        ),
        (
            lambda _: served(EngineMetrics(), 3).text(),
            "frozen_metrics",
            "the client got 20 complete answers, but no counter of the server moved",
        ),
    ],
)
def test_where_the_counters_do_not_count_this_load_nothing_else_is_compared(
    lie: Callable[[str], str], name: str, sentence: str
) -> None:
    found = judged(later=lie)
    assert found.disagreements == (Disagreement(name, sentence),)
    assert found.agreed == ()
    assert list(found.left_out) == ["everything else"]


def test_a_server_at_work_before_the_load_was_not_idle() -> None:
    found = judged(always=number(VLLM.running, lambda _: 2.0))
    assert found.disagreements == (
        Disagreement("idle_before", "a was not idle before the load: 2 requests ran or waited in it"),
        Disagreement("idle_after", "a was not idle after the load: 2 requests ran or waited in it"),
    )


def test_replicas_are_summed_and_kept_apart() -> None:
    one, two = served(EngineMetrics(), 3), EngineMetrics(started=7)
    before = [scrape(one.text(), "a"), scrape(two.text(), "b")]
    served(one, 12)
    served(two, 8)
    client = books(
        ttft=tuple(times(number)[0] + PATH for count in (12, 8) for number in range(count)),
        e2e=tuple(times(number)[-1] + PATH for count in (12, 8) for number in range(count)),
    )
    after = [scrape(one.text(), "a"), scrape(two.text(), "b")]
    found = compare(VLLM, around(before, after), client, path_seconds=0.02)
    assert (found.disagreements, found.by_replica) == ((), {"a": 12, "b": 8})
    found = compare(VLLM, around(before, after[:1]), client)
    assert found.disagreements == (Disagreement("replicas", "the replicas were a, b before the load and a after it"),)


def test_a_scrape_that_failed_is_named() -> None:
    good = scrape(EngineMetrics().text())
    gone = msgspec.structs.replace(good, text="", status=503, failure="HTTP 503")
    assert compare(VLLM, around([gone], [good]), books()).disagreements == (
        Disagreement("scrape", "the metrics of a before the load cannot be read: HTTP 503"),
    )


def test_broken_answers_widen_what_is_expected() -> None:
    client = books(18, open=2, open_prompt_tokens=2 * PROMPT, open_output_tokens=2 * TOKENS)
    found = judged(client=client)
    assert found.disagreements == ()
    assert found.left_out["mean_ttft"] == "the server observed 20, the client 18 complete answers"
    found = judged(client=books(10, open=2, open_prompt_tokens=128, open_output_tokens=64))
    assert found.disagreements[0] == Disagreement(
        "finished_requests",
        "finished requests: expected 10 to 12, as the client counted, observed 20 by vllm:request_success_total",
    )


def test_usage_that_says_more_than_the_token_ids_disagrees() -> None:
    assert judged(client=books(usage_output_tokens=6400, usage_prompt_tokens=1281)).disagreements == (
        Disagreement("usage_tokens", "prompt tokens sent: expected 1280, observed 1281 by usage"),
        Disagreement("usage_tokens", "tokens that came: expected 640, observed 6400 by usage"),
    )


def test_after_pre_emptions_hits_are_only_held_below_queries() -> None:
    engine = served(EngineMetrics(), 3)
    before = scrape(engine.text())
    served(engine).preempt()
    found = compare(VLLM, around([before], [scrape(engine.text())]), books(cached_tokens=0))
    assert (found.disagreements, found.preemptions) == ((), 1)
    assert found.left_out["prefix_cache_hits"] == (
        "there were pre-emptions, after which a request may find its own tokens in the cache"
    )


TEXT = served(EngineMetrics(), 3).text()
SAMPLES = [line for line in TEXT.splitlines() if not line.startswith("#")]
VALUES = ["NaN", "+Inf", "-Inf", "1e308", "-1", "0x10", ""]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.sampled_from(SAMPLES), st.sampled_from(VALUES))
def test_whatever_a_server_tells_is_judged_and_breaks_nothing(line: str, value: str) -> None:
    name = line.rpartition(" ")[0]
    after = re.sub(rf"^{re.escape(name)} .*$", f"{name} {value}", served(EngineMetrics()).text(), flags=re.MULTILINE)
    found = compare(VLLM, around([scrape(TEXT)], [scrape(after)]), books())
    assert msgspec.json.decode(msgspec.json.encode(found), type=dict)
