"""The folder of state of one cluster: its lock, what is written down about it, and its removal.

Place: backend.py keeps a cluster's folder with these. Limits: one folder and one lock per name; the holder inherits the
lock, so it is free again whatever ends the cluster.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from clusters import places
from clusters.api import ClusterError, ClusterSpec, MachineError, Progress, Traits
from clusters.embedded import cgroups, identities
from clusters.embedded.gpu import devices, nvml
from clusters.embedded.private import write_private
from clusters.process import CommandFailed
from clusters.wait import WaitTimeout, until

ADDED_IMAGES = "images.json"
"""File in a cluster's folder with the images that its user added when it started."""


RESTARTS = "restarts.jsonl"
"""File in a cluster's folder that tells which of its programs were started again."""


LEAST_SPACE = 256 << 20
"""Bytes that a start needs: etcd takes 128 MiB for its log at once."""

_RESERVE = "reserve"
_ENDED = "ended"
_LONGEST_REASON = 1 << 15


class NameInUse(ClusterError):
    """A cluster of that name runs, starts, or is just ending."""


class Running(msgspec.Struct, frozen=True):
    """What is written down about a running cluster.

    `pid` and `started` name the holder's outer process, whose death ends all; `inner` is process 1 inside, with its
    start time, which goes last.
    """

    name: str
    pid: int
    started: int
    inner: tuple[int, int]
    detached: bool
    images: str
    programs: str
    traits: Traits
    spec: ClusterSpec


def names(env: Mapping[str, str]) -> list[str]:
    """The clusters of this user of which there is state, sorted."""
    folder = places.clusters(env)
    return sorted(each.name for each in folder.glob("[!.]*") if each.is_dir())


def begin(folder: Path) -> None:
    """Makes the folder of a new cluster.

    Raises:
        MachineError: the disk has less than LEAST_SPACE.
    """
    free = shutil.disk_usage(folder.parent).free
    if free < LEAST_SPACE:
        raise MachineError(
            f"the folder for the state of clusters, {folder.parent}, has {free >> 20} MiB left, and a cluster needs "
            f"{LEAST_SPACE >> 20}; make room, or let XDG_STATE_HOME name another"
        )
    folder.mkdir(mode=0o700)
    (folder / _RESERVE).write_bytes(bytes(1 << 16))


def tell_end(folder: Path, reason: str) -> None:
    """Writes down why a cluster ended by itself, in the space kept for that, as the disk may be full."""
    (folder / _RESERVE).unlink(missing_ok=True)
    (folder / _ENDED).write_text(reason[-_LONGEST_REASON:])


def last_end(name: str, env: Mapping[str, str]) -> str | None:
    """Why the last cluster of that name ended by itself, as long as its state is there; else None."""
    ended = places.clusters(env) / name / _ENDED
    return ended.read_text() if ended.is_file() else None


def is_held(name: str, env: Mapping[str, str]) -> bool:
    """Whether a cluster of that name runs, or is just starting or ending."""
    try:
        with lock(places.clusters(env) / name):
            return False
    except NameInUse:
        return True


@contextmanager
def lock(folder: Path, *, seconds: float = 0.0) -> Iterator[IO[str]]:
    """The cluster's lock, which the holder inherits and so keeps for as long as it lives; waits `seconds` for it.

    Raises:
        NameInUse: another holds it.
        MachineError: the folder for state cannot be used.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise MachineError(
            f"the folder for the state of clusters, {folder.parent}, cannot be used: {error.strerror}; "
            "give yourself the right to, or let XDG_STATE_HOME name another"
        ) from error
    with file:
        try:
            until(lambda: _locks(file), bool, what="the lock", seconds=seconds, interval=0.01)
        except WaitTimeout as error:
            raise NameInUse(
                f"asked to start the cluster {folder.name!r}, but one of that name runs already or is just starting; "
                "use it, or end it with `gpulab down`"
            ) from error
        yield file


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read(folder: Path) -> Running | None:
    """What is written down about the cluster of a state folder, or None when nothing is.

    Raises:
        MachineError: it cannot be read, or another version of this program wrote it.
    """
    try:
        return msgspec.json.decode((folder / "cluster.json").read_bytes(), type=Running)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise MachineError(
            f"the state of a cluster in {folder} cannot be read ({error}); "
            "end it with the version and the user that started it, or remove the folder"
        ) from error


def rewrite(folder: Path, spec: ClusterSpec) -> None:
    """Writes down that the running cluster has other nodes by now; the holder does so, on one thread."""
    running = read(folder)
    if running is None:
        raise MachineError(f"the state of the cluster in {folder} is gone; end it with `gpulab down`")
    gpus = devices.kind(devices.assign(spec.nodes, nvml.find()))
    traits = msgspec.structs.replace(running.traits, gpus=gpus)
    new = msgspec.structs.replace(running, spec=spec, traits=traits)
    write_private(folder / "cluster.new", msgspec.json.encode(new)).replace(folder / "cluster.json")


def clear_stale(folder: Path, progress: Progress) -> None:
    """Removes what a cluster left behind that was killed; the lock is ours, so nobody uses it."""
    if folder.exists():
        progress(f"removing the state of a cluster {folder.name!r} that was killed")
        remove(folder)


def clear(name: str, env: Mapping[str, str]) -> bool:
    """Removes what a cluster left behind that was killed or ended by itself; whether there was anything.

    Raises:
        NameInUse: one of that name runs, starts, or is just ending.
    """
    folder = places.clusters(env) / name
    with lock(folder, seconds=2):
        there = folder.exists()
        remove(folder)
    return there


def keep_logs(folder: Path, env: Mapping[str, str]) -> Path:
    """Copies the logs out of a state folder that is about to go; the newest failed start replaces the one before."""
    kept = places.clusters(env).with_name("logs") / folder.name
    shutil.rmtree(kept, ignore_errors=True)
    for log in folder.rglob("*.log"):
        target = kept / log.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, target)
    return kept


def remove(folder: Path) -> None:
    """Removes a state folder, with folders in it that a container has made read-only, and the cluster's cgroups."""
    cgroups.remove(cgroups.stored(folder))

    def unlock(remove: Callable[[str], object], path: str, _: object) -> None:
        for place in (Path(path).parent, Path(path)):
            if not place.is_symlink():
                place.chmod(0o700)
        shutil.rmtree(path) if Path(path).is_dir() else remove(path)

    try:
        if folder.exists():
            shutil.rmtree(folder, onerror=unlock)
    except PermissionError as error:
        try:
            identities.remove(folder)
        except CommandFailed:
            raise _stays(folder, error) from error
    except OSError as error:
        raise _stays(folder, error) from error


def _stays(folder: Path, error: OSError) -> MachineError:
    return MachineError(
        f"the state of an ended cluster, {folder}, cannot be removed ({error.strerror}); remove it by hand"
    )
