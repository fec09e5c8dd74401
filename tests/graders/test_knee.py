"""The search for the knee: which loads are probed, and what is concluded."""

from collections.abc import Sequence

import hypothesis
import hypothesis.strategies as st
import pytest

from graders.errors import HarnessError
from graders.knee import Knee, decide_knee, knee, next_rung
from graders.stats import Outcome

LADDER = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)


def search(ladder: Sequence[float], capacity: float) -> dict[float, Outcome]:
    """All probes of a server that holds loads up to `capacity`."""
    outcomes: dict[float, Outcome] = {}
    while (rung := next_rung(ladder, outcomes)) is not None:
        outcomes[rung] = "passed" if rung <= capacity else "failed"
    return outcomes


@pytest.mark.parametrize(
    ("capacity", "probes", "found"),
    [
        (0.5, [3.0, 1.5, 1.0], Knee(held=None, not_held=1.0)),
        (2.5, [3.0, 1.5, 2.0], Knee(held=2.0, not_held=3.0)),
        (4.5, [3.0, 5.0, 4.0], Knee(held=4.0, not_held=5.0)),
        (9.0, [3.0, 5.0, 6.0], Knee(held=6.0, not_held=None)),
    ],
)
def test_it_bisects_the_ladder(capacity: float, probes: list[float], found: Knee) -> None:
    outcomes = search(LADDER, capacity)

    assert list(outcomes) == probes
    assert knee(outcomes) == found


@hypothesis.given(st.sets(st.integers(1, 1000), min_size=1, max_size=40), st.integers(0, 1001))
def test_it_always_finds_the_highest_rung_that_holds(rungs: set[int], capacity: int) -> None:
    ladder = [float(rung) for rung in sorted(rungs)]

    outcomes = search(ladder, capacity)

    assert knee(outcomes).held == max((rung for rung in ladder if rung <= capacity), default=None)
    assert len(outcomes) <= len(ladder).bit_length()


def test_a_probe_too_close_to_call_is_not_held_and_not_refuted() -> None:
    outcomes: dict[float, Outcome] = {3.0: "inconclusive"}

    assert next_rung(LADDER, outcomes) == 1.5
    assert knee(outcomes) == Knee(held=None, not_held=3.0)
    assert decide_knee(outcomes, 3.0) == "inconclusive"


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ({3.0: "passed"}, "passed"),
        ({5.0: "passed", 3.0: "failed"}, "passed"),
        ({3.0: "failed"}, "failed"),
        ({2.0: "failed"}, "failed"),
        ({4.0: "failed", 2.0: "passed"}, "inconclusive"),
        ({}, "inconclusive"),
    ],
)
def test_the_goal_is_decided_by_rungs_on_its_side(outcomes: dict[float, Outcome], verdict: Outcome) -> None:
    assert decide_knee(outcomes, 3.0) == verdict


def test_a_ladder_that_does_not_ascend_is_refused() -> None:
    with pytest.raises(HarnessError) as caught:
        next_rung([1.0, 1.0], {})
    assert str(caught.value) == "a ladder of loads has to ascend, and this one is [1.0, 1.0]; correct it"


def test_a_probe_off_the_ladder_is_refused() -> None:
    with pytest.raises(HarnessError) as caught:
        next_rung([1.0, 2.0], {1.5: "passed"})
    assert str(caught.value) == "a load of 1.5 was probed, which is no rung of [1.0, 2.0]"
