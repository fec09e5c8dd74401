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


@quick
@given(rates, rates, lengths, seeds)
def test_a_ramp_ascends_inside_its_length_and_comes_from_the_seed(
    rate: float, end_rate: float, seconds: float, seed: int
) -> None:
    schedule = arrivals.ramp(rate, end_rate, seconds, seed)
    assert list(schedule.times) == sorted(schedule.times)
    assert all(0 <= time < seconds for time in schedule.times)
    assert schedule == arrivals.ramp(rate, end_rate, seconds, seed)


@pytest.mark.parametrize(("rate", "end_rate"), [(0, 40), (40, 0), (10, 30)])
def test_a_ramp_has_the_rate_of_each_moment(rate: float, end_rate: float) -> None:
    times = arrivals.ramp(rate, end_rate, 400, seed=11).times
    for part in range(4):
        expected = 100 * (rate + (end_rate - rate) * (part + 0.5) / 4)
        found = sum(100 * part <= time < 100 * part + 100 for time in times)
        assert found == pytest.approx(expected, abs=4 * math.sqrt(expected))


@quick
@given(rates, lengths, seeds)
def test_a_ramp_between_equal_rates_is_a_poisson_process(rate: float, seconds: float, seed: int) -> None:
    assert arrivals.ramp(rate, rate, seconds, seed).times == pytest.approx(arrivals.poisson(rate, seconds, seed).times)


@quick
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_mean_rates_are_those_that_were_asked_for(seed: int, rate: int) -> None:
    seconds = 2000 / rate
    for schedule, variation in (
        (arrivals.poisson(rate, seconds, seed), 1),
        (arrivals.gamma(rate, seconds, seed, 0.25), 2),
        (arrivals.gamma(rate, seconds, seed, 4), 0.5),
        (arrivals.ramp(0, 2 * rate, seconds, seed), 1),
    ):
        assert len(schedule.times) == pytest.approx(2000, abs=5 * variation * math.sqrt(2000))
    assert len(arrivals.constant(rate, seconds).times) == pytest.approx(2000, abs=1)


def test_recorded_times_are_kept_as_they_are() -> None:
    assert arrivals.recorded([0, 0.5, 0.5, 7]) == Schedule(kind="trace", times=(0.0, 0.5, 0.5, 7.0))


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
    with pytest.raises(HarnessError) as caught:
        arrivals.ramp(0, 0, 10, 1)
    assert str(caught.value) == (
        "a ramp was asked for from 0 to 0 requests per second in 10 s; "
        "give rates of 0 or more, one of them above 0, and a length above 0"
    )


@pytest.mark.parametrize("times", [[], [-1.0], [1.0, 0.5]])
def test_recorded_times_that_do_not_ascend_are_refused(times: list[float]) -> None:
    with pytest.raises(HarnessError) as caught:
        arrivals.recorded(times)
    assert str(caught.value) == (
        "a schedule was asked for from times that do not ascend from 0; cut the trace and sort it"
    )
