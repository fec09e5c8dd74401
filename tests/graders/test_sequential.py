"""Repeated looks: how often a claim is decided falsely, computed exactly and simulated; and what stops a check."""

import functools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders import sequential, stats
from graders.errors import HarnessError
from graders.stats import Outcome

quick = settings(derandomize=True, max_examples=40, deadline=None)


def ever(outcome: Outcome, true: float, goal: float, looks: int, confidence: float = 0.95) -> tuple[float, float]:
    """Probability that looks after each trial end with that outcome, and how many trials it takes on average.

    Exact: of the paths that no look has ended, the chance of each number of hits is followed from trial to trial.
    """
    going, found, trials = {0: 1.0}, 0.0, 0.0
    for n in range(1, looks + 1):
        trials += sum(going.values())
        after: dict[int, float] = {}
        for hits, chance in going.items():
            after[hits] = after.get(hits, 0.0) + chance * (1 - true)
            after[hits + 1] = after.get(hits + 1, 0.0) + chance * true
        going = {}
        for hits, chance in after.items():
            said = decided(hits, n, goal, confidence)
            found += chance * (said == outcome)
            if said == "inconclusive":
                going[hits] = chance
    return found, trials


@functools.cache
def decided(hits: int, n: int, goal: float, confidence: float) -> Outcome:
    return sequential.decide_share(hits, n, goal, confidence=confidence)


@pytest.mark.parametrize("goal", [0.5, 0.8, 0.95])
def test_false_decisions_under_every_look_stay_below_what_is_allowed(goal: float) -> None:
    # A share a hair below the goal is the hardest not to prove, one at the goal the hardest not to refute.
    assert 0.001 < ever("passed", goal - 1e-9, goal, 150)[0] <= 0.05
    assert 0.001 < ever("failed", goal, goal, 150)[0] <= 0.05


def test_one_look_rules_used_again_and_again_would_not_hold() -> None:
    once, again = functools.cache(stats.decide_share), functools.cache(sequential.decide_share)
    source = random.Random(5)
    wrong = {"once": 0, "again": 0}
    for _ in range(300):
        hits = 0
        said: dict[str, Outcome] = {"once": "inconclusive", "again": "inconclusive"}
        for n in range(1, 101):
            hits += source.random() < 0.9
            if n % 10 == 0:
                looks = {"once": once(hits, n, 0.9), "again": again(hits, n, 0.9)}
                said = {key: said[key] if said[key] != "inconclusive" else look for key, look in looks.items()}
        wrong = {key: wrong[key] + (said[key] == "failed") for key in wrong}
    # The share is 0.9, so each "failed" is false: 5 % are allowed, and looking ten times by the other rule breaks that.
    assert wrong["once"] / 300 > 0.1
    assert wrong["again"] / 300 <= 0.05


@pytest.mark.parametrize(
    ("goal", "confidence", "fewest"),
    [(0.5, 0.95, 7), (0.5, 0.975, 8), (0.9, 0.95, 43), (0.9, 0.975, 51), (0.95, 0.95, 88)],
)
def test_the_fewest_trials_that_prove_a_share_without_a_miss(goal: float, confidence: float, fewest: int) -> None:
    assert sequential.decide_share(fewest - 1, fewest - 1, goal, confidence=confidence) == "inconclusive"
    assert sequential.decide_share(fewest, fewest, goal, confidence=confidence) == "passed"


def test_a_share_well_off_the_goal_is_decided_soon() -> None:
    assert ever("failed", 0.99, 0.9, 100)[0] < 2e-4
    # These stand in docs/measurement.md.
    assert ever("passed", 1.0, 0.9, 300) == pytest.approx((1.0, 43))
    assert ever("passed", 0.97, 0.9, 300) == pytest.approx((0.994, 97), rel=0.005)
    assert ever("failed", 0.8, 0.9, 300) == pytest.approx((0.969, 102), rel=0.005)


