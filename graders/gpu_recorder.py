"""Records what a cluster's GPUs do while a run lasts: a thread asks each node's exporter every few seconds.

Place: conftest.py puts it around each run; looks go into the record's GPUS file as `gpu_telemetry` has them. Exporters
are asked through the API server, so that a kubeconfig is enough wherever the cluster is. Limits: exporters that listen
on port 9400 of their node, without TLS; it never fails a run: what could not be asked is a look that says so.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import kubernetes
import msgspec
import urllib3.exceptions

from graders.gpu_telemetry import FORMAT, Look, gpus_of
from graders.lines import Lines
from graders.record import NotWritten, Record

GPUS = "gpus.jsonl"
PORT = 9400
EVERY_SECONDS = 3.0
"""Between two rounds; what this costs is in docs/gpus.md."""
FEW_NODES = 4
"""More nodes are asked so much less often that it costs no more."""
NODES_SECONDS = 15.0
"""Between two looks at which nodes have GPUs; an exporter that did not answer brings the next one forward."""
MOST_BYTES = 4 << 20
"""Of the file: five hours of four devices, before rounds become noticeably fewer."""
PAGE_BYTES = 1 << 20
PATIENCE = 2.0
"""Seconds for a connection, and as many for an answer."""
STOP_SECONDS = 5.0
VENDOR = "nvidia.com/"
"""Begins the names of all that NVIDIA's device plugin offers: whole GPUs, shared ones, partitions."""
_TROUBLE = (kubernetes.client.ApiException, urllib3.exceptions.HTTPError, OSError, ValueError)
"""What an API server or an exporter that ends, or answers as none should, makes of asking it; msgspec's is the last."""


class _Metadata(msgspec.Struct, frozen=True):
    name: str


class _Status(msgspec.Struct, frozen=True):
    capacity: dict[str, str] = {}


class _Node(msgspec.Struct, frozen=True):
    metadata: _Metadata
    status: _Status = _Status()


class _Nodes(msgspec.Struct, frozen=True):
    items: list[_Node]


