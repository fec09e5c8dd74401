"""Contrasts between groups of requests: exact against known values, and silent where chance explains them."""

import math
import random

import pytest

from graders.contrast import fails_more, fisher, slower


@pytest.mark.parametrize(
    ("hits", "n", "others", "m", "chance"),
    [
        (4, 4, 0, 4, 1 / 70),  # the lady tasting tea (Fisher 1935, chapter 2)
        (3, 4, 1, 4, 17 / 70),
        (0, 4, 4, 4, 1.0),
        (0, 5, 0, 5, 1.0),
        (2, 2, 3, 10, 5 / 33),  # (12 choose 5) draws, of which (10 choose 3) have both
        (600, 5000, 400, 5000, 1.4368977673e-11),
    ],
)
def test_fishers_exact_test(hits: int, n: int, others: int, m: int, chance: float) -> None:
    assert fisher(hits, n, others, m) == pytest.approx(chance)


def test_a_group_that_is_slower_is_found_with_its_factor() -> None:
    fast = [0.001 * number for number in range(10, 28)]
    assert slower([3 * each for each in fast], fast) == pytest.approx(3.0)
    assert slower(fast, [3 * each for each in fast]) is None
    assert slower([math.inf] * 18, fast) == math.inf
    assert slower([], fast) is None
    assert slower([1.0, 1.1], [0.1, 0.2]) is None  # too few to say


def test_equal_groups_are_not_told_apart() -> None:
    draw = random.Random(1)
    for _ in range(500):
        values = [draw.lognormvariate(0, 1) for _ in range(36)]
        assert slower(values[:18], values[18:]) is None


def test_failures_that_fall_on_one_group_are_found() -> None:
    assert fails_more([True] * 10 + [False] * 2, [False] * 20)
    assert not fails_more([True] * 10, [True] * 20)
    assert not fails_more([False] * 10, [False] * 20)
    assert not fails_more([True, False], [False, False])
    assert not fails_more([True] * 4 + [False] * 2, [False] * 8, looks=100)
