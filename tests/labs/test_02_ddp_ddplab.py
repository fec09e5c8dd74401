"""What train.py imports in lab 02, as far as it needs no torch: joining, asking, diagnosing.

Limits: torch is an image's and not here, so models and tensors are left to real runs of the lab.
"""

import http.client
import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from data_service import DataServer
from ddp_spec import RunSpec
from tests.labs.service_02_ddp import JOB, SPEC, serving


@pytest.fixture
def ddplab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, with nothing where torch belongs; its connections are closed at the end."""
    opened: list[http.client.HTTPConnection] = []
    connection = http.client.HTTPConnection

    def connect(host: str, timeout: float) -> http.client.HTTPConnection:
        opened.append(connection(host, timeout=timeout))
        return opened[-1]

    monkeypatch.setitem(sys.modules, "torch", MagicMock())
    monkeypatch.setitem(sys.modules, "torch.distributed", MagicMock())
    monkeypatch.delitem(sys.modules, "ddplab", raising=False)
    found = importlib.import_module("ddplab")
    monkeypatch.setattr(found, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(http.client, "HTTPConnection", connect)
    yield found
    for each in opened:
        each.close()


@pytest.fixture
def server() -> Iterator[DataServer]:
    with serving() as found:
        yield found


def add(server: DataServer, **more: Any) -> None:
    spec = RunSpec.read({**SPEC, **more})
    server.api.runs.add("proof", spec, server.api.runs.data_for(spec))


def environ(server: DataServer) -> dict[str, str]:
    return {
        "DDP_RUN": "proof",
        "DDP_SERVICE": f"http://127.0.0.1:{server.server_port}",
        "POD_UID": "uid-1",
        "NODE_NAME": "gpu-1",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "TORCHELASTIC_RESTART_COUNT": "3",
        "MASTER_ADDR": "proof-0.proof",
    }


def events(server: DataServer) -> list[dict[str, Any]]:
    return server.api.runs.find("proof").ledger.page(0)


def test_a_process_joins_as_torchrun_started_it(ddplab: Any, server: DataServer) -> None:
    add(server)
    env = environ(server)
    job = ddplab.join(env)
    assert {name: getattr(job, name) for name in JOB if name != "batch"} == {
        name: value for name, value in JOB.items() if name != "batch"
    }
    assert (job.run, job.global_batch, job.extra, job.parameters[:2]) == (
        "proof",
        12,
        None,
        [("0.weight", (5, 6)), ("0.bias", (5,))],
    )
    joined = {"kind": "join", "uid": "uid-1", "rank": 1, "attempt": 3, "node": "gpu-1", "pid": os.getpid(), "world": 2}
    assert joined.items() <= events(server)[0].items()
    assert events(server)[0]["ticket"] == job.ticket
    assert env == environ(server)


@pytest.mark.parametrize("told", [("cuda", "nccl"), ("cpu", "gloo")])
def test_the_lab_says_where_all_ranks_compute_whatever_a_pod_has(
    ddplab: Any, server: DataServer, told: tuple[str, str]
) -> None:
    device, backend = told
    add(server, job={**JOB, "device": device, "backend": backend})
    ddplab.torch.cuda.is_available.return_value = device == "cpu"
    job = ddplab.join(environ(server))
    assert (job.device, job.backend) == told


def test_it_waits_for_the_run_and_for_the_service(ddplab: Any, server: DataServer) -> None:
    later = threading.Timer(0.05, add, [server])
    later.start()
    assert ddplab.join(environ(server)).run == "proof"
    later.join()


@pytest.mark.parametrize(
    ("run", "said"),
    [("other", "POST /join: there is no run 'other'"), ("A", "POST /join: 'A' is no name of a run; ")],
    ids=["a run that never comes", "no run's name"],
)
def test_a_run_that_cannot_be_joined_is_an_error(
    ddplab: Any, server: DataServer, monkeypatch: pytest.MonkeyPatch, run: str, said: str
) -> None:
    monkeypatch.setattr(ddplab, "JOIN_SECONDS", 0.01)
    with pytest.raises(ddplab.LabError) as error:
        ddplab.join({**environ(server), "DDP_RUN": run})
    assert str(error.value).startswith(said)
    assert error.value.status == (404 if run == "other" else 400)


def test_without_a_service_it_says_where_it_asked(ddplab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddplab, "JOIN_SECONDS", 0)
    with serving() as gone:
        env = environ(gone)
    with pytest.raises(ddplab.LabError) as error:
        ddplab.join(env)
    said = f"POST /join: no answer from {env['DDP_SERVICE']}: ConnectionRefusedError(111, 'Connection refused')"
    assert (str(error.value), error.value.status) == (said, None)


def test_outside_of_a_pod_it_says_what_is_missing(ddplab: Any) -> None:
    with pytest.raises(ddplab.LabError) as error:
        ddplab.join({"DDP_RUN": "proof", "POD_UID": "uid-1"})
    said = "the environment has no DDP_SERVICE, NODE_NAME; run this in a pod of the lab's chart, which sets them"
    assert str(error.value) == said


def test_the_machines_environment_becomes_the_process_and_its_name_stays(ddplab: Any, server: DataServer) -> None:
    add(server, drills=[{"rank": 1, "kind": "wrong_rank"}, {"rank": 1, "kind": "rendezvous"}])
    env = environ(server)
    job = ddplab.join(env)
    assert (env["RANK"], env["MASTER_ADDR"]) == ("0", "proof-0.proof-workers")
    job._tick()
    assert (events(server)[1]["kind"], events(server)[1]["rank"]) == ("tick", 1)


def test_ticks_are_of_the_step_that_is_trained_not_of_the_one_that_is_loaded(ddplab: Any, server: DataServer) -> None:
    add(server)
    job, model = ddplab.join(environ(server)), MagicMock()
    for step in (4, 5):
        job.batch([], epoch=0, step=step)
    job._tick()
    job.report(4, 0.5, 0.25, model)
    job._tick()
    found = [(each["kind"], each["step"]) for each in events(server)[1:]]
    assert found == [("batch", 4), ("batch", 5), ("tick", 4), ("report", 4), ("tick", 5)]


def test_what_the_service_refuses_is_an_error_with_its_sentence(ddplab: Any, server: DataServer) -> None:
    add(server)
    job = ddplab.join(environ(server))
    with pytest.raises(ddplab.LabError) as error:
        job.batch([50], epoch=0, step=0)
    assert str(error.value) == "POST /batch: indices has 50, where whole numbers from 0 to 49 belong"
    job.batch([], epoch=0, step=0)  # the connection is good for more


def test_each_thread_and_each_forked_process_has_a_connection(ddplab: Any, server: DataServer) -> None:
    add(server)
    service = ddplab.join(environ(server)).service
    own, found = service._connection(), []
    assert service._connection() is own
    other = threading.Thread(target=lambda: found.append(service._connection()))
    other.start()
    other.join()
    assert found != [own]
    service._own.pid += 1
    assert service._connection() is not own


def test_weights_are_asked_of_a_model_or_of_its_wrapper(ddplab: Any, server: DataServer) -> None:
    add(server)
    job = ddplab.join(environ(server))
    model = MagicMock(spec=["state_dict"])
    model.state_dict.return_value = dict.fromkeys(["0.weight"])
    for given in (model, MagicMock(spec=["module"], module=model)):
        with pytest.raises(ddplab.LabError) as error:
            job.finish(given)
        assert str(error.value) == (
            "the model has no parameter 0.bias, 2.weight, 2.bias, 4.weight, 4.bias; "
            "give the one of job.model(), or its wrapper"
        )


def test_a_diagnosis_is_written_whole_and_printed(
    ddplab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ddplab, "DIAGNOSIS", tmp_path / "diagnosis.json")
    ddplab.diagnose("slow", 0, "a first guess \ud800")
    ddplab.diagnose("hang", 1, "☃" * 600)
    written = (tmp_path / "diagnosis.json").read_text(encoding="utf-8")
    assert json.loads(written) == {"fault": "hang", "rank": 1, "said": "☃" * 500}
    assert len(written.encode()) < 4096  # what Kubernetes keeps
    assert capsys.readouterr().out.splitlines()[1] == written


def test_a_fault_that_nobody_knows_is_refused(ddplab: Any) -> None:
    with pytest.raises(ddplab.LabError) as error:
        ddplab.diagnose("tired", 1, "")
    assert str(error.value) == (
        "'tired' is no fault that is known here; say one of hang, loader, slow, model_order, unused_parameter, "
        "wrong_rank, short_timeout, rendezvous"
    )
