"""A load run as numbers for plots: what belongs together, what is left out, and what never changes by it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graders.arrivals import Schedule, closed, constant, poisson, ramp, recorded
from graders.html.loads import (
    MOST_POINTS,
    fewest,
    groups,
    loads_of,
    milliseconds,
    pattern,
    per_second,
    quantile,
    shares,
    thinned,
)
from tests.html.runs import TOKENS, Told, even, load_run


def test_a_load_says_what_was_measured() -> None:
    told = [Told(0.0), Told(1.0, 0.03), Told(2.0, None), Told(3.0, 0.05)]
    (load,) = loads_of("objective-1-submission", load_run(told, rate=1.0, started_at=9.0))
    assert (load.name, load.side, load.pattern) == ("objective-1-submission", "submission", "1 requests/s")
    assert (load.started_at, load.monotonic, load.window, load.open_loop) == (9.0, 500.0, (0.5, 4.5), True)
    assert [(each.planned, each.ttft) for each in load.requests] == [
        (0.0, pytest.approx(0.02)),
        (1.0, pytest.approx(0.03)),
        (2.0, None),
        (3.0, pytest.approx(0.05)),
    ]
    assert load.ttft == pytest.approx((0.03, math.inf, 0.05))
    assert load.tpot == pytest.approx((0.004, math.inf, 0.004))
    assert (load.failed, load.complaint) == (1, "connection refused")
    assert load.tokens_per_second == 2 * TOKENS / 4.0
    assert sum(rate for _, rate in load.rate) * (load.rate[1][0] - load.rate[0][0]) == pytest.approx(3 * TOKENS)


def test_workloads_that_were_mixed_are_loads_of_their_own() -> None:
    told = [Told(0.6, 0.02, workload="alike"), Told(1.6, 0.2, workload="own"), Told(2.6, 0.03, workload="alike")]
    loads = loads_of("prefix-1-submission", load_run(told, streams=1))
    assert [(load.pattern, len(load.ttft)) for load in loads] == [("1 stream, alike", 2), ("1 stream, own", 1)]
    assert [round(load.tokens_per_second * 4) for load in loads] == [2 * TOKENS, TOKENS]


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (closed(1), "1 stream"),
        (closed(8), "8 streams"),
        (constant(0.54, 2), "0.54 requests/s"),
        (poisson(21.6, 2, seed=1), "21.6 requests/s"),
        (ramp(1, 12.5, 2, seed=1), "1 to 12.5 requests/s"),
        (recorded([0.0, 1.0]), "recorded times"),
    ],
)
def test_patterns_in_words(schedule: Schedule, words: str) -> None:
    assert pattern(schedule) == words


def test_loads_of_one_side_and_pattern_are_a_group_in_the_order_of_time() -> None:
    runs = {
        "throughput-1-1-submission": load_run(even(20, 0.2), streams=2, started_at=3.0),
        "throughput-1-1-baseline": load_run(even(4, 1.0), streams=2, started_at=1.0),
        "throughput-1-2-submission": load_run(even(40, 0.1), streams=2, started_at=2.0),
        "objective-1-submission": load_run(even(4, 1.0), rate=1.0, started_at=4.0),
    }
    found = groups(load for name, run in runs.items() for load in loads_of(name, run))
    assert [(each.side, each.pattern, [load.name for load in each.loads]) for each in found] == [
        ("baseline", "2 streams", ["throughput-1-1-baseline"]),
        ("submission", "2 streams", ["throughput-1-2-submission", "throughput-1-1-submission"]),
        ("submission", "1 requests/s", ["objective-1-submission"]),
    ]
    assert found[1].typical.name == "throughput-1-1-submission"
    assert len(found[1].ttft) == sum(len(load.ttft) for load in found[1].loads)


def test_the_worst_load_is_the_one_with_most_failures() -> None:
    broken = load_run([Told(1.0, None), Told(2.0, None)], rate=1.0, started_at=1.0)
    half = load_run([Told(1.0, None), Told(2.0)], rate=1.0, started_at=2.0)
    (group,) = groups(load for name, run in (("a-x", half), ("b-x", broken)) for load in loads_of(name, run))
    assert (group.worst.name, group.failed) == ("b-x", 3)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 100)), max_size=60), st.floats(0.01, 50))
def test_no_amount_is_lost_over_time(amounts: list[tuple[float, float]], end: float) -> None:
    found = per_second(amounts, end)
    width = found[1][0] - found[0][0]
    assert sum(rate * width for _, rate in found) == pytest.approx(sum(amount for _, amount in amounts))
    assert found[-1] == pytest.approx((width * (len(found) - 1), 0.0))
    assert len(found) <= 52


@given(st.lists(st.floats(0.001, 100) | st.just(math.inf), max_size=400))
def test_shares_rise_to_the_share_that_did_not_fail(values: list[float]) -> None:
    found, finite = shares(values), [value for value in values if math.isfinite(value)]
    assert len(found) <= MOST_POINTS + 1
    if not finite:
        assert found == ()
        return
    assert list(found) == sorted(found)
    assert (found[0], found[-1]) == ((min(finite), 0.0), (max(finite), len(finite) / len(values)))


@given(st.integers(0, 1000), st.integers(2, 50))
def test_thinning_keeps_both_ends(count: int, most: int) -> None:
    kept = thinned(range(count), most)
    assert len(kept) == min(count, most)
    assert kept == sorted(set(kept))
    assert kept[:1] + kept[-1:] == list(range(count))[:1] + list(range(count))[-1:]


@pytest.mark.parametrize(
    ("n", "failed", "p", "words"),
    [
        (0, 0, 0.5, ("–",)),
        (5, 0, 0.5, ("n too small", "(5 of 6)")),
        (6, 0, 0.5, ("3 ms", "(1 to 6)")),
        (28, 28, 0.9, ("n too small", "(28 of 29)")),
        (29, 0, 0.9, ("27 ms", "(21 to 29)")),
        (29, 1, 0.9, ("27 ms", "(21 to failed)")),
        (29, 3, 0.9, ("failed", "(21 ms to failed)")),
        (29, 29, 0.9, ("failed",)),
        (2000, 0, 0.5, ("1,000 ms", "(956 to 1,045)")),
    ],
)
def test_a_percentile_has_an_interval_where_there_are_values_enough(
    n: int, failed: int, p: float, words: tuple[str, ...]
) -> None:
    assert quantile([*(place / 1e3 for place in range(1, n - failed + 1)), *[math.inf] * failed], p) == words


def test_the_fewest_values_are_those_of_the_statistics() -> None:
    assert [fewest(p) for p in (0.5, 0.9, 0.95, 0.99)] == [6, 29, 59, 299]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00398, "3.98 ms"), (0.0226, "22.6 ms"), (0.4651, "465 ms"), (1.6904, "1,690 ms"), (0.0, "0 ms")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert milliseconds(seconds) == words
