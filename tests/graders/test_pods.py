"""Pods of releases that come up, fail, or are kept from starting; the official client's objects, no cluster."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3.exceptions
from kubernetes import client

from graders.errors import InfrastructureError, SubmissionError
from graders.pods import Address, Pods, Release

RELEASE = Release("submission", "ns", 8000, "/health", SubmissionError)


def pod(
    *,
    node: str | None = "gpu-1",
    ready: bool = True,
    waiting: tuple[str, str] | None = None,
    restarts: int = 0,
    unschedulable: str | None = None,
    name: str = "submission-1",
    asks: str = "/health",
    leaving: bool = False,
    reason: str | None = None,
) -> client.V1Pod:
    state = client.V1ContainerState(
        waiting=client.V1ContainerStateWaiting(reason=waiting[0], message=waiting[1]) if waiting else None
    )
    ended = client.V1ContainerStateTerminated(exit_code=1, reason=reason) if restarts else None
    status = client.V1ContainerStatus(
        image="vllm",
        image_id="x",
        name="vllm",
        ready=ready,
        restart_count=restarts,
        state=state,
        last_state=client.V1ContainerState(terminated=ended),
    )
    probe = client.V1Probe(http_get=client.V1HTTPGetAction(path=asks, port="http"))
    conditions = [client.V1PodCondition(type="Ready", status=str(ready))]
    if unschedulable:
        conditions = [client.V1PodCondition(type="PodScheduled", status="False", message=unschedulable)]
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, deletion_timestamp=datetime.now(UTC) if leaving else None),
        spec=client.V1PodSpec(containers=[client.V1Container(name="vllm", readiness_probe=probe)], node_name=node),
        status=client.V1PodStatus(
            phase="Running" if node else "Pending",
            pod_ip="10.0.0.1",
            conditions=conditions,
            container_statuses=[status],
        ),
    )


class Core:
    """The calls of the official client that are used; each look at the pods sees the next state."""

    def __init__(
        self,
        *states: list[client.V1Pod],
        serves: bool = True,
        answers: bool = False,
        log: bytes = b"",
        services: tuple[str, ...] = ("web",),
    ) -> None:
        self._answers, self._services = answers, services
        self.deleted: list[tuple[str, str, int]] = []
        self._states: Iterator[list[client.V1Pod]] = iter(states)
        self._last: list[client.V1Pod] = []
        self._serves, self._log = serves, log

    def list_namespaced_pod(self, namespace: str, *, label_selector: str) -> Any:
        assert (namespace, label_selector) == ("ns", "app.kubernetes.io/instance=submission")
        self._last = next(self._states, self._last)
        return client.V1PodList(items=self._last)

    def connect_get_namespaced_service_proxy_with_path(self, name: str, namespace: str, path: str) -> str:
        assert (name, namespace, path) == ("web:8000", "ns", "health")
        if not self._serves:
            raise client.ApiException(status=503, reason="no endpoints")
        return ""

    def connect_get_namespaced_pod_proxy_with_path(self, name: str, namespace: str, path: str) -> str:
        assert (name, namespace, path) == ("submission-1:8000", "ns", "health")
        if not self._answers:
            raise client.ApiException(status=502, reason="connection refused")
        return ""

    def list_namespaced_service(self, namespace: str, *, label_selector: str) -> Any:
        assert (namespace, label_selector) == ("ns", "app.kubernetes.io/instance=submission")
        spec = client.V1ServiceSpec(cluster_ip="10.96.0.7")
        return client.V1ServiceList(
            items=[client.V1Service(metadata=client.V1ObjectMeta(name=name), spec=spec) for name in self._services]
        )

    def delete_namespaced_pod(self, name: str, namespace: str, *, grace_period_seconds: int) -> None:
        self.deleted.append((name, namespace, grace_period_seconds))

    def read_namespaced_pod_log(self, *_: object, _preload_content: bool, **__: object) -> SimpleNamespace:
        assert not _preload_content  # else the client decodes it, and what is not UTF-8 raises
        return SimpleNamespace(data=self._log)


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
        wait(Core([pod(ready=False, restarts=2)], log=b"ValueError: max_num_seqs\n"))
    assert str(caught.value) == (
        "submission does not come up: its container ended 2 times, last with exit code 1; "
        "its log ends:\nValueError: max_num_seqs"
    )


def test_a_log_that_is_not_utf_8_is_quoted_with_what_is() -> None:
    with pytest.raises(SubmissionError) as caught:
        wait(Core([pod(ready=False, restarts=2)], log=b"\xffno \xc3\xa4\n"))
    assert str(caught.value) == (
        "submission does not come up: its container ended 2 times, last with exit code 1; "
        "its log ends:\n\N{REPLACEMENT CHARACTER}no ä"
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


def test_the_reason_of_an_end_is_told_where_it_has_a_name() -> None:
    with pytest.raises(SubmissionError) as caught:
        wait(Core([pod(ready=False, restarts=2, reason="OOMKilled")]))
    assert str(caught.value) == (
        "submission does not come up: its container ended 2 times, last with exit code 1 (OOMKilled)"
    )


def test_a_server_whose_probe_asks_for_something_else_is_told_so() -> None:
    with pytest.raises(SubmissionError) as caught:
        wait(Core([pod(ready=False, asks="/healthz")], answers=True), seconds=300)
    assert str(caught.value) == (
        "submission answers at /health, but is not ready after 20 s more, so nobody is sent to it: "
        "its probes ask for /healthz"
    )


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ([], "starting"),
        ([pod(ready=False, node=None)], "starting"),
        ([pod(ready=False)], "unready"),
        ([pod(ready=False, restarts=1)], "ending"),
    ],
)
def test_the_trouble_of_pods_has_a_word(state: list[client.V1Pod], word: str) -> None:
    assert Pods(Core(state)).trouble(RELEASE) == word


def test_a_release_is_found_by_its_label() -> None:
    pods = Pods(Core([pod(), pod(name="submission-2", ready=False), pod(name="submission-3", leaving=True)]))

    assert pods.address(RELEASE) == Address("10.96.0.7", 8000)
    assert pods.replicas(RELEASE) == {"submission-1": Address("10.0.0.1", 8000)}


def test_a_release_without_a_service_cannot_be_asked() -> None:
    with pytest.raises(InfrastructureError) as caught:
        Pods(Core([pod()], services=())).address(RELEASE)
    assert str(caught.value) == "submission has 0 Services, where one is to be asked"


def replace(core: Core, count: int) -> tuple[float, list[str]]:
    clock, said = Clock(), list[str]()
    took = Pods(core).wait_until_replaced(
        RELEASE, ["old"], count, seconds=2, progress=said.append, clock=lambda: clock.now, sleep=clock.sleep
    )
    return took, said


def test_an_upgrade_is_done_when_the_new_pods_are_ready_and_the_old_ones_gone() -> None:
    old, new, more = pod(name="old"), pod(name="new"), pod(name="more")

    assert replace(Core([old], [old, new], [pod(name="old", leaving=True), new, more], [new, more]), 2) == (
        1.5,
        [
            "upgrading: 0 of 2 new pods are ready, 1 of 1 old ones are left",
            "upgrading: 1 of 2 new pods are ready, 1 of 1 old ones are left",
            "upgrading: 2 of 2 new pods are ready, 1 of 1 old ones are left",
        ],
    )


def test_an_upgrade_that_hangs_is_the_releases_fault() -> None:
    with pytest.raises(SubmissionError) as caught:
        replace(Core([pod(name="old"), pod(name="new", ready=False)]), 1)
    assert str(caught.value) == (
        "the upgrade of submission was not done within 2 s: 0 of 1 new pods are ready, 1 of 1 old ones are left"
    )


def test_a_pod_is_killed_without_grace() -> None:
    core = Core([pod()])
    Pods(core).kill(RELEASE, "submission-1")
    assert core.deleted == [("submission-1", "ns", 0)]


class Refusing:
    """An API server that refuses whatever is asked, or is gone."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def refuse(self, *_: object, **__: object) -> None:
        raise self._error

    list_namespaced_pod = list_namespaced_service = delete_namespaced_pod = refuse


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (client.ApiException(status=503, reason="Service Unavailable"), "answers 503 Service Unavailable"),
        (urllib3.exceptions.HTTPError("connection refused"), "does not answer (connection refused)"),
    ],
    ids=["refused", "gone"],
)
def test_an_api_server_in_trouble_is_the_labs_infrastructure(error: Exception, why: str) -> None:
    pods, said = Pods(Refusing(error)), list[str]()
    for ask in (
        lambda: pods.kill(RELEASE, "submission-1"),
        lambda: pods.address(RELEASE),
        lambda: pods.replicas(RELEASE),
    ):
        with pytest.raises(InfrastructureError) as caught:
            ask()
        said.append(str(caught.value))
    assert said == [
        f"the pod submission-1 cannot be deleted: the API server {why}; grade again",
        f"the Service of submission cannot be read: the API server {why}; grade again",
        f"the pods of submission cannot be listed: the API server {why}; grade again",
    ]
