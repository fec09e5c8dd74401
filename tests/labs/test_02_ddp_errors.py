"""What lab 02 says when its own pods, or the cluster, are not as it needs them, and when a training does not go on."""

import json
import random
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import kubernetes
import pytest
import urllib3.exceptions

from clusters.wait import WaitTimeout
from ddp_lab import control, trainers
from ddp_lab.bench import Bench
from ddp_lab.control import Control
from ddp_lab.events import Story
from ddp_lab.recovery import Broken
from ddp_lab.runs import scaling
from ddp_lab.scaling import Race
from ddp_lab.trainers import Trainers
from graders.errors import InfrastructureError, SubmissionError

SILENT = urllib3.exceptions.ReadTimeoutError(None, "/", "read timed out")  # type: ignore[arg-type]  # no pool


def controlled(*answers: Exception | tuple[int, bytes]) -> Control:
    """The grader's side of a data service that answers so, one after the other, and then with the last."""
    left = list(answers)

    def call_api(*_: object, **__: object) -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        status, content = answer
        return SimpleNamespace(status=status, read=lambda: content)

    return Control(
        Mock(kubernetes.client.ApiClient, param_serialize=lambda *_, **__: (), call_api=call_api), "lab", "t"
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (SILENT, "the data service does not answer GET /control/runs/proof/events: None: read timed out"),
        (
            (500, b"  out of memory\n"),
            "the data service refused GET /control/runs/proof/events: HTTP 500: out of memory",
        ),
    ],
)
def test_a_data_service_that_does_not_serve_is_an_error_of_the_cluster(
    answer: Exception | tuple[int, bytes], said: str
) -> None:
    with pytest.raises(InfrastructureError) as error:
        controlled(answer).story("proof")
    assert str(error.value) == said


def test_events_that_nobody_can_read_are_an_error_of_the_cluster() -> None:
    nonsense = json.dumps({"events": [{"kind": 7}]}).encode()
    with pytest.raises(InfrastructureError) as error:
        controlled((200, nonsense), (200, b'{"events": []}')).story("proof")
    assert str(error.value) == (
        "the data service told of proof what nobody can read: Expected `str`, got `int` - at `$[0].kind`"
    )


def test_a_data_service_that_does_not_come_up_is_an_error_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "until", Mock(side_effect=WaitTimeout("waited 60 s for the data service to answer")))
    with pytest.raises(InfrastructureError) as error:
        controlled(SILENT).wait(60)
    assert str(error.value) == ("the lab's data service does not come up: waited 60 s for the data service to answer")


def test_pods_that_stay_are_an_error_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "until", Mock(side_effect=WaitTimeout("waited")))
    for api in ("BatchV1Api", "CoreV1Api"):
        monkeypatch.setattr(kubernetes.client, api, Mock())
    with pytest.raises(InfrastructureError) as error:
        Trainers(Mock(), "lab").end("proof")
    assert str(error.value) == "pods of proof are still there 15 s after its Job was deleted"


def test_a_rank_that_others_speak_for_is_the_learners() -> None:
    strange = ["a report as rank 1 of proof came from proof-0", "a report as rank 1 of proof came from proof-0"]
    bench: Any = SimpleNamespace(strange=lambda *_: strange)
    with pytest.raises(SubmissionError) as error:
        Bench.refuse_strange(bench, "proof", Mock())
    assert str(error.value) == (
        "a report as rank 1 of proof came from proof-0 (2 such events); let each rank speak for itself only"
    )


@pytest.mark.parametrize("status", ["False", "True", None])
def test_a_pod_that_its_node_gives_no_sandbox_is_an_error_of_the_cluster(
    status: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([100.0, 105.0, 110.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    conditions = [{"type": "PodReadyToStartContainers", "status": status}] if status else None
    pod = kubernetes.client.ApiClient()._ApiClient__deserialize(
        {
            "metadata": {"name": "drill-0", "uid": "u"},
            "spec": {"nodeName": "gpu-2", "containers": [{"name": "trainer", "resources": {}}]},
            "status": {"phase": "Pending", "conditions": conditions},
        },
        "V1Pod",
    )
    bench: Any = SimpleNamespace(trainers=SimpleNamespace(of=lambda run: [trainers._trainer(pod)]), _bare={})
    for _ in range(2):
        Bench.refuse_stuck(bench, "drill")
    if status != "False":
        Bench.refuse_stuck(bench, "drill")
        return
    with pytest.raises(InfrastructureError) as error:
        Bench.refuse_stuck(bench, "drill")
    assert str(error.value) == (
        "the node gpu-2 has made no sandbox for drill-0 in 10 s; evidence/cluster/events.jsonl of the run says why"
    )


def test_a_pod_that_no_node_takes_for_long_is_an_error_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one may have waited before it, as after each loss."""
    moments = iter([100.0, 129.0, 131.0, 160.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    pods = [SimpleNamespace(name="drill-0", uid=uid, node="", leaving=False, bare=False) for uid in "aabb"]
    waiting = iter(pods)
    bench: Any = SimpleNamespace(trainers=SimpleNamespace(of=lambda run: [next(waiting)]), _bare={}, _homeless={})
    for _ in range(4):
        Bench.refuse_stuck(bench, "drill")
    monkeypatch.setattr(time, "monotonic", lambda: 161.5)
    bench.trainers.of = lambda run: pods[3:]
    with pytest.raises(InfrastructureError) as error:
        Bench.refuse_stuck(bench, "drill")
    assert str(error.value) == "no node takes drill-0 of drill after 30 s"


@pytest.mark.parametrize(("ended", "when"), [(False, "within 60 s"), (True, "before the Job ended")])
def test_a_training_that_does_not_reach_the_step_where_it_is_to_be_broken_is_the_learners(
    ended: bool, when: str
) -> None:
    story = SimpleNamespace(done=lambda world: 3)
    bench = SimpleNamespace(
        follow=lambda *_, **__: (story, ended),
        describe=lambda *_: "step 3 is under way; pods: Running, Running",
        trainers=SimpleNamespace(last_words=lambda run: f"; the log of {run}-0 ends:\nwaiting"),
    )
    broken: Any = SimpleNamespace(_bench=bench, name="broken", _world=2, _say=print)
    with pytest.raises(SubmissionError) as error:
        Broken._until_step(broken, 9, 60.0)
    assert str(error.value) == (
        f"step 9 was not done by 2 ranks {when}: step 3 is under way; pods: Running, Running; the log of broken-0 "
        "ends:\nwaiting"
    )


def test_turns_that_were_not_done_keep_the_ledgers_of_what_was_launched() -> None:
    ended: list[str] = []
    bench = SimpleNamespace(
        control=SimpleNamespace(story=lambda run: Story([])),
        keep=lambda run, _: f"evidence/{run}-ledger.jsonl.gz",
        trainers=SimpleNamespace(end=ended.append),
    )
    race: Any = SimpleNamespace(
        _bench=bench,
        _specs={"submission": scaling(random.Random(1), ranks=2, micro_batches=2, steps=57)},
        _steps=6,
        ranks=2,
        _measured=Mock(side_effect=SubmissionError("steps 3 to 8 were not done within 20 s")),
        _launched=lambda: ["race-single", "race-submission"],
        _counting={"uid": Mock()},
    )
    found = Race._run(race)
    assert (found.problem, found.turns) == ("steps 3 to 8 were not done within 20 s", ())
    assert found.evidence == ("evidence/race-single-ledger.jsonl.gz", "evidence/race-submission-ledger.jsonl.gz")
    assert ended == ["race-single", "race-submission"]
    race._counting["uid"].close.assert_called_once_with()
