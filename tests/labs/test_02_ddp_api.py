"""What the data service of lab 02 answers, without sockets: to pods, to the grader, and to what it refuses."""

import json
from typing import Any

import numpy as np
import pytest

from ddp_api import Reply, Request, Rows
from ddp_lab.events import Story
from tests.labs.service_02_ddp import CALLER, JOB, SPEC, TOKEN, Service, data_of, run

BATCH = {"epoch": 0, "step": 0, "micro": 0, "indices": [3, 1]}
MEMBER = {"uid": "uid-1", "node": "gpu-1", "pid": 7, "rank": 1, "ticket": "0000000000000001"}
JOIN = {"node": "gpu-1", "pid": 7, "world": 2}


@pytest.fixture
def service() -> Service:
    """With one run, proof."""
    found = Service()
    assert found.control("PUT", "runs/proof", {**SPEC, "weights_at": [0]}) == {}
    return found


def error(answer: Reply) -> str:
    assert isinstance(answer.body, bytes)
    found = json.loads(answer.body)
    assert list(found) == ["error"]
    return str(found["error"])


def test_a_process_joins_introduces_itself_trains_and_ends(service: Service) -> None:
    job = service.told("POST", "/join", JOIN)
    assert (job["run"], job["ticket"], job["batch"], job["hidden"]) == ("proof", MEMBER["ticket"], 12, [5, 4])
    weights = service.ask("GET", "/weights").body
    assert weights == run().first_weights(CALLER)
    batch = service.ask("POST", "/batch", BATCH).body
    assert isinstance(batch, Rows)
    sent = bytearray(len(batch))
    batch.write(memoryview(sent))
    data = data_of(run().job, SPEC["data_seed"])
    assert sent == data.x[[3, 1]].tobytes() + data.y[[3, 1]].tobytes()
    assert service.told("POST", "/tick", {"step": 0}) == {}
    assert service.told("POST", "/introduce", {"members": [MEMBER], "backend": "gloo"}) == {}
    assert service.told("POST", "/report", {"step": 0, "loss": 0.5, "draw": 0.25}) == {"weights": True}
    assert service.told("POST", "/report", {"step": 1, "loss": 1, "draw": 0.25}) == {"weights": False}
    assert service.told("POST", "/weights?step=0", weights) == {}
    assert service.told("POST", "/finish", weights) == {}

    who = {"t": 100.0, "ip": "10.0.0.1", "uid": "uid-1", "rank": 1, "attempt": 0}
    events = service.events()
    assert [{name: value for name, value in each.items() if name not in who} for each in events] == [
        {"n": 0, "kind": "join", **JOIN, "ticket": MEMBER["ticket"]},
        {"n": 1, "kind": "batch", **BATCH, "sent": 144},
        {"n": 2, "kind": "tick", "step": 0},
        {"n": 3, "kind": "introduce", "members": [MEMBER], "backend": "gloo"},
        {"n": 4, "kind": "report", "step": 0, "loss": 0.5, "draw": 0.25},
        {"n": 5, "kind": "report", "step": 1, "loss": 1.0, "draw": 0.25},
        {"n": 6, "kind": "weights", "step": 0, "digest": events[7]["digest"], "bytes": len(weights)},
        {"n": 7, "kind": "finish", "digest": events[7]["digest"]},
    ]
    assert all(who.items() <= each.items() for each in events)
    for step in ("0", "finish"):
        asked = service.ask("GET", f"/control/runs/proof/weights?rank=1&step={step}", x_token=TOKEN)
        assert asked.body == weights


def test_a_part_may_have_no_samples(service: Service) -> None:
    batch = service.ask("POST", "/batch", {**BATCH, "indices": []})
    assert (batch.status, len(batch.body)) == (200, 0)
    assert service.events()[-1]["indices"] == []


def test_events_are_read_on_from_where_one_was(service: Service) -> None:
    for step in range(3):
        service.told("POST", "/tick", {"step": step})
    assert [each["step"] for each in service.events(since=1)] == [1, 2]
    assert service.control("GET", "runs/proof/events") == {"events": service.events(), "unlisted": 0, "now": 100.0}


