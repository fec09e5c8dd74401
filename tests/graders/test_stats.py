"""Statistics against published tables, and the properties that must hold whatever the numbers are."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders import stats
from graders.errors import HarnessError

quick = settings(derandomize=True, max_examples=40, deadline=None)


@pytest.mark.parametrize(
    ("p", "confidence", "misses", "n"),
    [  # Wilks 1941 for no misses (59, 90, 299, 459); MLPerf LoadGen's early stopping table for d = 0 (662, 1307)
        (0.95, 0.95, 0, 59),
        (0.95, 0.99, 0, 90),
        (0.99, 0.95, 0, 299),
        (0.99, 0.99, 0, 459),
        (0.95, 0.95, 1, 93),
        (0.95, 0.95, 2, 124),
        (0.99, 0.99, 1, 662),
        (0.99, 0.99, 5, 1307),
    ],
)
def test_the_fewest_samples_for_a_percentile(p: float, confidence: float, misses: int, n: int) -> None:
    assert stats.smallest_n(p, confidence, misses) == n


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 5 (Clopper-Pearson)
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_clopper_pearson_bounds_as_published(hits: int, n: int, low: float, high: float) -> None:
    assert stats.share_interval(hits, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("n", "rank", "coverage"),
    [  # sign test, Gibbons and Chakraborti 2011, table G: P(B <= 0 | 6) = .0156, (1 | 10) = .0107, (5 | 20) = .0207
        (6, 1, 1 - 2 * 0.0156),
        (10, 2, 1 - 2 * 0.0107),
        (20, 6, 1 - 2 * 0.0207),
    ],
)
def test_the_interval_of_a_median_as_published(n: int, rank: int, coverage: float) -> None:
    found = stats.median_of_pairs([float(each) for each in range(1, n + 1)])
    assert found.value == (n + 1) / 2
    assert found.interval == (rank, n + 1 - rank)
    assert found.confidence == pytest.approx(coverage, abs=1e-4)
    assert found.note is None


def test_too_few_pairs_say_what_they_reach() -> None:
    found = stats.median_of_pairs([2.2, 2.0, 2.4, 2.1, 2.3])
    assert (found.value, found.interval, found.confidence) == (2.2, (2.0, 2.4), 0.9375)
    assert found.note == "5 pairs reach 93.8 %, not 95 %"
    assert stats.median_of_pairs([3.0]).note == "1 pairs reach 0.0 %, not 95 %"
    assert stats.median_of_pairs([]).note == "n too small: there are no pairs"


def test_a_percentile_of_too_few_samples_is_no_number() -> None:
    found = stats.percentile([1.0] * 58, 0.95)
    assert (found.value, found.interval, found.confidence) == (None, None, None)
    assert found.note == "n too small: 58 of the 59 that p95 needs"
    assert stats.percentile([1.0] * 298, 0.99).note == "n too small: 298 of the 299 that p99 needs"


def test_a_percentile_comes_with_the_order_statistics_around_it() -> None:
    found = stats.percentile([float(each) for each in range(1, 60)], 0.95)
    assert (found.value, found.interval) == (57, (50, 59))
    assert found.confidence == pytest.approx(0.9509, abs=1e-4)
    wide = stats.percentile([float(each) for each in range(1, 1001)], 0.99)
    assert (wide.value, wide.interval) == (990, (983, 997))


def test_failures_are_infinite_latencies_and_reach_the_percentile() -> None:
    values = [0.1] * 94 + [math.inf] * 6
    assert stats.percentile(values, 0.95).value == math.inf
    assert stats.percentile([0.1] * 96 + [math.inf] * 4, 0.95).value == 0.1


@quick
@given(st.lists(st.floats(0, 100), min_size=1, max_size=80), st.floats(0.01, 1.0))
def test_nearest_rank_is_the_least_value_that_covers_p(values: list[float], p: float) -> None:
    found = stats.nearest_rank(values, p)
    assert found in values
    assert sum(each <= found for each in values) >= p * len(values) - 1e-6
    assert sum(each < found for each in values) < p * len(values) + 1e-6


@quick
@given(st.integers(59, 200), st.sampled_from([0.5, 0.9, 0.95]), st.sampled_from([0.9, 0.95]))
def test_an_interval_covers_at_least_what_was_asked(n: int, p: float, confidence: float) -> None:
    found = stats.percentile([float(each) for each in range(n)], p, confidence=confidence)
    assert found.interval is not None
    assert found.confidence is not None
    assert found.value is not None
    assert found.interval[0] <= found.value <= found.interval[1]
    assert found.confidence >= confidence - 1e-9


@quick
@given(st.integers(1, 70), st.floats(0.03, 0.97), st.sampled_from([0.8, 0.95]))
def test_few_samples_give_an_interval_that_covers_enough_or_none(n: int, p: float, confidence: float) -> None:
    found = stats.percentile([float(each) for each in range(n)], p, confidence=confidence)
    enough = p**n + (1 - p) ** n <= 1 - confidence
    assert (found.interval is not None) == enough
    assert found.confidence is None or found.confidence >= confidence - 1e-9


def test_a_median_of_five_is_too_few() -> None:
    assert stats.percentile([1.0] * 5, 0.5).note == "n too small: 5 of the 6 that p50 needs"
    assert stats.percentile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.5).interval == (1.0, 6.0)


@pytest.mark.parametrize("pairs", [6, 9, 12])
def test_the_interval_of_skewed_ratios_covers_their_median(pairs: int) -> None:
    source, hits, low = random.Random(pairs), 0, 0
    for _ in range(600):
        found = stats.median_of_pairs([source.lognormvariate(0.0, 1.0) for _ in range(pairs)])
        assert found.interval is not None
        hits += found.interval[0] <= 1.0 <= found.interval[1]
        low += found.interval[0] <= 1.0
    assert found.confidence is not None
    # Two standard errors of 600 trials are 0.018.
    assert abs(hits / 600 - found.confidence) <= 0.018
    assert low / 600 >= 0.975 - 0.013


def test_an_interval_covers_the_true_quantile_as_often_as_it_says() -> None:
    source = random.Random(1)
    hits = 0
    for _ in range(300):
        found = stats.percentile([source.random() for _ in range(60)], 0.9)
        assert found.interval is not None
        hits += found.interval[0] <= 0.9 <= found.interval[1]
    assert hits / 300 >= 0.93


@quick
@given(st.integers(1, 120), st.data())
def test_clopper_pearson_bounds_are_where_the_exact_tails_are(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = stats.share_interval(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    if hits:
        assert 1 - stats.binomial_cdf(hits - 1, n, low) == pytest.approx(0.025, abs=1e-6)
    if hits < n:
        assert stats.binomial_cdf(hits, n, high) == pytest.approx(0.025, abs=1e-6)


@quick
@given(st.integers(1, 60), st.floats(0, 1))
def test_binomial_sums_agree_with_exact_arithmetic(n: int, p: float) -> None:
    k = n // 3
    exact = math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
    assert stats.binomial_cdf(k, n, p) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(
    ("hits", "n", "outcome"),
    [
        (59, 59, "passed"),
        (58, 58, "inconclusive"),
        (92, 93, "passed"),
        (91, 93, "inconclusive"),
        (80, 93, "failed"),
        (0, 0, "inconclusive"),
    ],
)
def test_a_share_of_95_percent_is_proven_refuted_or_open(hits: int, n: int, outcome: stats.Outcome) -> None:
    assert stats.decide_share(hits, n, 0.95) == outcome


def test_dispersion_tells_even_random_and_bursty_arrivals_apart() -> None:
    assert stats.dispersion([0.5, 1.5, 2.5, 3.5], 0, 4) == 0
    assert stats.dispersion([0.1, 0.2, 0.3, 0.4], 0, 4) == pytest.approx(4)
    assert stats.dispersion([0.5], 0, 1) is None
    assert stats.dispersion([], 0, 10) is None
    assert stats.dispersion([-1.0, 0.5, 1.5, 9.0], 0, 2) == 0


def test_questions_without_an_answer_are_refused() -> None:
    with pytest.raises(HarnessError) as caught:
        stats.nearest_rank([], 0.5)
    assert str(caught.value) == "a percentile of 0 values at p=0.5 was asked for; give values and 0 < p <= 1"
    for ask in (lambda v: stats.nearest_rank(v, 0.5), stats.median_of_pairs, lambda v: stats.percentile(v, 0.5)):
        with pytest.raises(HarnessError) as caught:
            ask([1.0] * 9 + [math.nan])
        assert str(caught.value) == "one of the values is not a number; a failure counts as infinite, not as nothing"
    with pytest.raises(HarnessError) as caught:
        stats.share_interval(3, 2)
    assert str(caught.value) == ("a share of 3 hits in 2 trials was asked for; hits are from 0 to n, and n is above 0")
    with pytest.raises(HarnessError) as caught:
        stats.smallest_n(1.0)
    assert str(caught.value) == "a p of 1 was asked for; it lies between 0 and 1"


def stalls(source: random.Random, n: int, share: float) -> list[bool]:
    """Outcomes of which so many are hits, where a miss is followed by another four times out of five."""
    found, bad = [], source.random() > share
    for _ in range(n):
        found.append(not bad)
        bad = source.random() < (0.8 if bad else 0.2 * (1 - share) / share)
    return found


def test_outcomes_that_share_their_fate_are_worth_less() -> None:
    clumped = [True] * 135 + [False] * 15
    assert stats.effective(clumped) == stats.Counts(7, 8, 8)
    assert stats.effective([True] * 150) == stats.Counts(150, 150, 150)
    assert stats.effective(([True] * 9 + [False]) * 15) == stats.Counts(135, 135, 150)
    assert stats.effective([True, False]) == stats.Counts(1, 1, 2)
    found = stats.share_over_time(clumped)
    assert (found.value, found.n, found.interval) == (
        0.9,
        150,
        (stats.share_at_least(7, 8, confidence=0.975), 1.0),
    )
    assert found.note == "neighbours share their fate: 150 outcomes prove as much as 8"
    assert stats.share_over_time([]).note == "n too small: there are no outcomes"


def test_stalls_lead_to_no_verdict_where_counting_alone_would() -> None:
    source = random.Random(8)
    plain = careful = 0
    for _ in range(200):
        outcomes = stalls(source, 150, 0.9)
        plain += stats.decide_share(sum(outcomes), 150, 0.9, confidence=0.975) == "failed"
        interval = stats.share_over_time(outcomes).interval
        assert interval is not None
        careful += interval[1] < 0.9
    assert plain / 200 > 0.15
    assert careful / 200 <= 0.025


@quick
@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_what_outcomes_are_worth_is_never_more_than_they_are(outcomes: list[bool]) -> None:
    counts = stats.effective(outcomes)
    assert 0 <= counts.fewest <= counts.most <= counts.n <= len(outcomes)
    low, high = stats.share_interval(sum(outcomes), len(outcomes))
    found = stats.share_over_time(outcomes).interval
    assert found is None or (found[0] <= low + 1e-9 and high <= found[1] + 1e-9)


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        ((0.9, 0.95), "passed"),
        ((0.89, 0.95), "inconclusive"),
        ((0.5, 0.9), "inconclusive"),
        ((0.5, 0.89), "failed"),
        (None, "inconclusive"),
    ],
)
def test_an_interval_proves_a_goal_that_it_begins_at_and_refutes_one_above_it(
    interval: tuple[float, float] | None, outcome: str
) -> None:
    assert stats.decide(stats.Estimate(value=0.9, n=10, interval=interval), 0.9) == outcome
