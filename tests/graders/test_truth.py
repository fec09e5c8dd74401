"""The load generator recovers the truth at 1 and 16 streams and at open arrivals.

`benchmarks/truth.py` shows it up to its limit. On a machine that is busy with other things the client may say that it
was late; then it need not be right.
"""

from pathlib import Path

import msgspec
import pytest

from graders.arrivals import Schedule, closed, constant
from graders.plan import Plan, Target
from graders.samples import Run, Sample
from tests.graders import truth
from tests.graders.truth import ERROR_AFTER, SHAPES, Comparison, Figure, Log

pytestmark = pytest.mark.alone

TTFT, TPOT, TOKENS = 0.02, 0.005, 32
ONE_STREAM = closed(1)
OPEN_TTFT = 0.1
"""Of which 2 % are more than a client's timer, which tells 1 ms, and the opening of a connection make it late."""


@pytest.mark.parametrize("streams", [1, 16])
def test_the_truth_is_recovered(tmp_path: Path, streams: int) -> None:
    with truth.stub(TTFT, TPOT, tmp_path) as (child, target):
        plan = truth.plan_for(
            target, streams, ttft=TTFT, tpot=TPOT, tokens=TOKENS, window=2.4 / streams**0.5, ramp=0.1, seed=streams
        )
        found = truth.measure(child, plan, tmp_path)
    assert found.miscounted == ()
    assert found.answers >= len(SHAPES) - 1
    assert [each for each in found.figures if "p50" in each.name and not each.right] == [] or found.limits


def test_the_truth_is_recovered_from_the_planned_times_of_open_arrivals(tmp_path: Path) -> None:
    with truth.stub(OPEN_TTFT, TPOT, tmp_path) as (child, target):
        plan = truth.open_plan_for(target, 20.0, tokens=TOKENS, window=2.0, ramp=0.1, seed=20)
        found = truth.measure(child, plan, tmp_path)
    assert (found.streams, found.rate, found.miscounted) == (None, 20.0, ())
    assert found.answers >= len(SHAPES) - 1
    assert [each for each in found.figures if "p50" in each.name and not each.right] == [] or found.limits


def comparison(
    writes: tuple[tuple[float, int], ...],
    *,
    delay: float = 0.0,
    lost: int = 0,
    schedule: Schedule = ONE_STREAM,
    planned: float = 0.0,
) -> Comparison:
    """One request that came at once, whose stub wrote these, and whose client saw all but the last few `delay` late."""
    pieces = [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"]
    plan = Plan(
        target=Target(host="::1", port=1),
        requests=truth.plan_for(
            Target(host="::1", port=1), 1, ttft=1.0, tpot=1.0, tokens=4, window=1.0, ramp=0.0, seed=1
        ).requests,
        schedule=schedule,
        ramp=planned,
        window=10.0,
        seed=1,
    )
    for place, (_, tokens) in enumerate(writes[: len(writes) - lost]):
        finish = "length" if place == len(writes) - 1 else None
        choice = {"index": 0, "text": "x" * tokens, "token_ids": [1] * tokens, "finish_reason": finish}
        pieces.append(b"data: " + msgspec.json.encode({"model": "stub", "choices": [choice]}) + b"\n\n")
    usage = {"prompt_tokens": 8, "completion_tokens": sum(tokens for _, tokens in writes)}
    pieces.append(b"data: " + msgspec.json.encode({"usage": usage}) + b"\n\ndata: [DONE]\n\n")
    times = (0.0, *(time + delay for time, _ in writes[: len(writes) - lost]), writes[-1][0] + delay)
    sample = Sample(
        index=0,
        planned=planned,
        started=0.0,
        sent=0.0,
        times=times,
        sizes=tuple(map(len, pieces)),
        data=b"".join(pieces),
        end=times[-1],
        closed=True,
    )
    run = Run(plan, 100.0, 0.0, (), (sample,))
    log = Log(received=100.0, writes=tuple((100.0 + time, tokens) for time, tokens in writes), ended=None)
    return truth.compare(run, {"1-0": log})


def test_a_client_that_is_right_is_found_right() -> None:
    found = comparison(((0.1, 1), (0.2, 1), (0.3, 1), (0.5, 1)))
    assert found.right
    assert [(each.name, round(each.true, 9), round(each.measured, 9)) for each in found.figures] == [
        ("TTFT p50", 0.1, 0.1),
        ("TTFT p99", 0.1, 0.1),
        ("TPOT p50", 0.133333333, 0.133333333),
        ("TPOT p99", 0.133333333, 0.133333333),
        ("gap p50", 0.2, 0.2),
        ("gap p99", 0.2, 0.2),
    ]


def test_a_client_that_is_late_or_loses_tokens_is_found_wrong() -> None:
    late = comparison(((0.1, 1), (0.2, 1), (0.3, 1), (0.5, 1)), delay=0.003)
    assert [each.name for each in late.figures if not each.right] == ["TTFT p50", "TTFT p99"]
    assert not late.right
    assert comparison(((0.1, 1), (0.2, 1), (0.3, 1), (0.5, 1)), lost=1).miscounted == (0,)
    assert not comparison(((0.1, 1), (0.2, 1), (0.3, 1), (0.5, 1)), lost=1).right


def test_a_request_that_was_sent_late_is_found_wrong_where_it_counts_from_planned() -> None:
    writes = ((0.1, 1), (0.2, 1), (0.3, 1), (0.5, 1))
    late = comparison(writes, schedule=constant(1.0, 1.0), planned=-0.003)
    assert [each.name for each in late.figures if not each.right] == ["TTFT p50", "TTFT p99"]
    assert late.figure("TTFT p50").measured == pytest.approx(0.103)
    assert comparison(writes, planned=-0.003).right


@pytest.mark.parametrize(
    ("true", "measured", "right"),
    [(0.01, 0.0109, True), (0.01, 0.0111, False), (0.01, 0.0089, False), (1.0, 1.019, True), (1.0, 0.979, False)],
)
def test_a_figure_may_be_off_by_a_millisecond_or_two_percent(true: float, measured: float, right: bool) -> None:
    assert Figure("TTFT p50", true, measured).right is right


def test_an_error_that_the_client_did_not_see_is_miscounted() -> None:
    writes = tuple((0.1 * place, 1) for place in range(1, ERROR_AFTER + 1))
    assert comparison(writes).miscounted == (0,)