def test_pods_do_not_get_a_run_before_it_is_there_and_that_is_no_news() -> None:
    service = Service()
    service.control("PUT", "runs/proof", SPEC)
    service.told("POST", "/join", JOIN)
    answer = service.ask("POST", "/join", JOIN, run="drill-1")
    assert (answer.status, error(answer)) == (404, "there is no run 'drill-1'")
    assert [each["kind"] for each in service.events()] == ["join"]


def test_a_run_is_there_once(service: Service) -> None:
    answer = service.ask("PUT", "/control/runs/proof", SPEC, x_token=TOKEN)
    said = "the run proof is there already; a run cannot be changed, give it another name"
    assert (answer.status, error(answer)) == (409, said)


def test_health_needs_no_token(service: Service) -> None:
    assert service.told("GET", "/control/health") == {}


def test_a_batch_waits_for_its_turn() -> None:
    service = Service()
    service.control("PUT", "runs/proof", {**SPEC, "until": 0})
    given: list[Any] = []
    service.turns.meanwhile = lambda: given.append(service.control("POST", "runs/proof/turn", {"until": 1}))
    assert service.ask("POST", "/batch", BATCH).status == 200
    assert given == [{"t": service.events()[0]["t"]}]  # when it was given is not for those to say who wait for it
    assert service.turns.waited == [600]


def test_a_batch_waits_for_the_pace() -> None:
    service = Service()
    service.control("PUT", "runs/proof", {**SPEC, "pace_seconds": 2})
    for step in (0, 0, 1, 2):
        assert service.ask("POST", "/batch", {**BATCH, "step": step}).status == 200
    assert service.turns.waited == [2, 2]
    assert [each["t"] for each in service.events()] == [100, 100, 102, 104]


def test_a_turn_that_never_comes_ends_with_a_sentence() -> None:
    service = Service()
    service.control("PUT", "runs/proof", {**SPEC, "until": 0})
    answer = service.ask("POST", "/batch", BATCH)
    said = "the batch of step 0 had no answer within 600 s; ask again"
    assert (answer.status, error(answer), service.clock.now) == (503, said, 700)
    assert [(each["kind"], each.get("why")) for each in service.events()] == [("refused", said)]


