"""The steady part of a window: levels, ramps, queues that grow, and how often chance is taken for one of them."""

import math
import random

import pytest

from graders.errors import HarnessError
from graders.steady import settled


def noise(seed: int, count: int) -> list[float]:
    source = random.Random(seed)
    return [source.expovariate(1.0) for _ in range(count)]


def test_a_level_is_hardly_ever_denied_and_little_of_it_left_out() -> None:
    found = [settled(noise(seed, 150)) for seed in range(200)]
    assert found.count(None) <= 2
    assert sum(each or 0 for each in found) / 200 < 0.1 * 150


def test_a_ramp_is_left_out() -> None:
    found = [
        settled([5.0 * (place < 30) + value for place, value in enumerate(noise(seed, 150))]) for seed in range(50)
    ]
    assert found.count(None) <= 2
    assert sorted(-1 if each is None else each for each in found)[25] == 30


@pytest.mark.parametrize("sign", [1, -1])
def test_a_queue_that_grows_or_drains_has_no_level(sign: int) -> None:
    found = [
        settled([10.0 + sign * 5.0 * place / 150 + value for place, value in enumerate(noise(seed, 150))])
        for seed in range(50)
    ]
    assert found.count(None) >= 45


def test_values_that_depend_on_those_before_them_are_still_a_level() -> None:
    source, denied = random.Random(4), 0
    for _ in range(100):
        level, values = 0.0, []
        for _ in range(150):
            level = 0.7 * level + source.gauss(0, 1)
            values.append(level)
        denied += settled(values) is None
    assert denied <= 3


def test_exact_cases() -> None:
    assert settled([3.0] * 80) == 0
    assert settled([9.0] * 10 + [3.0] * 70) == 10
    assert settled([float(place) for place in range(100)]) is None
    assert settled([math.inf] * 5 + [1.0, 2.0] * 40) == settled([2.0] * 5 + [1.0, 2.0] * 40)


@pytest.mark.parametrize("values", [[1.0] * 79, [math.nan] * 80])
def test_too_few_values_and_none_are_refused(values: list[float]) -> None:
    with pytest.raises(HarnessError) as caught:
        settled(values)
    assert str(caught.value) == (f"the steady part of {len(values)} values was asked for; give at least 80 numbers")
