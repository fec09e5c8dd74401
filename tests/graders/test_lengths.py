"""Lengths: within their ends, with the distribution that was asked for, one random number each."""

import math
import statistics
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders.errors import HarnessError
from graders.lengths import Fixed, Lengths, Lognormal, Uniform
from graders.seeds import source

quick = settings(derandomize=True, max_examples=30, deadline=None)


def drawn(lengths: Lengths, count: int, seed: int = 1) -> list[int]:
    draws = source(seed, "lengths")
    return [lengths.draw(draws) for _ in range(count)]


@quick
@given(st.integers(1, 500), st.integers(0, 500), st.floats(1, 600), st.floats(0.05, 3), st.integers(0, 2**32))
def test_lengths_stay_within_their_ends_and_come_from_the_seed(
    low: int, more: int, median: float, sigma: float, seed: int
) -> None:
    made: list[Lengths] = [Uniform(low, low + more)]
    middle = min(max(median, low), low + more)
    made.append(Lognormal(middle, sigma, low, low + more))
    for each in made:
        found = drawn(each, 50, seed)
        assert all(low <= tokens <= low + more for tokens in found)
        assert found == drawn(each, 50, seed)


def test_each_length_takes_one_random_number() -> None:
    for each in (Fixed(3), Uniform(1, 9), Lognormal(5, 1, 1, 100)):
        draws, other = source(1, "lengths"), source(1, "lengths")
        each.draw(draws)
        other.random()
        assert draws.random() == other.random()


def test_uniform_lengths_come_equally_often() -> None:
    found = Counter(drawn(Uniform(3, 7), 10_000))
    assert sorted(found) == [3, 4, 5, 6, 7]
    assert all(each == pytest.approx(2000, abs=4 * math.sqrt(2000 * 0.8)) for each in found.values())


def test_lognormal_lengths_have_their_median_and_spread() -> None:
    found = drawn(Lognormal(200, 0.8, 1, 100_000), 10_000)
    assert statistics.median(found) == pytest.approx(200, rel=0.05)
    assert statistics.stdev(map(math.log, found)) == pytest.approx(0.8, rel=0.04)


def test_a_truncated_lognormal_heaps_nothing_up_at_its_ends() -> None:
    found = Counter(drawn(Lognormal(100, 1, 90, 110), 10_000))
    assert set(found) == set(range(90, 111))
    assert max(found[90], found[110]) < 1.5 * statistics.mean(found.values())


def test_a_length_far_in_the_tail_is_still_drawn() -> None:
    assert set(drawn(Lognormal(10, 0.5, 500, 510), 100)) <= set(range(500, 511))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Fixed(0),
            "a fixed length was asked for from 0 to 0 tokens; give at least 1, the smaller one first",
        ),
        (
            lambda: Uniform(5, 4),
            "a uniform length was asked for from 5 to 4 tokens; give at least 1, the smaller one first",
        ),
        (
            lambda: Lognormal(5, 1, 0, 4),
            "a log-normal length was asked for from 0 to 4 tokens; give at least 1, the smaller one first",
        ),
        (
            lambda: Lognormal(0, 1, 1, 4),
            "a log-normal length was asked for with a median of 0 and a sigma of 1; both must be above 0",
        ),
        (
            lambda: Lognormal(5, 0.01, 900, 901),
            "a log-normal length of median 5 and sigma 0.01 is never from 900 to 901 tokens; "
            "give ends around the median",
        ),
    ],
)
def test_impossible_lengths_are_refused(make: Callable[[], Lengths], said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        make()
    assert str(caught.value) == said