@pytest.mark.parametrize(
    ("drill", "status", "seconds"),
    [({"kind": "hang"}, 503, 600), ({"kind": "slow", "seconds": 1.5}, 200, 1.5), ({"kind": "unused"}, 200, 0)],
)
def test_a_tick_is_held_back_by_a_drill(drill: dict[str, Any], status: int, seconds: float) -> None:
    service = Service()
    service.control("PUT", "runs/proof", {**SPEC, "drills": [{"rank": 1, **drill}]})
    answer = service.ask("POST", "/tick", {"step": 0})
    assert (answer.status, service.clock.now - 100) == (status, seconds)
    assert service.events()[0]["t"] == 100  # when it came, not when it was answered
    assert status == 200 or error(answer) == "the tick of step 0 had no answer within 600 s; ask again"


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "why"),
    [
        ("GET", "/", None, 404, "nothing here answers GET '/'"),
        ("GET", "/batch", None, 404, "nothing here answers GET '/batch'"),
        ("POST", "/join", None, 400, "the body is no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("POST", "/join", b"[nonsense]", 400, "the body is no JSON: Expecting value: line 1 column 2 (char 1)"),
        ("POST", "/join", b"[" * 10**5, 400, "the body is nested too deeply to be read"),
        ("POST", "/join", [], 400, "the body of POST /join is [], where a JSON object belongs"),
        (
            "POST",
            "/join",
            {"node": "n"},
            400,
            "the body of POST /join has no pid and no world; it needs node, pid, world",
        ),
        ("POST", "/join", {**JOIN, "x": 1}, 400, "the body of POST /join has 'x'; it may have node, pid, world"),
        (
            "POST",
            "/join",
            {**JOIN, "node": "n" * 254},
            400,
            f"node is '{56 * 'n'}..., where text of 1 to 253 characters belongs",
        ),
        ("POST", "/batch", {**BATCH, "epoch": 2}, 400, "epoch is 2, where a whole number from 0 to 1 belongs"),
        ("POST", "/batch", {**BATCH, "step": 10}, 400, "step is 10, where a whole number from 0 to 9 belongs"),
        ("POST", "/batch", {**BATCH, "micro": 2}, 400, "micro is 2, where a whole number from 0 to 1 belongs"),
        ("POST", "/tick", {"step": "0"}, 400, "step is '0', where a whole number from 0 to 9 belongs"),
        (
            "POST",
            "/report",
            b'{"step": 0, "loss": NaN, "draw": 0}',
            400,
            "the body is no JSON: NaN is no number",
        ),
        (
            "POST",
            "/report",
            {"step": 0, "loss": None, "draw": 0},
            400,
            "loss is None, where a finite number belongs",
        ),
        ("POST", "/introduce", {"members": [MEMBER] * 65}, 400, "members has 65 entries, 64 at most"),
        ("POST", "/introduce", {"members": [1]}, 400, "a member is 1, where a JSON object belongs"),
        ("POST", "/weights?step=0", b"123", 400, "3 bytes of weights came, where 592 belong"),
        ("POST", "/weights?step=1", b"", 400, "the weights after step 1 are not wanted; report says when they are"),
        ("POST", "/weights", b"", 400, "step is '', where a whole number from 0 to 9 belongs"),
        ("POST", "/finish", b"", 400, "0 bytes of weights came, where 592 belong"),
    ],
)
def test_what_is_not_served_is_said_and_noted(
    service: Service, method: str, target: str, body: object, status: int, why: str
) -> None:
    answer = service.ask(method, target, body)
    assert (answer.status, error(answer)) == (status, why)
    noted = {"n": 0, "t": 100.0, "kind": "refused", "ip": "10.0.0.1", "uid": "uid-1", "rank": 1, "attempt": 0}
    assert service.events() == [{**noted, "what": f"{method} {target.partition('?')[0]}", "why": why}]


@pytest.mark.parametrize(
    ("indices", "why"),
    [
        (3, "indices is 3, where a list belongs"),
        (list(range(13)), "indices has 13 entries, 12 at most"),
        *[
            ([1, wrong], f"indices has {wrong!r}, where whole numbers from 0 to 49 belong")
            for wrong in (50, -1, 1.5, "1", None, [1, 2], 2**40, 2**70)
        ],
        ([True], "indices has True, where whole numbers from 0 to 49 belong"),
        ([[1], [2]], "indices has [1], where whole numbers from 0 to 49 belong"),
    ],
)
def test_indices_are_samples(service: Service, indices: object, why: str) -> None:
    answer = service.ask("POST", "/batch", {**BATCH, "indices": indices})
    assert (answer.status, error(answer)) == (400, why)
    assert [each["kind"] for each in service.events()] == ["refused"]


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ({"run": "other"}, 404, "there is no run 'other'"),
        ({"run": "a/b"}, 400, "'a/b' is no name of a run; it has small letters, digits, - and ., 63 at most"),
        ({"run": ""}, 400, "'' is no name of a run; it has small letters, digits, - and ., 63 at most"),
        ({"x_uid": ""}, 400, "the header X-Uid is '', where text of 1 to 64 characters belongs"),
        ({"x_rank": "-1"}, 400, "the header X-Rank is '-1', where a whole number from 0 to 1023 belongs"),
        ({"x_rank": ""}, 400, "the header X-Rank is None, where a whole number from 0 to 1023 belongs"),
        ({"x_rank": "²"}, 400, "the header X-Rank is '²', where a whole number from 0 to 1023 belongs"),
        ({"x_attempt": "1e3"}, 400, "the header X-Attempt is '1e3', where a whole number from 0 to 1000000 belongs"),
    ],
)
def test_who_is_in_no_run_is_noted_in_the_one_that_the_address_joined(
    service: Service, headers: dict[str, str], status: int, why: str
) -> None:
    answer = service.ask("POST", "/tick", {"step": 0}, **headers)
    assert (answer.status, error(answer)) == (status, why)
    assert service.events() == []  # nobody at this address joined any
    service.told("POST", "/join", JOIN)
    service.ask("POST", "/tick", {"step": 0}, **headers)
    nobody = {"ip": "10.0.0.1", "uid": "", "rank": -1, "attempt": 0}
    assert service.events()[1:] == [{"n": 1, "t": 100.0, "kind": "refused", **nobody, "what": "POST /tick", "why": why}]
    assert [event.why for event in Story.read(service.events()).of("refused")] == [why]


