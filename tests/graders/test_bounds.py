"""Gauges and counters looked at during the load, and buckets that hide a tail, each in whole sentences."""

import math

import msgspec
import pytest

from graders.bounds import Disagreement, hidden_tail, path
from graders.metrics import VLLM, Histogram
from tests.graders.honest_engine import TTFT, books, gauges, judged, number


@pytest.mark.parametrize(("part", "shown"), [(0.0, 0.0), (0.5, 0.7), (1.5, 2.2)])
def test_gauges_that_show_other_than_rate_times_latency_break_littles_law(part: float, shown: float) -> None:
    client = books()
    assert judged(client=client, during=gauges(client, part=part)).disagreements == (
        Disagreement(
            "littles_law",
            "requests in the server: expected 1.5 to 1.5 within 10%, which is the client's rate times latency, "
            f"observed {shown} on average by vllm:num_requests_running and vllm:num_requests_waiting in 40 scrapes",
        ),
    )


def test_counters_that_wait_for_the_end_of_the_load_are_seen() -> None:
    client = books()
    late = [
        [msgspec.structs.replace(each, text=number(VLLM.finished, lambda _: 3.0)(each.text)) for each in one]
        for one in gauges(client)
    ]
    assert judged(client=client, during=late).disagreements == (
        Disagreement(
            "counters_during",
            "finished requests 1.9 s into the load: expected 1 to 4, as the client counted, observed 0 by "
            "vllm:request_success_total",
        ),
    )


def test_buckets_can_hide_a_tail() -> None:
    found = judged().histograms["ttft"]
    assert list(hidden_tail("ttft", found, 0.004)) == []
    coarse = Histogram((0.3, math.inf), (5, 20), 20, 40)
    assert list(hidden_tail("ttft", coarse, 1.2)) == [
        Disagreement(
            "hidden_tail",
            "TTFT of 1200.0 ms: expected a bucket that ends at 3000.0 ms or before, observed the bucket from 0.3 to "
            "inf s, which hides the tail",
        )
    ]


def test_an_engine_need_not_know_of_a_request_in_its_first_step() -> None:
    client = books()
    late = books(flights=tuple((sent + TTFT, end) for sent, end in client.flights))
    rounds = gauges(late, rounds=200)
    assert judged(client=books(unseen=TTFT), during=rounds).disagreements == ()


def test_too_few_looks_at_the_gauges_say_nothing() -> None:
    client = books()
    found = judged(client=client, during=gauges(client, rounds=5))
    assert found.left_out == {"littles_law": "the gauges were looked at 5 times during the load, where 6 are needed"}
    assert "counters_during" in found.agreed
    assert judged(client=client).left_out["counters_during"] == "the counters were not looked at during the load"


def test_requests_without_a_complete_answer_may_be_in_the_server_or_not() -> None:
    client = books()
    during = gauges(client, part=0.0)
    assert [each.name for each in judged(client=client, during=during).disagreements] == ["littles_law"]
    found = judged(client=msgspec.structs.replace(client, finished=17, open=3), during=during)
    assert found.left_out["littles_law"] == "3 of 20 requests have no complete answer"


@pytest.mark.parametrize("value", ["NaN", "soon", "1e308"])
def test_gauges_that_are_absurd_never_agree(value: str) -> None:
    client = books()
    during = gauges(client)
    for one in during:
        one[0] = msgspec.structs.replace(
            one[0], text=one[0].text.replace(f"{VLLM.running} 1.0", f"{VLLM.running} {value}")
        )
    found = judged(client=client, during=during)
    if value == "1e308":
        assert [each.name for each in found.disagreements] == ["littles_law"]
    else:
        assert found.left_out["littles_law"] == "21 of 40 scrapes during the load tell nothing"


def test_the_path_is_what_the_client_sees_ttft_later() -> None:
    server = Histogram((1.0, math.inf), (2, 2), 2, 0.4)
    assert path(server, [0.3, 0.5]) == pytest.approx(0.2)
    assert path(server, [0.1, 0.1]) == 0.0
    assert path(server, [0.3]) == path(None, [0.3]) == path(Histogram((math.inf,), (0,), 0, 0), []) == 0.0


def test_requests_without_an_answer_may_be_in_the_server_or_not() -> None:
    client = books()
    broken = client.flights[:5]
    without = books(flights=client.flights[5:], open_flights=broken, open=5, finished=15)
    for shown in (client, books(flights=client.flights[5:])):
        assert "littles_law" not in [each.name for each in judged(client=without, during=gauges(shown)).disagreements]
