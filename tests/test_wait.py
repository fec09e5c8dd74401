"""Waiting with a deadline, on a clock of the test's own."""

import pytest

from clusters.wait import WaitTimeout, until


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_returns_the_first_state_that_is_done() -> None:
    clock, states = Clock(), iter([1, 2, 3])
    found = until(
        lambda: next(states),
        lambda state: state == 2,
        what="two",
        seconds=9,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    assert found == 2
    assert next(states) == 3


def test_says_what_it_waited_for_and_saw_last() -> None:
    clock = Clock()
    with pytest.raises(WaitTimeout) as caught:
        until(lambda: "Pending", lambda _: False, what="the pod", seconds=2, clock=lambda: clock.now, sleep=clock.sleep)
    assert str(caught.value) == "waited 2 s for the pod; last seen: Pending"


def test_looks_once_even_without_time() -> None:
    assert until(lambda: True, bool, what="nothing", seconds=0, clock=lambda: 5.0) is True