@pytest.mark.parametrize(
    ("method", "target"),
    [("PUT", "runs/own"), ("GET", "runs/proof/events"), ("POST", "runs/proof/turn"), ("GET", "nothing")],
)
@pytest.mark.parametrize("token", ["", "another", "ünknown"])
def test_control_is_the_graders(service: Service, method: str, target: str, token: str) -> None:
    answer = service.ask(method, f"/control/{target}", SPEC, x_token=token)
    said = "the header X-Token is not the grader's; nothing under /control is for pods"
    assert (answer.status, error(answer)) == (403, said)
    assert [(each["kind"], each["what"]) for each in service.events()] == [("refused", f"{method} /control/{target}")]


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "why"),
    [
        ("GET", "nothing", None, 404, "nothing here answers GET '/control/nothing'"),
        ("DELETE", "runs/proof", None, 404, "nothing here answers DELETE '/control/runs/proof'"),
        ("PUT", "runs/A", SPEC, 400, "'A' is no name of a run; it has small letters, digits, - and ., 63 at most"),
        (
            "PUT",
            "runs/new",
            {"job": JOB},
            400,
            "the run has no data_seed and no weights_seed; it needs job, data_seed, weights_seed",
        ),
        ("GET", "runs/other/events", None, 404, "there is no run 'other'"),
        ("POST", "runs/other/turn", {"until": 1}, 404, "there is no run 'other'"),
        ("POST", "runs/proof/turn", {}, 400, "the body of POST /control/runs/proof/turn has no until; it needs until"),
        (
            "GET",
            "runs/proof/events?since=x",
            None,
            400,
            "since is 'x', where a whole number from 0 to 2147483648 belongs",
        ),
        ("GET", "runs/proof/weights?rank=0&step=0", None, 404, "rank 0 of run proof brought no weights for step 0"),
        (
            "GET",
            "runs/proof/weights?rank=0&step=",
            None,
            400,
            "step is '', where a whole number from 0 to 2147483648 belongs",
        ),
    ],
)
def test_the_grader_is_refused_with_a_sentence_as_well(
    service: Service, method: str, target: str, body: object, status: int, why: str
) -> None:
    answer = service.ask(method, f"/control/{target}", body, run="", x_token=TOKEN)
    assert (answer.status, error(answer)) == (status, why)


def test_bodies_have_bounds(service: Service) -> None:
    def limit(method: str, target: str, run: str = "proof") -> int:
        headers = {"x-run": run, "x-uid": "u", "x-rank": "0", "x-attempt": "0"}
        return service.api.body_limit(Request(method, target, headers, "10.0.0.9"))

    assert limit("POST", "/batch") == limit("PUT", "/control/runs/x") == limit("POST", "/finish", "other") == 2**20
    assert limit("POST", "/weights?step=0") == limit("POST", "/finish") == 592


def test_rows_of_the_largest_batch_are_checked_at_once(service: Service) -> None:
    batch = service.ask("POST", "/batch", {**BATCH, "indices": list(range(12))}).body
    assert isinstance(batch, Rows)
    assert batch.rows.dtype == np.intp