class Rounds:
    """Rounds of looks at all nodes with GPUs.

    Args:
        core: the API of a client that tries nothing again.
        tell: takes each look that says something new.
        clock: seconds since the epoch.
        ended: whether to ask no further.
    """

    def __init__(
        self,
        core: kubernetes.client.CoreV1Api,
        tell: Callable[[Look], None],
        *,
        clock: Callable[[], float] = time.time,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self.trouble: str | None = None
        """Why nodes could not be asked for last, None once they could."""
        self._core, self._tell, self._clock, self._ended = core, tell, clock, ended
        self._nodes: list[str] = []
        self._failures: dict[str, str] = {}
        self._due = 0.0

    @property
    def nodes(self) -> int:
        """How many are asked."""
        return len(self._nodes)

    def go(self) -> None:
        """One round; failures are looks too."""
        if self._clock() >= self._due:
            self._find()
        for node in self._nodes:
            if self._ended():
                return
            look = self._look(node)
            if look.failure:
                self._due = 0.0
            self._say(look)

    def _find(self) -> None:
        """Which nodes have GPUs now; those that had some and have none any more are said."""
        try:
            answer = self._core.list_node(
                resource_version="0", _preload_content=False, _request_timeout=(PATIENCE, PATIENCE)
            )
            found = msgspec.json.decode(answer.data, type=_Nodes).items
        except _TROUBLE as error:
            self.trouble = f"the API server did not tell the nodes: {_words(error)}"
            return
        self.trouble, self._due = None, self._clock() + NODES_SECONDS
        nodes = [node.metadata.name for node in found if _has_gpus(node)]
        for gone in sorted({*self._nodes, *self._failures} - set(nodes)):
            self._say(Look(at=self._clock(), node=gone, failure="the cluster has no GPU there any more"))
        self._nodes = nodes

    def _look(self, node: str) -> Look:
        try:
            page = self._page(node)
        except _TROUBLE as error:
            return Look(at=self._clock(), node=node, failure=f"its exporter did not answer: {_words(error)}")
        if len(page) > PAGE_BYTES:
            return Look(at=self._clock(), node=node, failure=f"its exporter told more than {PAGE_BYTES} bytes")
        try:
            return Look(at=self._clock(), node=node, gpus=gpus_of(page.decode()))
        except ValueError as error:
            return Look(at=self._clock(), node=node, failure=f"its exporter's answer cannot be read: {error}")

    def _page(self, node: str) -> bytes:
        """What the exporter on a node tells, as far as it is not too long."""
        answer = self._core.connect_get_node_proxy_with_path(
            f"{node}:{PORT}", "metrics", _preload_content=False, _request_timeout=(PATIENCE, PATIENCE)
        )
        page: bytes = answer.read(PAGE_BYTES + 1)
        if len(page) > PAGE_BYTES:
            answer.close()  # the rest of it must not be the answer to what is asked next
        answer.release_conn()
        return page

    def _say(self, look: Look) -> None:
        """Tells a look, but for a failure that was told and still holds."""
        if self._ended() or (look.failure and self._failures.get(look.node) == look.failure):
            return
        if look.failure:
            self._failures[look.node] = look.failure
        else:
            self._failures.pop(look.node, None)
        self._tell(look)


class GpuRecorder:
    """Goes round while it is entered, in a thread of its own; the file is begun with the first look.

    Args:
        core: the API of a client that tries nothing again.
        record: of the run.
        every: seconds between two rounds of a few nodes.
        most: bytes of the file; rounds become fewer as it fills, so that it holds the end of a long run as well.
    """

    def __init__(
        self,
        core: kubernetes.client.CoreV1Api,
        record: Record,
        *,
        every: float = EVERY_SECONDS,
        most: int = MOST_BYTES,
    ) -> None:
        self._record, self._every, self._most = record, every, most
        self._ended = threading.Event()
        self._rounds = Rounds(core, self._keep, ended=self._ended.is_set)
        self._lines: Lines | None = None
        self._looks = self._failures = 0
        self.seconds = 0.0
        """Of processor time that the thread used."""
        self._trouble: str | None = None
        self._devices: dict[tuple[str, str, str, str | None], bool] = {}
        self._thread = threading.Thread(target=self._watch, name="gpu-recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(STOP_SECONDS)
        trouble = self._trouble or self._rounds.trouble
        if self._lines is None and trouble is None:
            return
        with suppress(NotWritten, OSError):  # the run says so itself
            if self._lines is not None:
                self._lines.close()
            simulated = sum(self._devices.values())
            self._record.write(
                "gpus",
                devices={"simulated": simulated, "real": len(self._devices) - simulated},
                looks=self._looks,
                failures=self._failures,
                seconds=round(self.seconds, 3),
                trouble=trouble,
            )

    def _watch(self) -> None:
        begun = time.thread_time()
        try:
            while True:
                self._rounds.go()
                self.seconds = time.thread_time() - begun
                used = self._lines.bytes if self._lines else 0
                if self._ended.wait(pause(self._every, self._rounds.nodes, used, self._most)):
                    return
        except NotWritten:
            return  # the run says so itself
        except Exception as error:
            self._trouble = _words(error)

    def _keep(self, look: Look) -> None:
        if self._lines is None:
            self._lines = self._record.lines(GPUS, most=self._most, form=FORMAT)
        self._lines.write(look)
        self._looks += 1
        self._failures += look.failure is not None
        self._devices |= {(look.node, each.gpu, each.uuid, each.partition): each.simulated for each in look.gpus}


def pause(every: float, nodes: int, used: int, most: int) -> float:
    """Seconds until the next round: more for more nodes, and the less room there is, so that it never runs out."""
    return every * max(1.0, nodes / FEW_NODES) * most / max(1, most - used)


def _has_gpus(node: _Node) -> bool:
    return any(name.startswith(VENDOR) and count != "0" for name, count in node.status.capacity.items())


def _words(error: BaseException) -> str:
    """What went wrong, without anything that differs from time to time."""
    if isinstance(error, kubernetes.client.ApiException):
        return f"{error.status} {error.reason}"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return f"nothing came within {PATIENCE:g} s"
    if isinstance(error, urllib3.exceptions.HTTPError | OSError):
        return type(error).__name__
    return f"{type(error).__name__}: {error}"
