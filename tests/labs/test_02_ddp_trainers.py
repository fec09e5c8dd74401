"""What the lab runs in a learner's pods: a container that ends, or that ends or holds up such a program, is theirs."""

import contextlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from unittest.mock import Mock

import kubernetes
import pytest
import websocket

from clusters.embedded.backend import EmbeddedCluster
from ddp_lab import trainers
from ddp_lab.counted import Counted
from ddp_lab.events import Event, Story
from ddp_lab.recovery import Broken
from ddp_lab.trainers import RELEASE, Counting, Running, Trainers
from graders.errors import InfrastructureError, SubmissionError
from tests.conftest import Kubectl
from tests.graders.api_server import serving
from tests.patience import PATIENCE

IDLE = """
import os, time
print("ValueError: no such step", flush=True)
while not os.path.exists("/tmp/end"):
    time.sleep(0.05)
"""
FERTILE = """
import os, signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    while os.path.exists(f"/proc/{child.pid}"):
        pass
    print(child.pid, flush=True)
"""
"""Starts processes whose processor time goes to nobody, as nobody waits for them."""
ENVIOUS = """
import glob, os, signal
for path in glob.glob("/proc/[0-9]*/cmdline"):
    pid = int(path.split("/")[2])
    if "readline" in open(path).read() and pid != os.getpid():
        os.kill(pid, signal.SIGKILL)
"""
"""Kills what waits in its container to count once more."""
JEALOUS = """
import os
own = os.getpid()
print("alone", flush=True)
while True:
    for each in os.listdir("/proc"):
        if each.isdigit() and int(each) != own:
            try:
                os.kill(int(each), SIGNAL)
            except OSError:
                pass
"""
"""Sends a signal to whatever else begins in its container."""
LISTED = {
    "items": [
        {
            "metadata": {"name": "race-0", "uid": "u", "labels": {RELEASE: "race"}},
            "spec": {"containers": [{"name": "trainer", "resources": {}}]},
            "status": {
                "containerStatuses": [
                    {
                        **{"name": "trainer", "image": "i", "imageID": "", "ready": True, "restartCount": 0},
                        "containerID": "c",
                        "state": {"running": {}},
                    }
                ]
            },
        }
    ]
}


@pytest.fixture(scope="module")
def client(embedded: EmbeddedCluster) -> Iterator[kubernetes.client.ApiClient]:
    with kubernetes.config.new_client_from_config(str(embedded.kubeconfig)) as client:
        yield client


@contextlib.contextmanager
def running(kubectl: Kubectl, run: str, program: str, container: str = "trainer") -> Iterator[None]:
    """A run of one pod, which has said something; the pod is deleted in the end."""
    command = ["/usr/bin/python3", "-c", program]
    main = {"name": container, "image": "python:3.12", "command": command}
    spec = {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "containers": [main]}
    named = {"name": f"{run}-0", "labels": {RELEASE: run}}
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": spec}))
    try:
        kubectl.phase(f"{run}-0", "Running")
        kubectl.wait_for(lambda: kubectl("logs", f"{run}-0"), bool, "a first line")
        yield
    finally:
        kubectl("delete", "pod", f"{run}-0", "--wait=false")


@pytest.mark.cluster
def test_the_kernel_counts_what_a_pod_did_and_an_ended_one_is_its_learners(
    kubectl: Kubectl, client: kubernetes.client.ApiClient
) -> None:
    found = Trainers(client, "default")
    with running(kubectl, "race", IDLE):
        trainer, *_ = found.of("race")
        counting = found.begin_count(trainer)
        first, second = counting.begun, found.end_count(counting)
        assert second.at > first.at > 0
        assert second.sent >= first.sent > 0
        assert second.ended(first) == 0
        found.execute(trainer, ["/usr/bin/python3", "-c", "open('/tmp/end', 'w')"], seconds=20)
        kubectl.phase("race-0", "Succeeded")
        with pytest.raises(SubmissionError) as refused:
            found.begin_count(trainer)
    assert str(refused.value) == ("the container of race-0 ended; the log of race-0 ends:\nValueError: no such step")


@pytest.mark.cluster
def test_processes_that_nobody_waits_for_are_counted(kubectl: Kubectl, client: kubernetes.client.ApiClient) -> None:
    found = Trainers(client, "default")
    with running(kubectl, "fertile", FERTILE):
        counting = found.begin_count(found.of("fertile")[0])
        before = len(kubectl("logs", "fertile-0").split())
        kubectl.wait_for(lambda: kubectl("logs", "fertile-0").split(), lambda ids: len(ids) > before + 4, "children")
        assert found.end_count(counting).ended(counting.begun) >= 3


