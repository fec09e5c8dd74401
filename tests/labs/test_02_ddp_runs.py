"""Runs of lab 02 without HTTP: turns, pace, drills, the ledger, and the bounds of what pods can make grow."""

import json
import math
import random
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

import ddp_runs
from ddp_data import parameters
from ddp_lab.gpu_facts import flops_per_sample
from ddp_lab.runs import endurance
from ddp_runs import EVENT_BYTES, FIRST_WEIGHTS, KEPT_BYTES, LEDGER_BYTES, Caller, Ledger, Run, Runs
from ddp_spec import KINDS, Refused, RunSpec
from tests.labs.facts_02_ddp import LAB
from tests.labs.service_02_ddp import CALLER, JOB, SPEC, data_of, run

OTHER = Caller(ip="10.0.0.2", uid="uid-0", rank=0, attempt=0)


def drilled(kind: str, **more: Any) -> Run:
    return run(drills=[{"rank": 1, "kind": kind, **more}])


def read(of: Run, step: int, now: float, caller: Caller = CALLER) -> None:
    assert of.batch_wait(caller, step, now) == 0
    of.batch(caller, now, epoch=0, step=step, micro=0, rows=np.array([0]))


def join(of: Run, caller: Caller = CALLER) -> dict[str, Any]:
    return of.join(caller, 0.0, "a ticket", node="gpu-1", pid=7, world=2)


def bring(of: Run, step: int | None, raw: bytes, caller: Caller = CALLER) -> str:
    """As a process that just joined and did the step."""
    join(of, caller)
    if step is not None:
        of.report(caller, 0.0, step=step, loss=1.0, draw=0.5)
    digest = sha256(raw).hexdigest()
    of.bring(caller, 0.0, step, raw, digest)
    return digest


def test_without_turns_and_pace_nothing_waits() -> None:
    found = run()
    assert [found.batch_wait(CALLER, step, 0.0) for step in (0, 9)] == [0, 0]


def test_a_step_waits_for_its_turn() -> None:
    found = run(until=4)
    assert [found.batch_wait(CALLER, step, 0.0) for step in (3, 4)] == [0, math.inf]
    found.until = 5
    assert found.batch_wait(CALLER, 4, 0.0) == 0
    found.until = None
    assert found.batch_wait(CALLER, 9, 0.0) == 0


def test_no_step_begins_sooner_after_another_than_the_pace() -> None:
    found = run(pace_seconds=2)
    read(found, 0, 10.0)
    assert found.batch_wait(OTHER, 0, 10.5) == 0  # the same step, another rank
    assert found.batch_wait(CALLER, 1, 10.5) == 1.5
    read(found, 1, 12.0)
    assert found.batch_wait(OTHER, 0, 12.1) == 0  # one that lags behind holds nobody up
    assert found.batch_wait(OTHER, 2, 13.0) == 1.0


def test_the_pace_holds_for_steps_that_are_done_again() -> None:
    found = run(pace_seconds=2)
    read(found, 0, 10.0)
    read(found, 1, 12.0)
    join(found)
    assert found.batch_wait(CALLER, 0, 12.5) == 1.5


def test_a_healthy_rank_is_told_the_job() -> None:
    shapes = [(name, tuple(shape)) for name, shape in parameters(6, [5, 4], 3)]
    assert join(drilled("unused"), OTHER) == {
        **JOB,
        "hidden": (5, 4),
        "run": "proof",
        "ticket": "a ticket",
        "extra": None,
        "parameters": tuple(shapes),
        "environment": {},
    }


