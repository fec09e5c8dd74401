"""Pods of a release, in words: whether they serve, what they wait for, and why they never will.

Place: lab checks wait for what they installed with `wait_until_serving`. Limits: Deployments whose pods carry the label
app.kubernetes.io/instance; serving means that a GET through the API server's Service proxy answers 200.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import kubernetes
import urllib3.exceptions

from graders.errors import GraderError, InfrastructureError

_TROUBLE = (kubernetes.client.ApiException, urllib3.exceptions.HTTPError)
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

    def __init__(self, core: kubernetes.client.CoreV1Api) -> None:
        self._core = core

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
            InfrastructureError: the lab keeps a pod from starting (no node, no image), or the cluster does not answer.
            GraderError: a release's `fault`: its container keeps ending, or it did not serve within `seconds`; where
                several did not, that of the first.
        """
        begun = clock()
        placed = {release.name: begun for release in releases}
        waiting = list(releases)
        while True:
            states = {release: self._of(release) for release in waiting}
            for release, pods in states.items():
                if any(map(_placed, pods)):
                    placed[release.name] = clock()
                self._refuse_hopeless(release, pods, stuck=clock() - placed[release.name] > PENDING_SECONDS)
            waiting = [release for release in waiting if not self._serves(release, states[release])]
            if not waiting:
                return
            if clock() - begun > seconds:
                first, pods = waiting[0], states[waiting[0]]
                raise first.fault(
                    f"{first.name} did not serve {first.path} within {seconds:g} s: {first.name} {describe(pods)}"
                    f"{self._last_words(first, pods)}"
                )
            progress(
                "waiting for the servers: " + ", ".join(f"{each.name} {describe(states[each])}" for each in waiting)
            )
            sleep(0.5)

    def address(self, release: Release) -> Address:
        """The cluster address of its Service."""
        try:
            service = self._core.read_namespaced_service(release.name, release.namespace)
        except _TROUBLE as error:
            raise InfrastructureError(f"the Service {release.name} cannot be read: {error}") from error
        return Address(service.spec.cluster_ip, release.port)

    def _of(self, release: Release) -> list[kubernetes.client.V1Pod]:
        selector = f"app.kubernetes.io/instance={release.name}"
        try:
            return list(self._core.list_namespaced_pod(release.namespace, label_selector=selector).items)
        except _TROUBLE as error:
            raise InfrastructureError(f"the pods of {release.name} cannot be listed: {error}") from error

    def _refuse_hopeless(self, release: Release, pods: Sequence[kubernetes.client.V1Pod], *, stuck: bool) -> None:
        if why := blocked(pods, stuck=stuck):
            raise InfrastructureError(f"{release.name} cannot come up: {why}")
        if why := failing(pods):
            raise release.fault(f"{release.name} does not come up: {why}{self._last_words(release, pods)}")

    def _serves(self, release: Release, pods: Sequence[kubernetes.client.V1Pod]) -> bool:
        if not pods or not all(map(_ready, pods)):
            return False
        name = f"{release.name}:{release.port}"
        try:
            self._core.connect_get_namespaced_service_proxy_with_path(name, release.namespace, release.path.lstrip("/"))
        except _TROUBLE:
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
                except _TROUBLE:
                    continue
                if log.strip():
                    return f"; its log ends:\n{log.strip()}"
        return ""


def describe(pods: Sequence[kubernetes.client.V1Pod]) -> str:
    """What the pods of a release are doing, as in "is starting (Running, not ready)"."""
    if not pods:
        return "has no pods yet"
    return "is starting (" + ", ".join(sorted({_state(pod) for pod in pods})) + ")"


def blocked(pods: Sequence[kubernetes.client.V1Pod], *, stuck: bool) -> str | None:
    """Why the lab keeps these pods from starting, or None; `stuck` when none was placed on a node for long."""
    for pod in pods:
        for status in pod.status.container_statuses or []:
            waiting = status.state.waiting
            if waiting and waiting.reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName"):
                return f"its image is not there: {waiting.message}"
            if waiting and waiting.reason in ("CreateContainerConfigError", "CreateContainerError"):
                return f"its container cannot be made: {waiting.message}"
        for condition in pod.status.conditions or []:
            if stuck and condition.type == "PodScheduled" and condition.status == "False":
                return f"no node takes its pod: {condition.message}"
    return None


def failing(pods: Sequence[kubernetes.client.V1Pod]) -> str | None:
    """Why these pods will not come up by themselves though they start, or None."""
    for pod in pods:
        for status in pod.status.container_statuses or []:
            ended = status.last_state.terminated or status.state.terminated
            if ended and status.restart_count >= RESTARTS:
                return f"its container ended {status.restart_count} times, last with exit code {ended.exit_code}"
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
