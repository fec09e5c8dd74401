"""What the cluster says of a run, for its record: pods as they changed, logs, events, releases, nodes.

Place: conftest.py puts it around the life of a run's namespace; each part is a file below evidence/cluster/. Limits: it
never fails a check: a part that cannot be had is said to be missing in run.jsonl. A pod that is taken away without
notice takes its log with it, which is said; of one that is told to go, the log is kept as it was at its last change.
"""

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import kubernetes
import msgspec
import urllib3.exceptions
import yaml

from graders.errors import GraderError
from graders.lines import EVENTS_FORMAT
from graders.pod_watch import PodWatch
from graders.record import NotWritten, Record, pretty
from graders.stored import unpacked

FOLDER = "cluster"
WATCH_BYTES = 4 << 20
EVENTS_BYTES = 2 << 20
NODES_BYTES = 1 << 20
RELEASE_BYTES = 1 << 20
"""Of the values of a revision, and of its manifest."""
REVISIONS = 40
LOG_BYTES = 256 << 10
"""Of each container's log: its last ones."""
LOGS = 60
IMAGES = 50
"""Of each node, as the kubelet lists them."""
READ_BYTES = 32 << 20
"""Of a log; no kubelet lets one grow so far before it begins another."""
GONE = (
    b"unable to retrieve container logs for ",
    b"failed to try resolving symlinks in path ",
    b"failed to open log file ",
)
"""What the kubelet says, with status 200, in place of a log that it has no longer, or that goes while it looks."""
SECONDS = 40.0
"""For all of it; what has not begun then is missing."""
_TIMES = (5.0, 10.0)
_TROUBLE = (
    kubernetes.client.ApiException,
    urllib3.exceptions.HTTPError,
    msgspec.DecodeError,
    GraderError,
    OSError,
    LookupError,
    TypeError,
    ValueError,
)
"""What a cluster that ends, or answers as none should, makes of reading it."""


