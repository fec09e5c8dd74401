"""The cluster under contract, in terms of its kubeconfig, kubectl, Helm and the official Python client.

Place: conftest.py finds or starts one; each module of tests gets a `Space` of it, a namespace of its own. Limits: this
knows nothing of how a cluster is made; `enter` is None where pod addresses cannot be reached from here.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient

from clusters.process import run
from clusters.wait import until
from tests.patience import PATIENCE

Object = dict[str, Any]
PYTHON, SHELL = "python:3.12", "busybox:1.36"
_GROUPS = {
    "apps/v1": ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ControllerRevision"),
    "batch/v1": ("Job", "CronJob"),
    "policy/v1": ("PodDisruptionBudget",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "discovery.k8s.io/v1": ("EndpointSlice",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "scheduling.k8s.io/v1": ("PriorityClass",),
    "storage.k8s.io/v1": ("StorageClass",),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    "apiextensions.k8s.io/v1": ("CustomResourceDefinition",),
    "apiregistration.k8s.io/v1": ("APIService",),
    "admissionregistration.k8s.io/v1": ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"),
}
VERSIONS = {kind: version for version, kinds in _GROUPS.items() for kind in kinds}


@dataclass(frozen=True)
class Subject:
    """A cluster of any kind.

    `enter` makes the argument list that runs a program where pod addresses answer; `not_enforced` is as in its traits,
    None where there are none to ask.
    """

    kubeconfig: Path
    kubectl: Path
    helm: Path
    api: ApiClient
    dynamic: DynamicClient
    enter: Callable[[Sequence[str]], list[str]] | None
    not_enforced: tuple[str, ...] | None


class Space:
    """A namespace and its clients."""

    def __init__(self, subject: Subject, name: str) -> None:
        self.subject, self.name = subject, name

    def argv(self, *words: str) -> list[str]:
        """The argument list of a kubectl command in this namespace."""
        return [
            str(self.subject.kubectl),
            f"--kubeconfig={self.subject.kubeconfig}",
            f"--namespace={self.name}",
            *words,
        ]

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """What a kubectl command prints; raises CommandFailed with its words when it fails."""
        return run(self.argv(*words), stdin=stdin, seconds=PATIENCE)

    def helm(self, *words: str) -> str:
        """What a helm command prints."""
        flags = (f"--kubeconfig={self.subject.kubeconfig}", f"--namespace={self.name}")
        return run([str(self.subject.helm), *flags, *words], seconds=PATIENCE)

    def resource(self, kind: str, version: str = "") -> Any:
        """The Python client's resource for a kind; of core/v1 unless the kind is known to be of another group."""
        return self.subject.dynamic.resources.get(api_version=version or VERSIONS.get(kind, "v1"), kind=kind)

    def create(self, *objects: Object, **options: Any) -> Object:
        """Creates objects as the Python client does and returns the last as the server answered."""
        for each in objects:
            resource = self.resource(each["kind"], each.get("apiVersion", ""))
            made = resource.create(body={"apiVersion": resource.group_version, **each}, namespace=self.name, **options)
        return dict(made.to_dict())

    def get(self, kind: str, name: str, version: str = "") -> Object:
        """An object; raises NotFoundError when it is not there."""
        return dict(self.resource(kind, version).get(name=name, namespace=self.name).to_dict())

    def find(self, kind: str, **options: Any) -> list[Object]:
        """The objects of a kind in this namespace, narrowed by `label_selector` or `field_selector`."""
        return list(self.resource(kind).get(namespace=self.name, **options).to_dict()["items"])

    def patch(self, kind: str, name: str, body: Object, **options: Any) -> Object:
        """A JSON merge patch; returns the object."""
        options.setdefault("content_type", "application/merge-patch+json")
        return dict(self.resource(kind).patch(name=name, body=body, namespace=self.name, **options).to_dict())

    def delete(self, kind: str, name: str, **body: Any) -> None:
        """Asks for an object's deletion; `body` is of DeleteOptions."""
        self.resource(kind).delete(name=name, namespace=self.name, body=body or None)

    def until(self, kind: str, name: str, done: Callable[[Object], Any], what: str = "") -> Object:
        """The object once `done` of it is true."""
        return until(
            lambda: self.get(kind, name),
            lambda found: bool(done(found)),
            what=what or f"{kind} {name}",
            seconds=PATIENCE,
            describe=lambda found: json.dumps(found.get("status"), default=str),
        )

    def gone(self, kind: str, name: str) -> None:
        """Returns when there is no such object any more."""
        until(lambda: self.exists(kind, name), lambda there: not there, what=f"{kind} {name} to go", seconds=PATIENCE)

    def exists(self, kind: str, name: str) -> bool:
        """Whether there is such an object."""
        try:
            self.get(kind, name)
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    def phase(self, pod: str, *wanted: str) -> Object:
        """The pod once it is in one of these phases."""
        return self.until("Pod", pod, lambda found: found["status"].get("phase") in wanted, f"{pod} to be {wanted}")

    def ready(self, pod: str) -> Object:
        """The pod once it is Ready."""
        return self.until("Pod", pod, is_ready, f"{pod} to be Ready")

    def output(self, pod: str) -> str:
        """What the pod has printed once it has ended."""
        self.phase(pod, "Succeeded", "Failed")
        return self.log(pod)

    def log(self, pod: str, **options: Any) -> str:
        """What a pod has printed so far; `options` are those of CoreV1Api.read_namespaced_pod_log."""
        core = CoreV1Api(self.subject.api)
        answer = core.read_namespaced_pod_log(pod, self.name, _preload_content=False, **options)
        return str(answer.data.decode())

    def run(self, name: str, *command: str, **spec: Any) -> str:
        """What a pod prints that runs a command to its end."""
        self.create(pod(name, *command, **spec))
        return self.output(name)

    def endpoints(self, service: str) -> dict[str, bool]:
        """Pods by name that a Service's EndpointSlices name, and whether they are ready."""
        slices = self.find("EndpointSlice", label_selector=f"kubernetes.io/service-name={service}")
        found = [each for part in slices for each in part.get("endpoints") or ()]
        return {each["targetRef"]["name"]: each["conditions"]["ready"] for each in found}

    def until_endpoints(self, service: str, expected: dict[str, bool]) -> dict[str, bool]:
        """The Service's endpoints once they are these, which may be a second later than pods are Ready."""
        return until(
            lambda: self.endpoints(service),
            lambda found: found == expected,
            what=f"endpoints of {service}",
            seconds=PATIENCE,
        )

    def events(self, name: str) -> str:
        """What was said about an object."""
        return "\n".join(each["message"] for each in self.find("Event", field_selector=f"involvedObject.name={name}"))


