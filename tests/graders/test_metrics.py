"""Prometheus' text format: values by name and labels, histograms that can be, and changes between two scrapes."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Recorder

from graders.metrics import VLLM, Histogram, Metrics, change, merge
from tests.graders.engine_metrics import EngineMetrics

quick = settings(derandomize=True, max_examples=40, deadline=None)
EDGES = (0.01, 0.1, 1.0, 10.0)


def recorded(values: list[float]) -> Histogram:
    registry = CollectorRegistry()
    recorder = Recorder("x", "doc", registry=registry, buckets=EDGES)
    for value in values:
        recorder.observe(value)
    found = Metrics.parse(generate_latest(registry).decode()).histogram("x")
    assert found
    return found


def test_values_are_summed_over_labels() -> None:
    metrics = Metrics.parse('# TYPE x_total counter\nx_total{engine="0"} 3\nx_total{engine="1"} 4\ny 1\n')
    assert (metrics.total("x_total"), metrics.total("x_total", engine="1"), metrics.total("y")) == (7, 4, 1)
    assert (metrics.total("x"), metrics.total("x_total", engine="2"), metrics.histogram("x")) == (None, None, None)
    assert metrics.growing == {"x_total"}


def test_every_name_of_the_table_is_there() -> None:
    metrics = Metrics.parse(EngineMetrics(started=5).text())
    assert metrics.started == 5
    assert all(metrics.histogram(name) is not None for name in VLLM.histograms)
    counted = (VLLM.prefix_queries, VLLM.prefix_hits, VLLM.prompt_sources)
    for name in (*VLLM.brief, VLLM.prompt_tokens, *counted):
        assert name is not None
        assert metrics.total(name) is not None


def test_a_real_server_tells_every_name_of_the_table() -> None:
    """Written by vLLM 0.32.0 after 335 requests of 64 tokens, reduced to what the table names."""
    metrics = Metrics.parse(Path(__file__).with_name("vllm_0_32_0_metrics.txt").read_text())
    told = {name: metrics.total(name) for name in (*VLLM.brief, VLLM.prompt_tokens)}
    assert told == {
        "vllm:request_success_total": 335,
        "vllm:generation_tokens_total": 335 * 64,
        "vllm:num_requests_running": 0,
        "vllm:num_requests_waiting": 0,
        "vllm:kv_cache_usage_perc": 0,
        "process_start_time_seconds": 1795257022.67,
        "vllm:prompt_tokens_total": 335 * 64,
        "vllm:num_preemptions_total": 0,
    }
    assert metrics.total("vllm:prompt_tokens_by_source_total", source=VLLM.source_computed) == 335 * 64
    assert metrics.total("vllm:prompt_tokens_by_source_total", source=VLLM.source_cached) == 0
    assert metrics.total("vllm:prefix_cache_queries_total") == 335 * 64
    assert metrics.total("vllm:prefix_cache_hits_total") == 0
    for name in VLLM.histograms:
        histogram = metrics.histogram(name)
        assert histogram is not None
        assert histogram.faults() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<html>", "invalid metric name:<html>"),
        ("x one\n", "could not convert string to float: 'one'"),
        ("x 1\nx 2\n", "x comes twice with the same labels"),
    ],
)
def test_other_text_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Metrics.parse(text)
    assert str(caught.value) == said


@quick
@given(st.lists(st.floats(0, 100), max_size=50), st.lists(st.floats(0, 100), max_size=50))
def test_histograms_that_were_recorded_can_be_and_so_can_their_sum(ones: list[float], others: list[float]) -> None:
    first, second = recorded(ones), recorded(others)
    assert first.faults() == []
    both = merge([first, second])
    assert both is not None
    assert both.faults() == []
    assert both.count == len(ones) + len(others)
    assert both.below == recorded([*ones, *others]).below
    assert both.mean is None or both.mean == pytest.approx(math.fsum([*ones, *others]) / both.count)


@pytest.mark.parametrize(
    ("histogram", "fault"),
    [
        (Histogram((), (), 0, 0), "it has no bucket +Inf"),
        (Histogram((1.0,), (2,), 2, 1), "it has no bucket +Inf"),
        (
            Histogram((1.0, 2.0, math.inf), (3, 2, 3), 3, 3),
            "2 observations are at most 2, but 3 at most a smaller edge",
        ),
        (Histogram((1.0, math.nan, math.inf), (1, 2, 3), 3, 3), "an edge of its buckets is not a number"),
        (Histogram((1.0, math.inf), (-1, 0), 0, 0), "it counts less than nothing"),
        (Histogram((1.0, math.inf), (1, 2), 3, 3), "its buckets hold 2 observations, its count says 3"),
        (Histogram((1.0, math.inf), (2, 3), 3, 0.5), "its sum is 0.5, its buckets allow 1 to inf"),
        (Histogram((1.0, math.inf), (3, 3), 3, 3.5), "its sum is 3.5, its buckets allow 0 to 3"),
        (Histogram((1.0, math.inf), (3, 3), 3, -1), "its sum is -1, its buckets allow 0 to 3"),
    ],
)
def test_a_histogram_says_why_it_cannot_be(histogram: Histogram, fault: str) -> None:
    assert histogram.faults() == [fault]


def test_edges_that_are_no_numbers_are_a_fault_of_the_histogram() -> None:
    metrics = Metrics.parse('x_bucket{le="soon"} 1\nx_bucket{le="+Inf"} 1\nx_count 1\nx_sum 1\n')
    found = metrics.histogram("x")
    assert found
    assert found.faults() == ["an edge of its buckets is not a number"]


def test_replicas_with_other_edges_share_some() -> None:
    one, other = Histogram((1.0, 2.0, math.inf), (1, 2, 3), 3, 6), Histogram((2.0, math.inf), (4, 4), 4, 4)
    assert merge([one, other]) == Histogram((2.0, math.inf), (6, 7), 7, 10)
    assert merge([]) is None


def test_a_change_counts_new_series_from_zero_and_names_what_fell() -> None:
    before = Metrics.parse('# TYPE x_total counter\nx_total{a="1"} 5\n# TYPE y_total counter\ny_total 9\nz 7\n')
    after = Metrics.parse(
        '# TYPE x_total counter\nx_total{a="1"} 6\nx_total{a="2"} 2\n# TYPE y_total counter\ny_total 8\nz 3\n'
    )
    found = change(before, after)
    assert (found.by.total("x_total"), found.by.total("z"), found.fell, found.restarted) == (3, -4, ("y_total",), False)
    gone = change(before, Metrics.parse("z 7\n"))
    assert gone.fell == ("x_total", "y_total")


def test_a_restart_is_known_by_the_start_of_the_process() -> None:
    before, after = EngineMetrics(started=5), EngineMetrics(started=6)
    before.serve(64, [0.1, 0.2])
    found = change(Metrics.parse(before.text()), Metrics.parse(after.text()))
    assert (found.restarted, found.fell) == (True, ())