@pytest.mark.parametrize(
    ("drill", "told"),
    [
        ({"kind": "model_order"}, {"hidden": (4, 5)}),
        ({"kind": "unused"}, {"extra": [3, 3]}),
        ({"kind": "wrong_rank"}, {"environment": {"RANK": "0"}}),
        ({"kind": "short_timeout", "seconds": 0.5}, {"timeout_seconds": 0.5}),
        ({"kind": "rendezvous"}, {"environment": {"MASTER_ADDR": "proof-0.proof-workers"}}),
        ({"kind": "hang"}, {}),
        ({"kind": "loader"}, {}),
        ({"kind": "slow", "seconds": 1}, {}),
    ],
    ids=lambda value: value.get("kind", ""),
)
def test_a_drilled_rank_is_told_its_fault_and_not_its_name(drill: dict[str, Any], told: dict[str, Any]) -> None:
    found = run(drills=[{"rank": 1, **drill}])
    assert join(found) == {**join(run()), **told}
    assert not any(kind in str(join(found)) for kind in KINDS)
    assert join(found, OTHER) == join(run(), OTHER)


def test_a_wrong_rank_in_a_world_of_one_is_none_of_it() -> None:
    found = run(drills=[{"rank": 0, "kind": "wrong_rank"}])
    assert found.join(OTHER, 0.0, "", node="n", pid=1, world=1)["environment"] == {"RANK": "1"}


def test_a_rank_gets_weights_of_its_own_shapes() -> None:
    healthy = run().first_weights(CALLER)
    assert len(healthy) == run().job.weights_bytes == 8 * (6 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3)
    assert len(drilled("model_order").first_weights(CALLER)) == 8 * (6 * 4 + 4 + 4 * 5 + 5 + 5 * 3 + 3)
    assert drilled("unused").first_weights(CALLER)[: len(healthy)] == healthy
    assert len(drilled("unused").first_weights(CALLER)) == len(healthy) + 8 * (3 * 3 + 3)
    assert drilled("unused").first_weights(OTHER) == healthy
    one = run()
    assert one.first_weights(OTHER) is one.first_weights(
        CALLER
    )  # or asking would be work for the service, and for the machine


def test_first_weights_go_to_an_address_so_many_times() -> None:
    found = run()
    for _ in range(FIRST_WEIGHTS):
        found.first_weights(CALLER)
    with pytest.raises(Refused) as refused:
        found.first_weights(CALLER)
    assert (refused.value.status, refused.value.why) == (
        429,
        "the first weights went to this address 64 times; keep them",
    )
    assert found.first_weights(OTHER)


def done(found: Run, caller: Caller, until: int) -> Run:
    """The same, after its steps before that one were reported."""
    for step in range(until):
        found.report(caller, 0.0, step=step, loss=1.0, draw=0.5)
    found.ledger.events.clear()
    return found


def test_a_hang_answers_no_tick_from_its_step_on() -> None:
    found = done(drilled("hang", step=3), CALLER, 3)
    assert [found.tick(CALLER, 0.0, step) for step in (2, 3, 4)] == [0, math.inf, math.inf]
    assert found.tick(OTHER, 0.0, 3) == 0
    assert found.batch_wait(CALLER, 3, 0.0) == 0
    assert [each["step"] for each in found.ledger.events] == [2, 3, 4, 3]


def test_a_slow_rank_waits_at_each_tick_from_its_step_on() -> None:
    found = done(drilled("slow", step=3, seconds=0.5), CALLER, 3)
    assert [found.tick(CALLER, 0.0, step) for step in (2, 3, 4)] == [0, 0.5, 0.5]
    assert found.tick(OTHER, 0.0, 3) == 0


def test_a_loader_gets_no_batch_from_its_step_on() -> None:
    found = done(drilled("loader", step=3), CALLER, 3)
    assert [found.batch_wait(CALLER, step, 0.0) for step in (2, 3, 4)] == [0, math.inf, math.inf]
    assert found.batch_wait(OTHER, 3, 0.0) == 0
    assert found.tick(CALLER, 0.0, 3) == 0