def pod(name: str, *command: str, labels: Object | None = None, container: Object | None = None, **spec: Any) -> Object:
    """A pod with one container `main` that runs a command, or a line of shell; `container` and `spec` add to it."""
    return {"kind": "Pod", "metadata": {"name": name, "labels": labels or {"app": name}}} | {
        "spec": template(*command, container=container, **({"restartPolicy": "Never"} | spec))
    }


def template(*command: str, container: Object | None = None, **spec: Any) -> Object:
    """A pod's spec: one container `main` that runs a command, or a line of shell, and ends at once when it shall."""
    words = ["sh", "-c", *command] if len(command) == 1 else list(command)
    main = {"name": "main", "image": SHELL, "command": words} | (container or {})
    return {"terminationGracePeriodSeconds": 0, "containers": [main]} | spec


def python(name: str, code: str, *, container: Object | None = None, **more: Any) -> Object:
    """A pod that runs Python code."""
    return pod(name, "python3", "-u", "-c", code, container={"image": PYTHON} | (container or {}), **more)


def workload(kind: str, name: str, spec: Object, **more: Any) -> Object:
    """A controller of pods that are labelled with its name; `spec` is the pods', `more` the controller's own."""
    meta = {"labels": {"app": name}}
    own = {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": meta, "spec": spec}} | more
    return {"kind": kind, "metadata": {"name": name}, "spec": own}


def service(name: str, *, app: str = "", port: int = 80, **spec: Any) -> Object:
    """A Service for the pods labelled with its name, or with `app`."""
    body = {"selector": {"app": app or name}, "ports": [{"port": port}]} | spec
    return {"kind": "Service", "metadata": {"name": name}, "spec": body}


def is_ready(found: Object) -> bool:
    """Whether a pod's status says Ready."""
    conditions: Iterable[Object] = found.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def unique(prefix: str) -> str:
    """A name that no other run uses, for what belongs to no namespace."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"
