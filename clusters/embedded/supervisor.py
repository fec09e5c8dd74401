"""Keeps the programs of a cluster running: notices that one has ended, and starts it again after a pause.

Place: holder.py calls `look` whenever a child ended or a moment has come; controlplane.py and fleet.py add programs;
node.py keeps its kubelet by the same `Backoff`. Limits: one thread (the kernel kills children whose starting thread
ends); others hand it work through `do`. Until `keep` is called a program that ends is an error, for a cluster that
starts with one is not sound.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

import msgspec

from clusters.api import ClusterError, StartError
from clusters.process import tail

FIRST, LONGEST = 0.1, 10.0
"""Seconds before a program that ended is started again: the first time, and at most."""

SETTLED = 10.0
"""Seconds after which a program counts as having worked."""

TRIES = 10
"""Ends in a row, each before it had settled, after which it is given up: about 32 s."""

_IDLE = 60.0

Value = TypeVar("Value")


class Restart(msgspec.Struct, frozen=True):
    """A program ended with `status` (negative for a signal) at a time in seconds since 1970, and is started again."""

    name: str
    status: int
    at: float


class Program(Protocol):
    """What `clusters.process.Child` offers."""

    @property
    def pid(self) -> int:
        """Process id, which is also that of its group."""

    def status(self) -> int | None:
        """Exit status, negative for a signal, or None while it runs."""


@dataclass
class Backoff:
    """How long to wait before one program is started again: 0.1 s, doubled each time, at most 10 s."""

    ends: int = 0

    def after(self, ran: float) -> float | None:
        """Seconds to wait after it ended having run for `ran` seconds; None when it cannot be kept."""
        self.ends = 1 if ran >= SETTLED else self.ends + 1
        return None if self.ends >= TRIES else min(FIRST * 2 ** (self.ends - 1), LONGEST)


@dataclass
class Component:
    """A program that must run for as long as the cluster; `child` is None while it waits for its next start."""

    start: Callable[[], Program]
    log: Path
    child: Program | None = None
    began: float = 0.0
    due: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)


class Supervisor:
    """The programs of one cluster by name, and what is to be done at a given moment."""

    def __init__(
        self,
        note: Callable[[str, int], None],
        *,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`note` is told name and status of what is started again; `wake` brings the thread of `look` to call it."""
        self._note, self._wake, self._clock = note, wake, clock
        self._components: dict[str, Component] = {}
        self._posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._moments: list[tuple[float, Callable[[], None]]] = []
        self._keeping = False

    def start(self, name: str, start: Callable[[], Program], log: Path) -> None:
        """Starts a program that from now on must run; what `start` raises is passed on."""
        self._components[name] = Component(start, log, start(), self._clock())

    def drop(self, name: str) -> int | None:
        """A program need not run any more; returns its process, which still does, or None when it waits for a start."""
        child = self._components.pop(name).child
        return child.pid if child else None

    def keep(self) -> None:
        """The cluster is up: from now on what ends is started again."""
        self._keeping = True

    def do(self, work: Callable[[], Value]) -> Value:
        """Called from another thread: lets the thread of `look` do `work`, and returns or raises what it does."""
        answer: Future[Value] = Future()

        def run() -> None:
            try:
                answer.set_result(work())
            except (ClusterError, OSError) as error:
                answer.set_exception(error)

        self._posted.put(run)
        self._wake()
        return answer.result()

    def at(self, seconds: float, work: Callable[[], None]) -> None:
        """Lets `look` do `work` in so many seconds."""
        self._moments.append((self._clock() + seconds, work))

    def pids(self) -> set[int]:
        """Process ids of the programs that run or whose end was not seen yet."""
        return {each.child.pid for each in self._components.values() if each.child}

    def look(self) -> float:
        """Does what is to be done now, and returns after how many seconds there may be more.

        Raises:
            StartError: a program ended while the cluster starts, or cannot be kept.
        """
        with contextlib.suppress(Empty):
            while True:
                self._posted.get_nowait()()
        now = self._clock()
        ripe = [work for due, work in self._moments if due <= now]
        self._moments = [(due, work) for due, work in self._moments if due > now]
        for work in ripe:
            work()
        for name, component in self._components.items():
            self._see(name, component)
        waits = [each.due - self._clock() for each in self._components.values() if each.child is None]
        waits += [due - self._clock() for due, _ in self._moments]
        return max(0.0, min([*waits, _IDLE]))

    def _see(self, name: str, component: Component) -> None:
        if component.child and (status := component.child.status()) is not None:
            if not self._keeping:
                raise StartError(f"{name} ended with status {status}; {_last_words(component.log)}")
            _end_group(component.child.pid)
            component.child = None
            self._again(name, component, status, f"ended with status {status}")
        if component.child is None and component.due <= self._clock():
            component.began = self._clock()
            try:
                component.child = component.start()
            except (ClusterError, OSError) as error:  # no process to be had, or no space
                self._again(name, component, 1, f"could not be started ({error})")

    def _again(self, name: str, component: Component, status: int, how: str) -> None:
        wait = component.backoff.after(self._clock() - component.began)
        if wait is None:
            raise StartError(
                f"{name} cannot be kept running: it {how}, as {TRIES - 1} times before in a row; "
                f"{_last_words(component.log)}"
            )
        component.due = self._clock() + wait
        self._note(name, status)


def _last_words(log: Path) -> str:
    return f"its log {log} ends with\n{tail(log)}"


def _end_group(pid: int) -> None:
    """What a program that ended left behind in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def record(file: Path, name: str, status: int) -> None:
    """Adds a line to the file of restarts; in one write, as the holder and its nodes share it."""
    # A full disk must not keep a program from being started again.
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as log:
        log.write(msgspec.json.encode(Restart(name, status, time.time())) + b"\n")


def restarts(file: Path) -> tuple[Restart, ...]:
    """What was started again, oldest first; a line that is not yet whole is left for the next look."""
    if not file.is_file():
        return ()
    lines = file.read_bytes().splitlines(keepends=True)
    return tuple(msgspec.json.decode(line, type=Restart) for line in lines if line.endswith(b"\n"))
