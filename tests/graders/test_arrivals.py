"""Schedules: the process that was asked for, the same from the same seed, and never rescaled."""

import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders import arrivals, stats
from graders.arrivals import Schedule
from graders.errors import HarnessError

quick = settings(derandomize=True, max_examples=20, deadline=None)
rates = st.floats(min_value=0.1, max_value=50)
lengths = st.floats(min_value=0.1, max_value=20)
seeds = st.integers(min_value=0, max_value=2**32)


def gaps(schedule: Schedule) -> list[float]:
    return [later - sooner for sooner, later in pairwise((0.0, *schedule.times))]


def test_constant_arrivals_are_evenly_spaced_from_zero() -> None:
    assert arrivals.constant(4, 1).times == (0.0, 0.25, 0.5, 0.75)
    assert stats.dispersion(arrivals.constant(4, 100).times, 0, 100) == 0


@quick
@given(rates, lengths, seeds)
def test_times_ascend_inside_the_length_and_come_from_the_seed(rate: float, seconds: float, seed: int) -> None:
    made = [arrivals.poisson(rate, seconds, seed), arrivals.gamma(rate, seconds, seed, 0.5)]
    for schedule in made:
        assert list(schedule.times) == sorted(schedule.times)
        assert all(0 <= time < seconds for time in schedule.times)
    assert made == [arrivals.poisson(rate, seconds, seed), arrivals.gamma(rate, seconds, seed, 0.5)]


@quick
@given(rates, lengths, seeds)
def test_a_longer_schedule_begins_with_the_shorter_one(rate: float, seconds: float, seed: int) -> None:
    short, long = arrivals.poisson(rate, seconds, seed), arrivals.poisson(rate, 2 * seconds, seed)
    assert long.times[: len(short.times)] == short.times


def test_a_poisson_process_has_exponential_gaps() -> None:
    schedule = arrivals.poisson(40, 250, seed=7)
    found = gaps(schedule)
    assert len(found) == pytest.approx(10_000, abs=4 * math.sqrt(10_000))
    assert statistics.stdev(found) / statistics.mean(found) == pytest.approx(1, abs=0.05)
    assert stats.dispersion(schedule.times, 0, 250) == pytest.approx(1, abs=4 * math.sqrt(2 / 249))


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_have_the_variation_that_burstiness_means(burstiness: float) -> None:
    found = gaps(arrivals.gamma(50, 200, 3, burstiness))
    assert statistics.mean(found) == pytest.approx(1 / 50, rel=0.1)
    assert statistics.stdev(found) / statistics.mean(found) == pytest.approx(1 / math.sqrt(burstiness), rel=0.05)


@quick
@given(st.integers(1, 200), st.integers(1, 9))
def test_shards_are_every_nth_index_and_together_all(count: int, workers: int) -> None:
    for schedule in (Schedule(kind="constant", times=tuple(map(float, range(count)))), arrivals.closed(count)):
        parts = arrivals.shard(schedule, workers)
        assert len(parts) == workers
        assert sorted(index for part in parts for index in part) == list(range(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_digest_tells_schedules_apart_and_stays_the_same() -> None:
    made = [arrivals.poisson(5, 2, 1), arrivals.poisson(5, 2, 2), arrivals.closed(8), arrivals.closed(9)]
    assert len({arrivals.digest(each) for each in made}) == 4
    assert arrivals.digest(arrivals.closed(8)) == "089a1532789eededebf827ede9850bc85f9cd5c26e7f6eba7379119a6b10c759"
    assert arrivals.digest(arrivals.poisson(5, 2, 1)) == arrivals.digest(arrivals.poisson(5.0, 2, 1))


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(HarnessError) as caught:
        arrivals.poisson(0, 10, 1)
    assert str(caught.value) == "a schedule was asked for with a rate of 0; it must be above 0"
    with pytest.raises(HarnessError) as caught:
        arrivals.gamma(1, 10, 1, burstiness=-1)
    assert str(caught.value) == "a schedule was asked for with a burstiness of -1; it must be above 0"
    with pytest.raises(HarnessError) as caught:
        arrivals.closed(0)
    assert str(caught.value) == "a schedule was asked for with a number of streams of 0; it must be above 0"
