"""A run's looks at its GPUs, put together for each device: figures over time, who held it, what was not told. Pure.

Place: `evidence` makes these as it reads the file, `gpus` shows them. Limits: a look is a moment; what was between two
is not known, and a pod that held a device before a gap and after it is said to have held it meanwhile.
"""

from collections.abc import Iterable

import msgspec

from graders.gpu_telemetry import Gpu, Look

SILENT = "its exporter told nothing of it"
NO_FIGURES = "its exporter told no figures of it"


class Point(msgspec.Struct, frozen=True):
    """A device at a time, in seconds since the epoch; where all three are None, nothing was told of it."""

    at: float
    utilisation: float | None = None
    memory_mib: float | None = None
    watts: float | None = None


class Span(msgspec.Struct, frozen=True):
    """What held from when to when, in seconds since the epoch; None: until the end."""

    what: str
    begin: float
    end: float | None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU or partition of a node; of a node that never told of any, `gpu` is None."""

    node: str
    gpu: str | None = None
    uuid: str = ""
    model: str = ""
    partition: str | None = None
    simulated: bool | None = None
    points: tuple[Point, ...] = ()
    held: tuple[Span, ...] = ()
    gaps: tuple[Span, ...] = ()


def devices_of(looks: Iterable[Look]) -> tuple[Device, ...]:
    """The devices of all nodes, by node and place; a node that never told of one is there without any."""
    told: dict[tuple[str, str, str, str], _Told] = {}
    silent: dict[str, _Gaps] = {}
    for look in looks:
        gaps = silent.setdefault(look.node, _Gaps())
        seen = {(look.node, gpu.gpu, gpu.uuid, gpu.partition or ""): gpu for gpu in look.gpus}
        for key, gpu in seen.items():
            if key not in told:
                told[key] = _Told(look.node, gpu, gaps.open)
            told[key].see(look.at, gpu)
        for key, device in told.items():
            if key[0] == look.node and key not in seen:
                device.lose(look.at, look.failure or SILENT)
        if look.gpus:
            gaps.end(look.at)
        else:
            gaps.begin(look.at, look.failure or SILENT)
    found = [device.device() for _, device in sorted(told.items(), key=lambda each: each[0])]
    nodes = {device.node for device in found}
    found += [Device(node=node, gaps=gaps.all()) for node, gaps in silent.items() if node not in nodes]
    return tuple(sorted(found, key=lambda device: device.node))


class _Gaps:
    """Times in which nothing was told, and why."""

    def __init__(self, first: Span | None = None) -> None:
        self.open = first
        self._closed: list[Span] = []

    def begin(self, at: float, why: str) -> None:
        if self.open is None or self.open.what != why:
            self.end(at)
            self.open = Span(why, at, None)

    def end(self, at: float) -> None:
        if self.open is not None:
            self._closed.append(Span(self.open.what, self.open.begin, at))
            self.open = None

    def all(self) -> tuple[Span, ...]:
        return (*self._closed, *([self.open] if self.open else []))


class _Told:
    """A device so far; `silence` is since when its node had told nothing."""

    def __init__(self, node: str, first: Gpu, silence: Span | None) -> None:
        self._node, self._first, self._gaps = node, first, _Gaps(silence)
        self._points: list[Point] = []
        self._held: list[Span] = []
        self._holders: dict[str, Span] = {}

    def see(self, at: float, gpu: Gpu) -> None:
        before, self._holders = self._holders, {}
        for pod in gpu.held_by:
            self._holders[pod] = Span(pod, before[pod].begin if pod in before else at, at)
        self._held += [span for pod, span in before.items() if pod not in self._holders]
        if gpu.is_known:
            self._gaps.end(at)
            self._points.append(Point(at, gpu.utilisation, gpu.memory_mib, gpu.watts))
        else:
            self.lose(at, NO_FIGURES)

    def lose(self, at: float, why: str) -> None:
        self._gaps.begin(at, why)
        self._points.append(Point(at))

    def device(self) -> Device:
        first = self._first
        return Device(
            node=self._node,
            gpu=first.gpu,
            uuid=first.uuid,
            model=first.model,
            partition=first.partition,
            simulated=first.simulated,
            points=tuple(self._points),
            held=tuple(sorted([*self._held, *self._holders.values()], key=lambda span: span.begin)),
            gaps=self._gaps.all(),
        )
