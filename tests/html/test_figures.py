"""Which plots loads get, with which lines, bounds and words."""

import pytest

from graders.html.figures import labels, of_loads
from graders.html.loads import Group, groups, loads_of
from graders.html.plots import STYLES, Bound, Panel
from graders.samples import Run
from tests.html.runs import Told, even, load_run


def found(runs: dict[str, Run]) -> tuple[Group, ...]:
    return groups(load for name, run in runs.items() for load in loads_of(name, run))


def drawn(runs: dict[str, Run], **bounds: float) -> Panel:
    panel = of_loads(found(runs), bounds)
    assert panel is not None
    return panel


PAIRS = {
    f"throughput-1-{pair}-{side}": load_run(even(30, 0.1, ttft=ttft), streams=4, started_at=pair)
    for pair in (1, 2)
    for side, ttft in (("baseline", 1.5), ("submission", 0.02))
}


def test_two_sides_in_a_closed_loop_are_compared() -> None:
    panel = drawn(PAIRS)
    assert [(key.label, key.style) for key in panel.legend] == [("submission", 0), ("baseline", 1)]
    first, pace, tokens = panel.plots
    assert [plot.title for plot in panel.plots] == ["Time to first token", "Time per output token", "Tokens over time"]
    assert first.words == (
        "submission: median 20 ms (20 to 20), p90 20 ms (20 to 20)",
        "baseline: median 1,500 ms (1,500 to 1,500), p90 1,500 ms (1,500 to 1,500)",
    )
    assert (first.log_x, first.bounds, [line.shape for line in first.lines]) == (True, (), ["steps", "steps"])
    assert pace.words == (
        "submission: median 4 ms (4 to 4), p90 4 ms (4 to 4)",
        "baseline: median 4 ms (4 to 4), p90 4 ms (4 to 4)",
    )
    assert tokens.span == (0.5, 4.5)
    assert tokens.words[-1] == "Of 2 runs each, the one of the median rate is shown."


def test_bounds_are_lines_and_words() -> None:
    told = [Told(1.0, 0.02), Told(2.0, 0.06), Told(3.0, None), Told(4.0, None)]
    panel = drawn({"objective-1-submission": load_run(told, rate=1.0)}, ttft=0.05, tpot=0.0065)
    first, pace, requests = panel.plots
    assert first.bounds == (Bound(50.0, "objective 50 ms", "x"),)
    assert first.words == ("median n too small (4 of 6), p90 n too small (4 of 29)", "Objective 50 ms")
    assert first.lines[0].points[-1][1] == 0.5
    assert pace.bounds == (Bound(6.5, "objective 6.5 ms", "x"),)
    assert requests.bounds == (Bound(50.0, "objective 50 ms", "y"),)
    assert requests.words == ("2 answered, 2 failed (crosses)", "Objective 50 ms")
    assert [(line.shape, len(line.points)) for line in requests.lines] == [("dots", 2), ("failures", 2)]


def test_where_nothing_was_answered_there_are_crosses_only() -> None:
    panel = drawn({"loss-1-submission": load_run([Told(1.0, None), Told(2.0, None)], rate=1.0)})
    (requests,) = panel.plots
    assert (requests.title, requests.words) == ("Requests over time", ("0 answered, 2 failed (crosses)",))
    assert [line.shape for line in requests.lines] == ["failures"]


def test_of_many_kinds_of_load_some_are_drawn_the_first_and_the_last_among_them() -> None:
    runs = {f"knee-1-{rate}-submission": load_run(even(8, 0.5), rate=rate, started_at=rate) for rate in range(1, 9)}
    panel = drawn(runs)
    assert len(panel.legend) == STYLES
    assert panel.legend[0].label == "1 requests/s"
    assert panel.legend[-1].label == "8 requests/s (of 8 kinds of load 5 are drawn)"


def test_without_loads_there_is_nothing_to_draw() -> None:
    assert of_loads((), {}) is None


@pytest.mark.parametrize(
    ("sides", "rates", "expected"),
    [
        (["submission"], [2], ["submission, 2 requests/s"]),
        (["submission", "baseline"], [2, 2], ["submission", "baseline"]),
        (["submission", "submission"], [2, 3], ["2 requests/s", "3 requests/s"]),
        (["submission", "baseline"], [2, 3], ["submission, 2 requests/s", "baseline, 3 requests/s"]),
    ],
)
def test_labels_tell_apart_and_no_more(sides: list[str], rates: list[int], expected: list[str]) -> None:
    runs = [Group(side, f"{rate} requests/s", ()) for side, rate in zip(sides, rates, strict=True)]
    assert labels(runs) == expected
