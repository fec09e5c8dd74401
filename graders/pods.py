"""Pods of a release, in words: whether they serve, what they wait for, and why they never will.

Place: lab checks wait for what they installed with `wait_until_serving`. Limits: Deployments whose pods carry the label
app.kubernetes.io/instance; serving means that a GET through the API server's Service proxy answers 200.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import kubernetes

from graders.errors import GraderError, InfrastructureError

RESTARTS = 2
"""A container that ended so often will not come up by itself."""
PENDING_SECONDS = 30.0
"""A pod that fits on no node for so long is not waiting for another pod to go."""


@dataclass(frozen=True)
class Release:
    """A Helm release that serves HTTP: its Service has the release's name.

    `fault` is the error to raise when its pods do not come up: the learner's for a submission, else the lab's.
    """

    name: str
    namespace: str
    port: int
    path: str
    fault: type[GraderError]


@dataclass(frozen=True)
class Address:
    """Where a Service answers inside the cluster's network."""

    host: str
    port: int


class Pods:
    """Reads pods and Services with the official client."""

    def __init__(self, client: kubernetes.client.ApiClient) -> None:
        self._core = kubernetes.client.CoreV1Api(client)

    def wait_until_serving(
        self,
        releases: Sequence[Release],
        *,
        seconds: float,
        progress: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Returns once every release serves.

        Raises:
            SubmissionError, InfrastructureError: a release's `fault`: it did not within `seconds`, or never will.
        """
        begun, pending = clock(), {release.name: clock() for release in releases}
        waiting = list(releases)
        while waiting:
            said = []
            for release in list(waiting):
                pods = self._of(release)
                pending[release.name] = clock() if any(map(_placed, pods)) else pending[release.name]
                if why := hopeless(pods, stuck=clock() - pending[release.name] > PENDING_SECONDS):
                    raise release.fault(f"{release.name} does not come up: {why}{self._last_words(release, pods)}")
                if pods and all(map(_ready, pods)) and self._serves(release):
                    waiting.remove(release)
                else:
                    said.append(f"{release.name} {describe(pods)}")
            if waiting and clock() - begun > seconds:
                first = waiting[0]
                words = self._last_words(first, self._of(first))
                raise first.fault(f"{first.name} did not serve {first.path} within {seconds:g} s: {said[0]}{words}")
            if waiting:
                progress(f"waiting for the servers: {', '.join(said)}")
                sleep(0.5)

    def address(self, release: Release) -> Address:
        """The cluster address of its Service."""
        try:
            service = self._core.read_namespaced_service(release.name, release.namespace)
        except kubernetes.client.ApiException as error:
            raise InfrastructureError(f"the Service {release.name} cannot be read: {error.reason}") from error
        return Address(service.spec.cluster_ip, release.port)

    def _of(self, release: Release) -> list[kubernetes.client.V1Pod]:
        selector = f"app.kubernetes.io/instance={release.name}"
        try:
            return list(self._core.list_namespaced_pod(release.namespace, label_selector=selector).items)
        except (kubernetes.client.ApiException, OSError) as error:
            raise InfrastructureError(f"the pods of {release.name} cannot be listed: {error}") from error

    def _serves(self, release: Release) -> bool:
        name = f"{release.name}:{release.port}"
        try:
            self._core.connect_get_namespaced_service_proxy_with_path(name, release.namespace, release.path.lstrip("/"))
        except kubernetes.client.ApiException:
            return False
        return True

    def _last_words(self, release: Release, pods: Sequence[kubernetes.client.V1Pod]) -> str:
        """The end of the log of its first pod, for a person to read; empty when there is none."""
        for pod in pods:
            for previous in (False, True):
                try:
                    log = self._core.read_namespaced_pod_log(
                        pod.metadata.name, release.namespace, tail_lines=8, previous=previous
                    )
                except kubernetes.client.ApiException:
                    continue
                if log.strip():
                    return f"; its log ends:\n{log.strip()}"
        return ""


def describe(pods: Sequence[kubernetes.client.V1Pod]) -> str:
    """What the pods of a release are doing, as in "is starting (Running, not ready)"."""
    if not pods:
        return "has no pods yet"
    return "is starting (" + ", ".join(sorted({_state(pod) for pod in pods})) + ")"


def hopeless(pods: Sequence[kubernetes.client.V1Pod], *, stuck: bool) -> str | None:
    """Why these pods will not come up by themselves, or None; `stuck` when none was placed on a node for long."""
    for pod in pods:
        for status in pod.status.container_statuses or []:
            waiting, ended = status.state.waiting, status.last_state.terminated or status.state.terminated
            if waiting and waiting.reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName"):
                return f"its image is not there: {waiting.message}"
            if waiting and waiting.reason in ("CreateContainerConfigError", "CreateContainerError"):
                return f"its container cannot be made: {waiting.message}"
            if ended and status.restart_count >= RESTARTS:
                return f"its container ended {status.restart_count} times, last with exit code {ended.exit_code}"
        for condition in pod.status.conditions or []:
            if stuck and condition.type == "PodScheduled" and condition.status == "False":
                return f"no node takes its pod: {condition.message}"
    return None


def _placed(pod: kubernetes.client.V1Pod) -> bool:
    return bool(pod.spec.node_name)


def _ready(pod: kubernetes.client.V1Pod) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or [])


def _state(pod: kubernetes.client.V1Pod) -> str:
    for status in pod.status.container_statuses or []:
        if status.state.waiting:
            return str(status.state.waiting.reason)
    return f"{pod.status.phase}, {'ready' if _ready(pod) else 'not ready'}"
