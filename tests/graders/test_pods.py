"""Pods of releases that come up, fail, or are kept from starting; the official client's objects, no cluster."""

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from graders.errors import InfrastructureError, SubmissionError
from graders.pods import Pods, Release

RELEASE = Release("submission", "ns", 8000, "/health", SubmissionError)


def pod(
    *,
    node: str | None = "gpu-1",
    ready: bool = True,
    waiting: tuple[str, str] | None = None,
    restarts: int = 0,
    unschedulable: str | None = None,
) -> client.V1Pod:
    state = client.V1ContainerState(
        waiting=client.V1ContainerStateWaiting(reason=waiting[0], message=waiting[1]) if waiting else None
    )
    ended = client.V1ContainerStateTerminated(exit_code=1) if restarts else None
    status = client.V1ContainerStatus(
        image="vllm",
        image_id="x",
        name="vllm",
        ready=ready,
        restart_count=restarts,
        state=state,
        last_state=client.V1ContainerState(terminated=ended),
    )
    conditions = [client.V1PodCondition(type="Ready", status=str(ready))]
    if unschedulable:
        conditions = [client.V1PodCondition(type="PodScheduled", status="False", message=unschedulable)]
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name="submission-1"),
        spec=client.V1PodSpec(containers=[], node_name=node),
        status=client.V1PodStatus(
            phase="Running" if node else "Pending", conditions=conditions, container_statuses=[status]
        ),
    )


class Core:
    """The three calls of the official client that are used; each look at the pods sees the next state."""

    def __init__(self, *states: list[client.V1Pod], serves: bool = True, log: str = "") -> None:
        self._states: Iterator[list[client.V1Pod]] = iter(states)
        self._last: list[client.V1Pod] = []
        self._serves, self._log = serves, log

    def list_namespaced_pod(self, namespace: str, *, label_selector: str) -> Any:
        assert (namespace, label_selector) == ("ns", "app.kubernetes.io/instance=submission")
        self._last = next(self._states, self._last)
        return client.V1PodList(items=self._last)

    def connect_get_namespaced_service_proxy_with_path(self, name: str, namespace: str, path: str) -> str:
        assert (name, namespace, path) == ("submission:8000", "ns", "health")
        if not self._serves:
            raise client.ApiException(status=503, reason="no endpoints")
        return ""

    def read_namespaced_pod_log(self, *_: object, **__: object) -> str:
        return self._log


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(core: Core, seconds: float = 60.0) -> list[str]:
    clock, said = Clock(), list[str]()
    Pods(core).wait_until_serving(
        [RELEASE], seconds=seconds, progress=said.append, clock=lambda: clock.now, sleep=clock.sleep
    )
    return said


def test_waits_until_the_pods_are_ready_and_answer() -> None:
    starting = pod(ready=False, waiting=("ContainerCreating", ""))
    assert wait(Core([], [starting], [pod(ready=False)], [pod()])) == [
        "waiting for the servers: submission has no pods yet",
        "waiting for the servers: submission is starting (ContainerCreating)",
        "waiting for the servers: submission is starting (Running, not ready)",
    ]


def test_a_container_that_keeps_ending_is_its_releases_fault_and_is_quoted() -> None:
    with pytest.raises(SubmissionError) as caught:
        wait(Core([pod(ready=False, restarts=2)], log="ValueError: max_num_seqs\n"))
    assert str(caught.value) == (
        "submission does not come up: its container ended 2 times, last with exit code 1; "
        "its log ends:\nValueError: max_num_seqs"
    )


def test_a_server_that_never_answers_is_its_releases_fault() -> None:
    with pytest.raises(SubmissionError) as caught:
        wait(Core([pod()], serves=False), seconds=3)
    assert str(caught.value) == ("submission did not serve /health within 3 s: submission is starting (Running, ready)")


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_a_missing_image_is_the_labs_fault(reason: str) -> None:
    with pytest.raises(InfrastructureError) as caught:
        wait(Core([pod(ready=False, waiting=(reason, "no such image"))]))
    assert str(caught.value) == "submission cannot come up: its image is not there: no such image"


def test_a_pod_that_no_node_takes_is_the_labs_fault_after_a_while() -> None:
    with pytest.raises(InfrastructureError) as caught:
        wait(Core([pod(node=None, unschedulable="Insufficient nvidia.com/gpu")]))
    assert str(caught.value) == "submission cannot come up: no node takes its pod: Insufficient nvidia.com/gpu"