@pytest.mark.parametrize("kind", ["hang", "slow", "loader"])
def test_nobody_finds_a_drill_by_asking_for_a_step_that_is_far_ahead(kind: str) -> None:
    found = done(drilled(kind, step=3, seconds=0.5), CALLER, 2)
    assert (found.tick(CALLER, 0.0, 11), found.batch_wait(CALLER, 11, 0.0)) == (0, 0)
    found.report(CALLER, 0.0, step=2, loss=1.0, draw=0.5)
    assert max(found.tick(CALLER, 0.0, 11), found.batch_wait(CALLER, 11, 0.0)) > 0


def test_the_ledger_says_who_read_what_when() -> None:
    found = run()
    size = found.batch(CALLER, 5.5, epoch=1, step=7, micro=1, rows=np.array([49, 0]))
    assert size == 2 * (6 + 3) * 8
    assert found.ledger.page(0) == [
        {
            "n": 0,
            "t": 5.5,
            "kind": "batch",
            "ip": "10.0.0.1",
            "uid": "uid-1",
            "rank": 1,
            "attempt": 0,
            "epoch": 1,
            "step": 7,
            "micro": 1,
            "indices": [49, 0],
            "sent": 144,
        }
    ]


def test_a_brief_ledger_names_the_samples_of_few_steps_and_counts_all() -> None:
    found = run(brief=True, weights_at=[3])
    for step in (2, 3):
        found.batch(CALLER, 0.0, epoch=0, step=step, micro=0, rows=np.array([7, 0]))
    assert [(each["step"], each["indices"], each["sent"]) for each in found.ledger.page(0)] == [
        (2, [], 144),
        (3, [7, 0], 144),
    ]
    assert LEDGER_BYTES - found.ledger.room == 2 * EVENT_BYTES + 2 * 4


def test_the_ledger_has_room_for_a_training_on_perfect_gpus_and_keeps_two_of_its_models() -> None:
    spec, threshold = endurance(random.Random(1), ranks=2), LAB.thresholds["L3"]
    found = RunSpec.read(json.loads(json.dumps(spec.encoded())))
    seconds = flops_per_sample(spec.job) * spec.job.batch / 2 / (threshold["gpu_peak_tflops"] * 1e12)
    events = 2 * (2 * spec.job.micro_batches + 1)  # of each rank: a batch and a tick for each piece, and a report
    steps = max(spec.weights_at) + threshold["gpu_seconds"] / seconds
    assert steps * events * EVENT_BYTES + 4 * 2 * spec.job.batch < LEDGER_BYTES
    assert steps < found.job.steps
    assert (found.brief, found.job.weights_bytes) == (True, spec.job.gradient_bytes)
    assert 2 * found.job.weights_bytes <= KEPT_BYTES


def test_a_page_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddp_runs, "PAGE", 2)
    found = run()
    for step in range(5):
        found.tick(CALLER, 0.0, step)
    assert [[each["n"] for each in found.ledger.page(since)] for since in (0, 2, 4, 5)] == [[0, 1], [2, 3], [4], []]


def test_a_full_ledger_refuses_and_stays_readable() -> None:
    ledger = Ledger(room=2500)
    ledger.add(0.0, CALLER, "tick", step=0)
    with pytest.raises(Refused) as refused:
        ledger.add(0.0, CALLER, "introduce", more_bytes=501)
    assert (refused.value.status, refused.value.why) == (
        507,
        "the ledger of this run is full after 1 events; ask for less",
    )
    ledger.add(0.0, CALLER, "tick", step=1)
    assert [each["step"] for each in ledger.page(0)] == [0, 1]


def test_a_batch_that_the_ledger_has_no_room_for_is_not_handed_out() -> None:
    found = run(pace_seconds=1)
    found.ledger.room = 1003
    with pytest.raises(Refused, match="full after 0 events"):
        found.batch(CALLER, 0.0, epoch=0, step=0, micro=0, rows=np.array([0]))
    assert (found.begun, found.ledger.events) == (set(), [])