class ClusterEvidence:
    """Watches a namespace while it is entered, and keeps the rest when it is left, before the namespace is removed.

    `leaving` are the logs of containers whose pods were told to go, by the pod's uid and the container's name.
    """

    def __init__(
        self,
        core: kubernetes.client.CoreV1Api,
        namespace: str,
        record: Record,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core, self._namespace, self._record, self._clock = core, namespace, record, clock
        self.leaving: dict[tuple[str, str], _Log] = {}
        self._missing: dict[str, str] = {}
        self._watch: PodWatch | None = None
        self._until = 0.0

    def __enter__(self) -> Self:
        with suppress(NotWritten):  # the run says so itself
            self._lines = self._record.lines(f"{FOLDER}/pods.jsonl", most=WATCH_BYTES)
            self._watch = PodWatch(self._core, self._namespace, self._look)
            self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._until = self._clock() + SECONDS
        if self._watch is not None:
            self._watch.stop()
            self._lines.close()
            if self._watch.trouble:
                self._missing["some changes of pods"] = self._watch.trouble
        # Releases first: they tell which values are secrets, wherever these stand in what comes after.
        parts = {"releases": self._releases, "events": self._events, "logs": self._logs, "nodes": self._nodes}
        with suppress(NotWritten):
            for name, keep in parts.items():
                if self._clock() > self._until:
                    self._missing[name] = f"the others took {SECONDS:g} s"
                    continue
                try:
                    keep()
                except NotWritten:
                    raise
                except _TROUBLE as problem:
                    self._missing[name] = _words(problem)
            seconds = round(self._clock() - self._until + SECONDS, 3)
            self._record.write("collected", namespace=self._namespace, seconds=seconds, missing=self._missing)

    def _look(self, moment: float, kind: str, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        told = {name: metadata[name] for name in ("name", "uid", "labels", "deletionTimestamp") if name in metadata}
        node = pod.get("spec", {}).get("nodeName")
        self._lines.write({"at": moment, "type": kind, **told, "node": node, "status": pod.get("status")})
        if kind == "MODIFIED" and "deletionTimestamp" in metadata:
            for status in _containers(pod):
                with suppress(*_TROUBLE):
                    self.leaving[metadata["uid"], status["name"]] = self._log(pod, status)
        if kind == "DELETED":
            for status in _containers(pod):
                if (metadata["uid"], status["name"]) not in self.leaving:
                    self._missing[_the_log(pod, status)] = "its pod was gone before it could be read"

    def _events(self) -> None:
        found = self._list(self._core.list_namespaced_event, self._namespace)
        told = sorted(map(_event, found), key=lambda event: str(event["first"]))
        lines = msgspec.json.Encoder().encode_lines([{"format": EVENTS_FORMAT}, *told])
        self._record.keep(f"{FOLDER}/events.jsonl", lines, most=EVENTS_BYTES)

    def _logs(self) -> None:
        pods = self._list(self._core.list_namespaced_pod, self._namespace)
        wanted = [
            (pod, status, previous)
            for pod in pods
            for status in _containers(pod)
            for previous in ((False, True) if status.get("restartCount") else (False,))
        ]
        for pod, status, previous in wanted[:LOGS]:
            if self._clock() > self._until:
                self._missing[_the_log(pod, status)] = f"all before it took {SECONDS:g} s"
                continue
            try:
                self._keep_log(self._log(pod, status, previous=previous))
                self.leaving.pop((pod["metadata"]["uid"], status["name"]), None)
            except _TROUBLE as problem:
                self._missing[_the_log(pod, status)] = _words(problem)
        for log in list(self.leaving.values())[:LOGS]:
            if self._clock() > self._until:
                self._missing[f"the log of {log.container} in {log.pod}"] = f"all before it took {SECONDS:g} s"
                continue
            self._keep_log(log)
        if len(wanted) > LOGS or len(self.leaving) > LOGS:
            self._missing["some logs"] = (
                f"there are {len(wanted) + len(self.leaving)}, and {LOGS} of each kind are kept"
            )

    def _keep_log(self, log: "_Log") -> None:
        name = f"{FOLDER}/logs/{log.pod}/{log.container}{'.previous' if log.previous else ''}.log"
        if self._record.has(f"evidence/{name}"):  # a pod of that name was there before
            name = f"{name.removesuffix('.log')}.{log.uid}.log"
        name = self._record.keep(name, log.end, most=LOG_BYTES, end=True)
        kept = (self._record.folder / name).stat().st_size
        self._record.write("log", name=name, bytes=log.bytes, kept=kept, image=log.image, image_id=log.image_id)

    def _releases(self) -> None:
        """Of Helm's own records, one Secret a revision, as asking its program takes a process for each."""
        found = self._list(self._core.list_namespaced_secret, self._namespace, label_selector="owner=helm")
        for secret in found[:REVISIONS]:
            packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
            release = msgspec.json.decode(unpacked("release.gz", packed), type=dict[str, Any])
            chart = release["chart"]["metadata"]
            name = f"{FOLDER}/releases/{release['name']}.v{release['version']}"
            values = yaml.safe_dump(release.get("config") or {}, sort_keys=False, allow_unicode=True)
            self._record.keep(f"{name}.values.yaml", values, most=RELEASE_BYTES)
            self._record.keep(f"{name}.manifest.yaml", release["manifest"], most=RELEASE_BYTES)
            self._record.write(
                "release",
                name=release["name"],
                revision=release["version"],
                chart=chart["name"],
                chart_version=chart["version"],
                status=release["info"]["status"],
            )
        if len(found) > REVISIONS:
            self._missing["some releases"] = f"there are {len(found)} revisions, and {REVISIONS} are kept"

    def _nodes(self) -> None:
        found = {"nodes": [_node(node) for node in self._list(self._core.list_node)]}
        self._record.keep(f"{FOLDER}/nodes.json", pretty(found) + b"\n", most=NODES_BYTES)

    def _list(self, ask: Callable[..., Any], *words: str, **options: str) -> list[dict[str, Any]]:
        answer = ask(*words, **options, _preload_content=False, _request_timeout=_TIMES)
        return list(msgspec.json.decode(answer.data, type=dict[str, Any])["items"])

    def _log(self, pod: Mapping[str, Any], status: Mapping[str, Any], *, previous: bool = False) -> "_Log":
        answer = self._core.read_namespaced_pod_log(
            pod["metadata"]["name"],
            self._namespace,
            container=status["name"],
            previous=previous,
            _preload_content=False,
            _request_timeout=_TIMES,
        )
        end, size = b"", 0
        try:
            for piece in answer.stream(1 << 16):
                end, size = (end + piece)[-2 * LOG_BYTES :], size + len(piece)
                if size > READ_BYTES:
                    answer.close()
                    break
        finally:
            answer.release_conn()
        if end.startswith(GONE):
            raise LookupError(end.decode(errors="replace"))
        return _Log(
            pod=pod["metadata"]["name"],
            uid=pod["metadata"]["uid"],
            container=status["name"],
            previous=previous,
            end=end,
            bytes=size,
            image=next((each["image"] for each in _specified(pod) if each["name"] == status["name"]), None),
            image_id=status.get("imageID"),
        )


@dataclass(frozen=True, kw_only=True)
class _Log:
    """A container's log: its end, somewhat more of it than is kept, and how long it is."""

    pod: str
    uid: str
    container: str
    previous: bool
    end: bytes
    bytes: int
    image: str | None
    image_id: str | None


def _containers(pod: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Of those of its containers that ever ran, what the kubelet says."""
    status = pod.get("status", {})
    both = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return [each for each in both if each.get("containerID") or each.get("restartCount")]


def _the_log(pod: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    return f"the log of {status['name']} in {pod['metadata']['name']}"


def _specified(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = pod.get("spec", {})
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    about, source = event.get("involvedObject", {}), event.get("source", {})
    first = event.get("firstTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return {
        "first": first,
        "last": event.get("lastTimestamp") or first,
        "count": event.get("count") or 1,
        "type": event.get("type"),
        "reason": event.get("reason"),
        "kind": about.get("kind"),
        "name": about.get("name"),
        "source": source.get("component") or event.get("reportingComponent"),
        "node": source.get("host"),
        "message": event.get("message"),
    }


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    status, metadata = node["status"], node["metadata"]
    return {
        "name": metadata["name"],
        "labels": metadata.get("labels", {}),
        "taints": node.get("spec", {}).get("taints", []),
        "capacity": status.get("capacity", {}),
        "allocatable": status.get("allocatable", {}),
        "versions": status.get("nodeInfo", {}),
        "images": [name for image in status.get("images", []) for name in image.get("names", [])][:IMAGES],
    }


def _words(error: BaseException) -> str:
    if isinstance(error, kubernetes.client.ApiException):
        return f"the API server answers {error.status} {error.reason}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
