"""Watches the pods of a namespace from a thread: every change with its time, for as long as a run lasts.

Place: `cluster_evidence` has one around each run. Limits: pods only; after a gap (the API server forgot the version
asked for) all pods are told as ADDED again; it sleeps in a read while nothing changes, so it disturbs no measurement.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes
import msgspec
import urllib3
import urllib3.exceptions

PAUSE_SECONDS = 1.0
"""Before watching again after an error."""
STOP_SECONDS = 5.0
TIMES = (5.0, 3600.0)
"""Seconds to connect, and without any change before it watches anew."""

Look = Callable[[float, str, dict[str, Any]], None]
"""Told each change: seconds since the epoch, ADDED, MODIFIED or DELETED, and the pod as the API has it."""


class PodWatch:
    """Tells `look` of each change from `start` to `stop`, in a thread of its own; what `look` raises ends it.

    `trouble` says what kept it from watching last, None when nothing did.
    """

    def __init__(
        self,
        core: kubernetes.client.CoreV1Api,
        namespace: str,
        look: Look,
        *,
        clock: Callable[[], float] = time.time,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self.trouble: str | None = None
        self._core, self._namespace, self._look, self._clock, self._pause = core, namespace, look, clock, pause
        self._ended = threading.Event()
        self._answer: urllib3.BaseHTTPResponse | None = None
        self._thread = threading.Thread(target=self._watch, name="pod-watch", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, and returns once nothing more is told."""
        self._ended.set()
        if self._answer is not None:
            with contextlib.suppress(ValueError, RuntimeError, OSError):  # it had ended by itself
                self._answer.shutdown()
        self._thread.join(STOP_SECONDS)

    def _watch(self) -> None:
        version = ""
        while not self._ended.is_set():
            try:
                for change in self._changes(version):
                    if self._ended.is_set():
                        return
                    version = self._tell(change)
            except (
                kubernetes.client.ApiException,
                urllib3.exceptions.HTTPError,
                msgspec.DecodeError,
                OSError,
            ) as error:
                if not self._ended.is_set():
                    self.trouble, version = _words(error), ""
            except Exception as error:
                self.trouble = _words(error)
                return
            self._ended.wait(self._pause if not version else 0)

    def _changes(self, version: str) -> Iterator[dict[str, Any]]:
        self._answer = self._core.list_namespaced_pod(
            self._namespace,
            watch=True,
            allow_watch_bookmarks=True,
            **({"resource_version": version} if version else {}),
            _preload_content=False,
            _request_timeout=TIMES,
        )
        rest = b""
        try:
            if self._ended.is_set():  # before `stop` could see the answer
                return
            for piece in self._answer.stream(amt=None):
                *lines, rest = (rest + piece).split(b"\n")
                yield from (msgspec.json.decode(line, type=dict[str, Any]) for line in lines if line.strip())
        finally:
            self._answer.release_conn()

    def _tell(self, change: dict[str, Any]) -> str:
        """Returns the version to go on from; empty to begin anew."""
        kind, pod = change["type"], change["object"]
        if kind == "ERROR":
            self.trouble = str(pod.get("message"))
            return ""
        if kind != "BOOKMARK":
            self._look(self._clock(), kind, pod)
        return str(pod["metadata"]["resourceVersion"])


def _words(error: Exception) -> str:
    said = error.reason if isinstance(error, kubernetes.client.ApiException) else error
    return f"{type(error).__name__}: {said}"
