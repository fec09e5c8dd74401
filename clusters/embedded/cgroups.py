"""Where a cluster's cgroups can be: found and made before it starts, removed at its end.

Place: `backend.py` chooses when a cluster starts, `state.py` removes with its folder, `runtime/cgroups.py` makes those
of pods and containers below. They are in no namespace, so the holder's death leaves them behind, empty. Limits: of v1
the hierarchies must be root's to write (cgroups(7)); of v2 a folder with the three controllers must be delegated, and
when that is above this process's own cgroup, what limits that one does not bound the cluster.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from clusters.api import MachineError, SpecError
from clusters.wait import until

V1 = ("memory", "cpu", "cpuacct", "pids")
V2 = ("memory", "cpu", "pids")

Kind = Literal["cgroup-v1", "cgroup-v2", "watch"]

NOT_ENFORCED = {
    "cgroup-v1": (),
    "cgroup-v2": (),
    "watch": ("limits and shares of processors",),
}
"""What of a pod's limits has no effect, for the cluster's traits."""


class Limits(msgspec.Struct, frozen=True):
    """How a cluster limits its containers: by cgroups below `folders` (controller -> folder), or by watching them."""

    kind: Kind = "watch"
    folders: Mapping[str, str] = {}


def choose(asked: Literal["any", "cgroup-v1", "cgroup-v2", "watch"], name: str, root: Path = Path("/")) -> Limits:
    """How the cluster of that name is to limit its containers; nothing is made yet.

    Args:
        asked: "any" takes cgroups where they can be had.
        name: becomes part of the folders' names.
        root: the machine's.

    Raises:
        SpecError: what is asked cannot be had here.
    """
    own = f"gpulab-{name}-{secrets.token_hex(4)}"
    finders = {"cgroup-v2": _v2, "cgroup-v1": _v1}
    for kind, find in finders.items():
        if asked in {"any", kind} and (found := find(root)):
            return msgspec.convert({"kind": kind, "folders": {at: str(to / own) for at, to in found.items()}}, Limits)
    if asked in finders:
        raise SpecError(
            f"cluster.yaml asks for limits: {asked}, but this machine gives no such cgroups with "
            f"{', '.join(V1 if asked == 'cgroup-v1' else V2)} to write; leave it out, or say watch"
        )
    return Limits()


def below(limits: Limits, node: str) -> Limits:
    """The folders of one node of a cluster, in the cluster's."""
    return Limits(limits.kind, {controller: f"{folder}/{node}" for controller, folder in limits.folders.items()})


def make(limits: Limits) -> None:
    """Makes a cluster's or a node's folders.

    Raises:
        MachineError: the kernel refused; nothing is left behind.
    """
    try:
        for folder in limits.folders.values():
            Path(folder).mkdir(exist_ok=True)
            if limits.kind == "cgroup-v2":
                delegate(Path(folder))
    except OSError as error:
        remove(limits)
        raise MachineError(
            f"the cgroup {error.filename} cannot be made: {error.strerror}; say `limits: watch` in cluster.yaml to do "
            "without"
        ) from error


def delegate(folder: Path) -> None:
    """Lets the folders below one of v2 have the controllers too."""
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in V2))


def renew(limits: Limits) -> None:
    """Makes folders that have nothing in them; raises as `remove` and `make`."""
    remove(limits)
    make(limits)


def remove(limits: Limits, seconds: float = 5.0) -> None:
    """Removes a cluster's or a node's folders and all below; what is gone is no error.

    Raises:
        WaitTimeout: a process is left in one of them.
    """
    for folder in dict.fromkeys(limits.folders.values()):
        what = f"the processes in the cgroup {folder} to end"
        until(partial(_remove, Path(folder)), bool, what=what, seconds=seconds, interval=0.01)


def _remove(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(FileNotFoundError):
            try:
                Path(folder).rmdir()
            except OSError:
                return False
    return True


def _v1(root: Path) -> dict[str, Path]:
    """The folder of each controller in which a cluster's can be made; empty when one is missing."""
    own = dict(_memberships(root))
    found = {}
    for mount, within, options in _mounts(root, "cgroup"):
        for controller in set(V1) & set(options) & own.keys():
            # An own path outside of what is mounted (another cgroup namespace) has no folder here.
            folder = root / mount.lstrip("/") / os.path.relpath(own[controller], within)
            if _can_make(folder):
                found[controller] = Path(os.path.normpath(folder))
    return {controller: found[controller] for controller in V1} if found.keys() >= set(V1) else {}


def _v2(root: Path) -> dict[str, Path]:
    """The folder for all three controllers: the nearest that may have children with them, from this process's upwards.

    A cgroup with processes in it may have none (the rule of no internal processes), so this is mostly the one above.
    """
    own = dict(_memberships(root)).get("")
    for mount, within, _ in _mounts(root, "cgroup2"):
        top = root / mount.lstrip("/")
        folder = Path(os.path.normpath(top / os.path.relpath(own or "/", within)))
        while folder.is_relative_to(top):
            if _can_make(folder) and _has_controllers(folder):
                return dict.fromkeys(V2, folder)
            folder = folder.parent
    return {}


def _can_make(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _has_controllers(folder: Path) -> bool:
    """Whether the folders below one of v2 have all controllers, or can be given them."""
    try:
        if set(V2) <= set((folder / "cgroup.subtree_control").read_text().split()):
            return True
        if not set(V2) <= set((folder / "cgroup.controllers").read_text().split()):
            return False
        delegate(folder)
    except OSError:
        return False
    return True


def _memberships(root: Path) -> Iterable[tuple[str, str]]:
    """Controller and path of each line of /proc/self/cgroup; the controller of v2 is ""."""
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        yield from ((controller, path) for controller in controllers.split(","))


def _mounts(root: Path, kind: str) -> Iterable[tuple[str, str, list[str]]]:
    """Mount point, path of its root and options of each file system of that kind (proc(5), mountinfo)."""
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ")[0] == kind:
            fields = before.split(" ")
            yield fields[4], fields[3], after.split(" ")[2].split(",")


def stored(folder: Path) -> Limits:
    """What `store` wrote into a cluster's state folder; nothing of cgroups when it wrote nothing."""
    file = folder / "limits.json"
    return msgspec.json.decode(file.read_bytes(), type=Limits) if file.is_file() else Limits()


def store(limits: Limits, folder: Path) -> None:
    """Writes down in a cluster's state folder where its cgroups are; before they are made, so none is forgotten."""
    (folder / "limits.json").write_bytes(msgspec.json.encode(limits))
