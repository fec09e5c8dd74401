"""What is shown while something is waited for, where the output is a log."""

import io

from clusters.progress import Display


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_a_phase_and_one_every_few_seconds() -> None:
    clock, log = Clock(), io.StringIO()
    with Display(log, clock) as display:
        display("compiling: 1 of 3")
        clock.now += 1
        display("compiling: 2 of 3")
        clock.now += 5
        display("compiling: 3 of 3")
        display("waiting for kube-apiserver")
    assert log.getvalue().splitlines() == [
        "[  0.0 s] compiling: 1 of 3",
        "[  6.0 s] compiling: 3 of 3",
        "[  6.0 s] waiting for kube-apiserver",
    ]


def test_the_time_in_each_phase_is_added_up() -> None:
    clock = Clock()
    display = Display(io.StringIO(), clock)
    for text, seconds in (("a: 1", 1.0), ("b", 5.0), ("a: 2", 2.0)):
        display(text)
        clock.now += seconds
    assert display.spent() == {"b": 5.0, "a": 3.0}
    assert display.timeline() == [(0.0, 1.0, "a"), (1.0, 5.0, "b"), (6.0, 2.0, "a")]


def test_nothing_was_waited_for_in_a_display_that_was_told_nothing() -> None:
    assert Display(io.StringIO(), Clock()).timeline() == []
    assert Display(io.StringIO(), Clock()).spent() == {}
