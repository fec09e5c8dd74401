"""How GPUs fail: Xid errors, and whether a device is still healthy after them.

Place: backend.py writes a node's faults into a file of its state folder (`inject`, `heal`); the node reads it and tells
its kubelet and its telemetry. For real devices NVML's events go the same way. Limits: a simulated failure is told to
the kubelet and shown in telemetry; the program that holds the device goes on.

Which Xids mean what: https://docs.nvidia.com/deploy/xid-errors/. Which of them a device plugin ignores:
github.com/NVIDIA/k8s-device-plugin, internal/rm/health.go.
"""

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from clusters.api import ClusterSpec, SpecError
from clusters.embedded.gpu import devices, nvml

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Errors of a program; NVIDIA's device plugin leaves the device healthy."""

LOST_XID = 79
"""The GPU has fallen off the bus: the driver can read nothing of it any more."""

MEANINGS = {
    13: "Graphics Engine Exception",
    31: "GPU memory page fault",
    32: "Invalid or corrupted push buffer stream",
    38: "Driver firmware error",
    43: "GPU stopped processing",
    45: "Preemptive cleanup, due to previous errors",
    48: "Double Bit ECC Error",
    61: "Internal micro-controller breakpoint/warning",
    62: "Internal micro-controller halt",
    63: "ECC page retirement or row remapping recording event",
    64: "ECC page retirement or row remapper recording failure",
    68: "NVDEC0 Exception",
    69: "Graphics Engine class error",
    74: "NVLINK Error",
    79: "GPU has fallen off the bus",
    92: "High single-bit ECC error rate",
    94: "Contained ECC error",
    95: "Uncontained ECC error",
    109: "Context Switch Timeout Error",
    119: "GSP RPC Timeout",
    120: "GSP Error",
}
"""What NVIDIA calls them."""


class Xid(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="xid", tag_field="event"):
    """An error of a node's GPU, by its place on the node, at a time in seconds since 1970."""

    gpu: int
    xid: int
    at: float


class Healed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="healed", tag_field="event"):
    """A node's GPU was made whole."""

    gpu: int


class Inlet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="inlet", tag_field="event"):
    """The air that a node takes in has this temperature from now on."""

    celsius: float


Event = Xid | Healed | Inlet
"""What can happen to a node's GPUs."""


class Health(msgspec.Struct, frozen=True):
    """A GPU's errors since it was last made whole: Xid and time of each, oldest first."""

    xids: tuple[tuple[int, float], ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether the device plugin still offers it."""
        return all(xid in APPLICATION_XIDS for xid, _ in self.xids)

    @property
    def lost(self) -> bool:
        """Whether nothing can be read of it any more."""
        return any(xid == LOST_XID for xid, _ in self.xids)

    @property
    def last(self) -> int:
        """The last Xid; 0 when there was none, as DCGM has it."""
        return self.xids[-1][0] if self.xids else 0

    def counts(self, since: float) -> dict[int, int]:
        """How often each Xid was seen from `since` on."""
        recent = [xid for xid, at in self.xids if at >= since]
        return {xid: recent.count(xid) for xid in dict.fromkeys(recent)}


def health(events: Iterable[Event], gpu: int) -> Health:
    """What the events make of the GPU with that index."""
    xids: list[tuple[int, float]] = []
    for event in events:
        if isinstance(event, Healed) and event.gpu == gpu:
            xids.clear()
        elif isinstance(event, Xid) and event.gpu == gpu:
            xids.append((event.xid, event.at))
    return Health(tuple(xids))


def inlet(events: Iterable[Event], usual: float) -> float:
    """The temperature of a node's air in °C: what was told last, else as usual."""
    told = [event.celsius for event in events if isinstance(event, Inlet)]
    return told[-1] if told else usual


def file(state: Path, node: str) -> Path:
    """The file, in a cluster's state folder, of the faults of a node's simulated GPUs."""
    return state / "nodes" / node / "faults.jsonl"


def inject(state: Path, spec: ClusterSpec, node: str, gpu: int, xid: int) -> None:
    """Lets a simulated GPU have an Xid error; the node takes notice within half a second.

    Args:
        state: the cluster's state folder.
        spec: the cluster's nodes.
        node: the node's name.
        gpu: the GPU's place on it, from 0.
        xid: the error; APPLICATION_XIDS leave the GPU healthy.

    Raises:
        SpecError: there is no such GPU, it is real, or the Xid is no positive number.
    """
    if xid < 1:
        raise SpecError(f"asked for the Xid error {xid}; an Xid is a positive number, as in 79")
    _record(state, spec, node, gpu, Xid(gpu, xid, time.time()))


def heal(state: Path, spec: ClusterSpec, node: str, gpu: int) -> None:
    """Makes a simulated GPU whole, as a reset or a replacement would; arguments and errors as for `inject`."""
    _record(state, spec, node, gpu, Healed(gpu))


def heat(state: Path, spec: ClusterSpec, node: str, celsius: float) -> None:
    """Gives a node with simulated GPUs air of that temperature; telemetry.INLET is the usual one.

    Raises:
        SpecError: the node has no simulated GPUs, or no data centre is that cold or hot.
    """
    if not 0 <= celsius <= 80:
        raise SpecError(f"asked for air of {celsius:g} °C for the node {node!r}; it has 0 to 80 °C")
    _record(state, spec, node, 0, Inlet(celsius))


def _record(state: Path, spec: ClusterSpec, node: str, gpu: int, event: Event) -> None:
    """Adds an event to a node's file; in one write, so that several writers and the reader do no harm."""
    offers = zip(spec.nodes, devices.assign(spec.nodes, nvml.find()), strict=True)
    offer = next((offer for each, offer in offers if each.name == node), None)
    if offer is None:
        names = ", ".join(each.name for each in spec.nodes)
        raise SpecError(f"asked about a GPU of the node {node!r}, which is not there; nodes are: {names}")
    if not 0 <= gpu < offer.gpus:
        raise SpecError(f"asked about GPU {gpu} of the node {node!r}, which has {offer.gpus}, counted from 0")
    if not offer.simulated:
        raise SpecError(f"GPU {gpu} of the node {node!r} is real; only simulated ones fail and heal when told to")
    with file(state, node).open("ab", buffering=0) as log:
        log.write(msgspec.json.encode(event) + b"\n")


def read(path: Path) -> tuple[Event, ...]:
    """The events of a node's file of faults, oldest first; a line that is not yet whole is left for the next look."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return ()
    return tuple(msgspec.json.decode(line, type=Event) for line in text.splitlines(keepends=True) if line[-1:] == b"\n")
