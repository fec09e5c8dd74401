"""Pods of a release, in words: whether they serve, what they wait for, and why they never will.

Place: lab checks wait for what they installed with `wait_until_serving`, find it with `address` and `replicas`, see
an upgrade through with `wait_until_replaced`, take a pod away with `kill`. Limits: Deployments with one Service; both
carry the label app.kubernetes.io/instance. Serving means that a GET through the API server's Service proxy answers 200.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import kubernetes

from graders.api_server import API_ERRORS, answer_of
from graders.errors import GraderError, InfrastructureError

RESTARTS = 2
"""A container that ended so often will not come up by itself."""
PENDING_SECONDS = 30.0
"""A pod that fits on no node for so long is not waiting for another pod to go."""
UNREADY_SECONDS = 20.0
"""A pod that answers for so long and is not ready has a probe that asks for something else."""

Trouble = Literal["ending", "unready", "starting"]


@dataclass(frozen=True)
class Release:
    """A Helm release that serves HTTP: `port` is that of its Service and of its pods, `path` answers once it serves.

    `fault` is the error to raise when its pods do not come up: the learner's for a submission, else the lab's.
    """

    name: str
    namespace: str
    port: int
    path: str
    fault: type[GraderError]


@dataclass(frozen=True)
class Address:
    """Where a Service or a pod answers inside the cluster's network."""

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
        answering: dict[str, float] = {}
        waiting = list(releases)
        while True:
            states = {release: self._of(release) for release in waiting}
            for release, pods in states.items():
                if any(map(_placed, pods)):
                    placed[release.name] = clock()
                self._refuse_hopeless(release, pods, stuck=clock() - placed[release.name] > PENDING_SECONDS)
                if trouble(pods) == "unready" and self._answers(release, pods[0]):
                    answering.setdefault(release.name, clock())
                    self._refuse_unready(release, pods, seconds=clock() - answering[release.name])
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
        return Address(self._service(release).spec.cluster_ip, release.port)

    def replicas(self, release: Release) -> dict[str, Address]:
        """Where each of its pods that are ready answers, by the pod's name."""
        pods = [pod for pod in self._of(release) if _ready(pod) and not _leaving(pod)]
        return {pod.metadata.name: Address(pod.status.pod_ip, release.port) for pod in pods}

    def hosts(self, release: Release) -> list[str]:
        """Addresses of the nodes that its pods are on."""
        return sorted({pod.status.host_ip for pod in self._of(release) if _placed(pod) and not _leaving(pod)})

    def trouble(self, release: Release) -> Trouble:
        """What keeps it from serving, in a word."""
        return trouble(self._of(release))

    def wait_until_replaced(
        self,
        release: Release,
        before: Iterable[str],
        count: int,
        *,
        seconds: float,
        progress: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> float:
        """Returns how long it took until `count` pods are ready and none of those called `before` is left.

        Raises:
            InfrastructureError: the lab keeps a pod from starting, or the cluster does not answer.
            GraderError: the release's `fault`: a new pod keeps ending, or it was not done within `seconds`.
        """
        begun, old = clock(), frozenset(before)
        while True:
            pods = self._of(release)
            fresh = [pod for pod in pods if pod.metadata.name not in old and not _leaving(pod)]
            self._refuse_hopeless(release, fresh, stuck=False)
            ready, left = sum(map(_ready, fresh)), sum(pod.metadata.name in old for pod in pods)
            if ready >= count and not left:
                return clock() - begun
            state = f"{ready} of {count} new pods are ready, {left} of {len(old)} old ones are left"
            if clock() - begun > seconds:
                raise release.fault(f"the upgrade of {release.name} was not done within {seconds:.0f} s: {state}")
            progress(f"upgrading: {state}")
            sleep(0.5)

    def kill(self, release: Release, pod: str) -> None:
        """Takes a pod away at once, without telling it, as a node that is lost does."""
        try:
            self._core.delete_namespaced_pod(pod, release.namespace, grace_period_seconds=0)
        except API_ERRORS as error:
            raise InfrastructureError(f"the pod {pod} cannot be deleted: {answer_of(error)}; grade again") from error

    def _service(self, release: Release) -> kubernetes.client.V1Service:
        try:
            found = self._core.list_namespaced_service(release.namespace, label_selector=_label(release)).items
        except API_ERRORS as error:
            said = f"the Service of {release.name} cannot be read: {answer_of(error)}; grade again"
            raise InfrastructureError(said) from error
        if len(found) != 1:
            raise InfrastructureError(f"{release.name} has {len(found)} Services, where one is to be asked")
        return found[0]

    def _of(self, release: Release) -> list[kubernetes.client.V1Pod]:
        try:
            return list(self._core.list_namespaced_pod(release.namespace, label_selector=_label(release)).items)
        except API_ERRORS as error:
            said = f"the pods of {release.name} cannot be listed: {answer_of(error)}; grade again"
            raise InfrastructureError(said) from error

    def _refuse_hopeless(self, release: Release, pods: Sequence[kubernetes.client.V1Pod], *, stuck: bool) -> None:
        if why := blocked(pods, stuck=stuck):
            raise InfrastructureError(f"{release.name} cannot come up: {why}")
        if why := failing(pods):
            raise release.fault(f"{release.name} does not come up: {why}{self._last_words(release, pods)}")

    def _refuse_unready(self, release: Release, pods: Sequence[kubernetes.client.V1Pod], *, seconds: float) -> None:
        if seconds > UNREADY_SECONDS:
            raise release.fault(
                f"{release.name} answers at {release.path}, but is not ready after {seconds:.0f} s more, so nobody is "
                f"sent to it: its probes ask for {' and '.join(_asked_for(pods)) or 'something else'}"
            )

    def _answers(self, release: Release, pod: kubernetes.client.V1Pod) -> bool:
        """Whether a pod answers when it is asked itself, ready or not."""
        name = f"{pod.metadata.name}:{release.port}"
        try:
            self._core.connect_get_namespaced_pod_proxy_with_path(name, release.namespace, release.path.lstrip("/"))
        except API_ERRORS:
            return False
        return True

    def _serves(self, release: Release, pods: Sequence[kubernetes.client.V1Pod]) -> bool:
        if not pods or not all(map(_ready, pods)):
            return False
        name = f"{self._service(release).metadata.name}:{release.port}"
        try:
            self._core.connect_get_namespaced_service_proxy_with_path(name, release.namespace, release.path.lstrip("/"))
        except API_ERRORS:
            return False
        return True

    def _last_words(self, release: Release, pods: Sequence[kubernetes.client.V1Pod]) -> str:
        """The end of the log of its first pod, for a person to read; empty when there is none."""
        for pod in pods:
            for previous in (False, True):
                try:
                    log = end_of_log(self._core, pod.metadata.name, release.namespace, previous=previous)
                except API_ERRORS:
                    continue
                if log:
                    return f"; its log ends:\n{log}"
        return ""


def end_of_log(core: kubernetes.client.CoreV1Api, pod: str, namespace: str, *, previous: bool = False) -> str:
    """The last lines that a pod's container printed, or the one before it, whatever bytes they have.

    What is not UTF-8 is replaced; the client would not decode it. What goes wrong with the API server is passed on.
    """
    answer = core.read_namespaced_pod_log(pod, namespace, tail_lines=8, previous=previous, _preload_content=False)
    return str(answer.data.decode(errors="replace").strip())


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
                why = f" ({ended.reason})" if ended.reason not in (None, "Error", "Completed") else ""
                return f"its container ended {status.restart_count} times, last with exit code {ended.exit_code}{why}"
    return None


def trouble(pods: Sequence[kubernetes.client.V1Pod]) -> Trouble:
    """What keeps these pods from serving: containers that end, probes that do not pass, or nothing but time."""
    statuses = [status for pod in pods for status in pod.status.container_statuses or []]
    if any(status.restart_count or status.state.terminated for status in statuses):
        return "ending"
    running = [pod for pod in pods if pod.status.phase == "Running"]
    return "unready" if running and not any(map(_ready, running)) else "starting"


def _label(release: Release) -> str:
    return f"app.kubernetes.io/instance={release.name}"


def _asked_for(pods: Sequence[kubernetes.client.V1Pod]) -> list[str]:
    """Paths for which the probes of these pods ask."""
    containers = [container for pod in pods for container in pod.spec.containers]
    probes = [probe for each in containers for probe in (each.startup_probe, each.readiness_probe) if probe]
    return sorted({probe.http_get.path for probe in probes if probe.http_get})


def _leaving(pod: kubernetes.client.V1Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def _placed(pod: kubernetes.client.V1Pod) -> bool:
    return bool(pod.spec.node_name)


def _ready(pod: kubernetes.client.V1Pod) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or [])


def _state(pod: kubernetes.client.V1Pod) -> str:
    for status in pod.status.container_statuses or []:
        if status.state.waiting:
            return str(status.state.waiting.reason)
    return f"{pod.status.phase}, {'ready' if _ready(pod) else 'not ready'}"