def test_refusals_beyond_their_bound_are_only_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddp_runs, "REFUSALS", 2)
    ledger = Ledger(room=1000)
    for number in range(5):
        ledger.refuse(0.0, "10.0.0.1", None, "GET /x" * 100, f"{number}" * 1000)
    ledger.add(0.0, CALLER, "tick", step=0)  # they take no room from what is served
    assert [(each["kind"], each["uid"]) for each in ledger.page(0)] == [
        ("refused", ""),
        ("refused", ""),
        ("tick", "uid-1"),
    ]
    assert (ledger.unlisted, len(ledger.events[0]["what"]), len(ledger.events[0]["why"])) == (3, 200, 400)


def test_weights_are_kept_by_rank_and_step() -> None:
    found = run(weights_at=[4])
    size = found.job.weights_bytes
    digest = bring(found, 4, bytes(size))
    assert bring(found, 4, bytes(size), OTHER) == digest
    end = bring(found, None, b"\1" * size)
    assert [found.weights(rank, 4) for rank in (0, 1)] == [bytes(size)] * 2
    assert found.weights(1, "finish") == b"\1" * size
    assert set(found.kept) == {digest, end}
    kinds = [
        (each["kind"], each["rank"], each.get("step"), each["digest"])
        for each in found.ledger.events
        if "digest" in each
    ]
    assert kinds == [("weights", 1, 4, digest), ("weights", 0, 4, digest), ("finish", 1, None, end)]


def test_weights_that_nobody_brought_last_are_let_go() -> None:
    found = run(weights_at=[4])
    size = found.job.weights_bytes
    bring(found, 4, bytes(size))
    digest = bring(found, 4, b"\1" * size)
    assert set(found.kept) == {digest}


def test_the_weights_after_a_step_are_those_that_came_first_and_after_its_report() -> None:
    found = run(weights_at=[4])
    weights, others = bytes(found.job.weights_bytes), b"\1" * found.job.weights_bytes
    join(found)
    with pytest.raises(Refused) as early:
        found.bring(CALLER, 0.0, 4, weights, "a")
    assert (early.value.status, early.value.why) == (
        409,
        "weights after step 4 came before its report; report it first",
    )
    bring(found, 4, weights)
    found.bring(CALLER, 0.0, 4, weights, sha256(weights).hexdigest())  # asked again, as an answer may be lost
    with pytest.raises(Refused) as late:
        found.bring(CALLER, 0.0, 4, others, sha256(others).hexdigest())
    assert late.value.why == "other weights after step 4 came before from this process; they stand"
    assert found.weights(1, 4) == weights
    bring(found, 4, others)  # a process that began anew
    assert found.weights(1, 4) == others


def test_weights_beyond_the_bound_are_noted_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(weights_at=[4])
    size = found.job.weights_bytes
    monkeypatch.setattr(ddp_runs, "KEPT_BYTES", size)
    bring(found, 4, bytes(size))
    digest = bring(found, None, b"\1" * size)
    assert found.ledger.events[-1]["digest"] == digest
    with pytest.raises(Refused) as refused:
        found.weights(1, "finish")
    assert refused.value.why == f"the weights {digest} were not kept: {size} bytes of a run are, at most"


def test_runs_have_a_bound_and_share_equal_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddp_runs, "RUNS", 2)
    runs, spec = Runs(lambda: ""), RunSpec.read(SPEC)
    runs.add("one", spec, runs.data_for(spec))
    assert runs.data_for(RunSpec.read({**SPEC, "weights_seed": 9})) is runs.find("one").data
    assert runs.data_for(RunSpec.read({**SPEC, "data_seed": 9})) is not runs.find("one").data
    runs.add("other", spec, data_of(spec.job, 3))
    with pytest.raises(Refused) as refused:
        runs.add("third", spec, data_of(spec.job, 3))
    assert refused.value.why == "there are 2 runs, and no more fit; start the service anew"