@quick
@given(st.integers(1, 80), st.data())
def test_the_interval_holds_the_shares_that_are_not_decided(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = sequential.share_interval(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    exact = stats.share_interval(hits, n)
    assert low <= exact[0] + 1e-9
    assert exact[1] <= high + 1e-9
    for share in (low - 1e-6, low + 1e-6, high - 1e-6, high + 1e-6):
        if 0 < share < 1:
            said = sequential.decide_share(hits, n, share, confidence=0.975)
            assert said == ("passed" if share <= low else "failed" if share >= high else "inconclusive")


def test_an_interval_after_every_look_covers_the_share_in_all_of_them() -> None:
    bounds = functools.cache(sequential.share_interval)
    source = random.Random(2)
    missed = 0
    for _ in range(100):
        hits, inside = 0, True
        for n in range(1, 61):
            hits += source.random() < 0.8
            low, high = bounds(hits, n) if n % 5 == 0 else (0.0, 1.0)
            inside = inside and low <= 0.8 <= high
        missed += not inside
    assert missed <= 5


def test_outcomes_that_share_their_fate_are_decided_later() -> None:
    even = ([True] * 19 + [False]) * 10
    assert sequential.decide_outcomes(even, 0.85) == "passed"
    assert sequential.decide_outcomes([True] * 190 + [False] * 10, 0.85) == "inconclusive"
    assert sequential.decide_outcomes([False, True] * 20, 0.9) == "failed"
    assert sequential.decide_outcomes([True] * 43, 0.9) == "passed"
    assert sequential.decide_outcomes([], 0.9) == "inconclusive"


def test_looking_at_outcomes_again_and_again_decides_falsely_no_more_often() -> None:
    source = random.Random(6)
    wrong = 0
    for _ in range(200):
        outcomes: list[bool] = []
        said: Outcome = "inconclusive"
        for _ in range(15):
            outcomes += [source.random() < 0.9 for _ in range(10)]
            said = said if said != "inconclusive" else sequential.decide_outcomes(outcomes, 0.9)
        wrong += said == "failed"
    assert wrong / 200 <= 0.05


def test_the_interval_of_outcomes_in_time_decides_as_their_evidence_does() -> None:
    even = ([True] * 19 + [False]) * 10
    found = sequential.share_over_time(even)
    low, high = found.interval or (0.0, 0.0)
    assert (found.value, found.n, found.confidence) == (0.95, 200, 0.95)
    assert sequential.decide_outcomes(even, low, confidence=0.975) == "passed"
    assert sequential.decide_outcomes(even, low + 1e-6, confidence=0.975) == "inconclusive"
    assert sequential.decide_outcomes(even, high + 1e-6, confidence=0.975) == "failed"
    assert sequential.decide_outcomes(even, high - 1e-6, confidence=0.975) == "inconclusive"


def test_an_interval_is_wider_where_outcomes_share_their_fate_or_are_looked_at_often() -> None:
    alike, even = [True] * 190 + [False] * 10, ([True] * 19 + [False]) * 10
    often, once = sequential.share_over_time(even).interval, stats.share_over_time(even).interval
    together = sequential.share_over_time(alike).interval
    assert once
    assert often
    assert together
    assert together[0] < often[0] < once[0] < 0.95 < once[1] < often[1] < together[1]
    assert sequential.share_over_time([]).note == "n too small: there are no outcomes"


def test_the_median_comes_with_order_statistics() -> None:
    found = sequential.median([float(each) for each in range(1, 9)])
    assert (found.value, found.interval, found.confidence) == (4.5, (1.0, 8.0), 0.95)
    assert sequential.median([float(each) for each in range(1, 21)]).interval == (4.0, 17.0)
    few = sequential.median([1.0, 2.0, 3.0])
    assert (few.value, few.interval, few.note) == (2.0, None, "n too small: 3 values bound no median at 0.95")
    assert sequential.median([]).note == "n too small: there are no values"


def test_the_median_of_skewed_ratios_is_covered_at_all_looks_together() -> None:
    source = random.Random(3)
    missed = 0
    for _ in range(200):
        ratios: list[float] = []
        inside = True
        for _ in range(24):
            ratios.append(source.lognormvariate(0.0, 0.8))
            interval = sequential.median(ratios).interval
            inside = inside and (interval is None or interval[0] <= 1.0 <= interval[1])
        missed += not inside
    assert missed / 200 <= 0.05


class Clock:
    """Time that passes only while something is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def taking(self, seconds: float) -> Callable[[], float]:
        def take() -> float:
            self.now += seconds
            return self.now

        return take


def test_a_check_measures_until_it_is_decided() -> None:
    clock = Clock()
    outcome, parts = sequential.until_decided(
        clock.taking(8.0),
        lambda parts: "passed" if len(parts) == 7 else "inconclusive",
        seconds=100.0,
        clock=lambda: clock.now,
    )
    assert (outcome, len(parts), clock.now) == ("passed", 7, 56.0)


@pytest.mark.parametrize(("seconds", "taken"), [(0.0, 1), (23.9, 2), (24.0, 3)])
def test_no_part_is_begun_for_which_no_time_is_left(seconds: float, taken: int) -> None:
    clock = Clock()
    outcome, parts = sequential.until_decided(
        clock.taking(8.0), lambda _: "inconclusive", seconds=seconds, clock=lambda: clock.now
    )
    assert (outcome, len(parts)) == ("inconclusive", taken)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda: sequential.decide_share(3, 2, 0.5),
            "a share of 3 hits in 2 trials was asked for; hits are from 0 to n, and n is above 0",
        ),
        (
            lambda: sequential.decide_share(1, 2, 1.0),
            "a share of 1 cannot be proven or refuted; it lies between 0 and 1",
        ),
        (
            lambda: sequential.share_interval(1, 2, confidence=1.0),
            "a confidence of 1 was asked for; it lies between 0 and 1",
        ),
        (
            lambda: sequential.median([1.0, float("nan")]),
            "one of the values is not a number; a failure counts as infinite, not as nothing",
        ),
    ],
)
def test_questions_without_an_answer_are_refused(ask: Callable[[], object], said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        ask()
    assert str(caught.value) == said
