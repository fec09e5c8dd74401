"""What the data service of lab 02 says of a run that it cannot make."""

from typing import Any

import pytest

from ddp_spec import Drill, Refused, RunSpec, number, run_name, shown, whole
from tests.labs.service_02_ddp import JOB, SPEC


def refused(given: object) -> str:
    with pytest.raises(Refused) as found:
        RunSpec.read(given)
    assert found.value.status == 400
    return found.value.why


def test_a_run_is_read() -> None:
    more = {
        "weights_at": [0, 9],
        "until": 3,
        "pace_seconds": 0.5,
        "brief": True,
        "drills": [{"rank": 1, "kind": "slow", "step": 2, "seconds": 3}],
    }
    found = RunSpec.read({**SPEC, **more})
    assert found.job.steps == 10  # the last step of each epoch has two samples
    assert (found.weights_at, found.until, found.pace_seconds, found.brief) == (frozenset({0, 9}), 3, 0.5, True)
    assert found.drills == (Drill(rank=1, kind="slow", step=2, seconds=3.0),)


def test_what_is_not_said_is_nothing() -> None:
    found = RunSpec.read(SPEC)
    assert (found.weights_at, found.until, found.pace_seconds, found.drills) == (frozenset(), None, 0.0, ())
    assert not found.brief


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "the run is [], where a JSON object belongs"),
        ({"job": JOB}, "the run has no data_seed and no weights_seed; it needs job, data_seed, weights_seed"),
        (
            {**SPEC, "turns": 1},
            "the run has 'turns'; it may have job, data_seed, weights_seed, weights_at, until, pace_seconds, brief, "
            "drills",
        ),
        ({**SPEC, "brief": 1}, "brief is 1, where true or false belongs"),
        ({**SPEC, "job": 3}, "job is 3, where a JSON object belongs"),
        ({**SPEC, "data_seed": -1}, "data_seed is -1, where a whole number from 0 to 9223372036854775807 belongs"),
        ({**SPEC, "until": 1.5}, "until is 1.5, where a whole number from 0 to 2147483648 belongs"),
        ({**SPEC, "weights_at": 3}, "weights_at is 3, where a list belongs"),
        ({**SPEC, "weights_at": [0] * 1001}, "weights_at has 1001 entries, 1000 at most"),
        ({**SPEC, "weights_at": [10]}, "a step in weights_at is 10, where a whole number from 0 to 9 belongs"),
        ({**SPEC, "pace_seconds": "1"}, "pace_seconds is '1', where a finite number from 0 to 600 belongs"),
        ({**SPEC, "drills": [{"rank": 0}]}, "a drill has no kind; it needs rank, kind"),
        (
            {**SPEC, "drills": [{"rank": 0, "kind": "flood"}]},
            "a drill's kind is 'flood', where one of hang, loader, slow, model_order, unused, wrong_rank, "
            "short_timeout, rendezvous belongs",
        ),
        ({**SPEC, "drills": [{"rank": 0, "kind": "slow"}]}, "a drill slow needs seconds"),
        (
            {"job": {**JOB, "hidden": [4, 4]}, "data_seed": 1, "weights_seed": 1}
            | {"drills": [{"rank": 0, "kind": "model_order"}]},
            "a drill model_order changes nothing where hidden is [4, 4]",
        ),
    ],
)
def test_a_run_that_is_none_is_refused(given: object, why: str) -> None:
    assert refused(given) == why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"samples": 0}, "job.samples is 0, where a whole number from 1 to 16777216 belongs"),
        ({"samples": True}, "job.samples is True, where a whole number from 1 to 16777216 belongs"),
        ({"batch": 51}, "job.batch is 51, where a whole number from 1 to 50 belongs"),
        ({"dtype": "bfloat16"}, "job.dtype is 'bfloat16', where one of float32, float64 belongs"),
        ({"dtype": []}, "job.dtype is [], where one of float32, float64 belongs"),
        ({"device": "tpu"}, "job.device is 'tpu', where one of cpu, cuda belongs"),
        ({"backend": None}, "job.backend is None, where one of gloo, nccl belongs"),
        ({"hidden": [5, 0]}, "a size in job.hidden is 0, where a whole number from 1 to 65536 belongs"),
        ({"momentum": 10**400}, f"job.momentum is {'1' + 56 * '0'}..., where a finite number from 0 to 1 belongs"),
        ({"checkpoint_folder": ""}, "job.checkpoint_folder is '', where text of 1 to 1024 characters belongs"),
        (
            {"samples": 2**24},
            "the data of the job would be 1207959552 bytes, 536870912 at most; make it smaller",
        ),
        (
            {"hidden": [4096, 4096]},
            "the parameters of the job would be 134578200 bytes, 67108864 at most; make it smaller",
        ),
    ],
)
def test_a_job_that_is_none_is_refused(changes: dict[str, Any], why: str) -> None:
    assert refused({**SPEC, "job": {**JOB, **changes}}) == why


def test_every_field_of_a_job_is_needed() -> None:
    for name in JOB:
        job = {each: value for each, value in JOB.items() if each != name}
        assert refused({**SPEC, "job": job}) == f"job has no {name}; it needs {', '.join(JOB)}"


@pytest.mark.parametrize("name", ["", "a/b", "A", "-a", "a" * 64, "a\n"])
def test_a_name_that_no_release_has_is_refused(name: str) -> None:
    with pytest.raises(Refused) as found:
        run_name(name)
    said = repr(name) if len(name) < 60 else repr(name)[:57] + "..."
    assert found.value.why == f"{said} is no name of a run; it has small letters, digits, - and ., 63 at most"


def test_numbers_keep_their_range() -> None:
    assert (whole(3, "x", 3, 3), number(2, "x"), number(0.5, "x", 0, 1)) == (3, 2.0, 0.5)
    with pytest.raises(Refused, match=r"^x is nan, where a finite number belongs$"):
        number(float("nan"), "x")


def test_what_cannot_be_shown_is_named() -> None:
    assert shown(10**5000) == "an object too large to show (int)"