@pytest.mark.cluster
def test_a_container_that_ends_what_waits_in_it_to_count_once_more_is_its_learners(
    kubectl: Kubectl, client: kubernetes.client.ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers, "LOOKED_AFTER", 0.01)
    found = Trainers(client, "default")
    with running(kubectl, "envious", IDLE):
        trainer, *_ = found.of("envious")
        early, late = found.begin_count(trainer), found.begin_count(trainer)
        found.execute(trainer, ["/usr/bin/python3", "-c", ENVIOUS], seconds=20)
        for counting in (early, late):
            with pytest.raises(SubmissionError) as refused:
                found.end_count(counting)
            assert str(refused.value) == (
                "a program that the lab ran in envious-0 did not end as it does there, but said ''; "
                "leave processes alone that the training did not start"
            )


@pytest.mark.cluster
def test_a_container_that_ends_what_the_lab_runs_in_it_is_its_learners(
    kubectl: Kubectl, client: kubernetes.client.ApiClient
) -> None:
    found = Trainers(client, "default")
    with running(kubectl, "jealous", JEALOUS.replace("SIGNAL", "9")), pytest.raises(SubmissionError) as refused:
        found.begin_count(found.of("jealous")[0])
    assert str(refused.value) == (
        "a program that the lab ran in jealous-0 did not end as it does there, but said ''; "
        "leave processes alone that the training did not start"
    )


@pytest.mark.cluster
def test_a_container_that_holds_up_what_the_lab_runs_in_it_is_its_learners_where_the_labs_own_does_not(
    kubectl: Kubectl, client: kubernetes.client.ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers, "COUNT_SECONDS", 2.0)
    monkeypatch.setattr(trainers, "OWN_SECONDS", PATIENCE)
    found = Trainers(client, "default")
    why = "a program in holding-0 was not done after 2 s: ''"
    with running(kubectl, "holding", JEALOUS.replace("SIGNAL", "19")):
        (trainer,) = found.of("holding")
        with pytest.raises(InfrastructureError) as slow:
            found.begin_count(trainer)
        with running(kubectl, "data", IDLE, container="data"), pytest.raises(SubmissionError) as refused:
            found.begin_count(trainer)
    assert str(slow.value) == why
    assert str(refused.value) == (
        f"{why}; it was not the second time either, while another was in the lab's own pod; leave processes alone that "
        "the training did not start, and leave them some of what holding-0 may use"
    )


def test_an_api_server_that_runs_nothing_is_no_fault_of_the_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "LOOKED_AFTER", 0.01)
    with serving() as api:
        api.answers = {"/api/v1/namespaces/ns/pods": (200, json.dumps(LISTED).encode())}
        with api.client() as client:
            found = Trainers(client, "ns")
            with pytest.raises(InfrastructureError) as failed:
                found.begin_count(found.of("race")[0])
    assert str(failed.value).startswith("nothing can be run in race-0: (0)\nReason: Handshake status 404 Not Found")


def test_a_connection_that_ends_while_a_count_waits_is_no_fault_of_the_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "LOOKED_AFTER", 0.01)
    with serving() as api:
        api.answers = {"/api/v1/namespaces/ns/pods": (200, json.dumps(LISTED).encode())}
        with api.client() as client:
            found = Trainers(client, "ns")
            (trainer,) = found.of("race")
            stream = Mock(spec=kubernetes.stream.ws_client.WSClient, sock=Mock())
            stream.write_stdin.side_effect = websocket.WebSocketConnectionClosedException("socket is already closed.")
            begun = Counted(at=1.0, sent=0, cpu=0.0, newest=1, ids=9, tasks=())
            with pytest.raises(InfrastructureError) as failed:
                found.end_count(Counting(Running(trainer, (), stream), begun))
    assert str(failed.value) == "nothing can be run in race-0: socket is already closed."
    stream.sock.shutdown.assert_called_once_with()


def test_who_joined_as_a_rank_and_is_no_pod_of_the_run_is_its_learners() -> None:
    lone = SimpleNamespace(name="loss-1", _bench=SimpleNamespace(trainers=SimpleNamespace(of=lambda _: [])))
    story = Story([Event(n=0, t=0.0, kind="join", ip="10.0.0.7", uid="made-up", rank=1)])
    with pytest.raises(SubmissionError) as refused:
        Broken._of_rank(lone, story, 1)  # type: ignore[arg-type]  # what it asks
    assert str(refused.value) == (
        "whoever joined loss-1 as rank 1 is none of its pods; let each rank say its own pod's uid"
    )
