"""The embedded cluster as seen from the host: start one, find one that runs, enter its network, end it.

Place: the backend that `--cluster embedded` names; it starts holder.py and keeps the cluster's state folder. Limits:
Linux; one folder of state and one lock per cluster name. The lock is held by the holder, so it is free again whatever
ends the cluster.
"""

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from clusters import places
from clusters.api import ClusterError, ClusterLost, ClusterSpec, MachineError, Progress, SpecError, StartError, Traits
from clusters.embedded import holder, network
from clusters.embedded.pki import write_private
from clusters.process import Child, kill_for_certain, start_time, system_path, tail

NOT_ENFORCED = (
    "processor limits",
    "memory limits",
    "ephemeral storage limits",
    "NetworkPolicy",
    "kubectl exec, attach and port-forward",
)


class Running(msgspec.Struct, frozen=True):
    """What is written down about a running cluster: its holder, and what a client needs."""

    name: str
    pid: int
    started: int
    programs: str
    traits: Traits
    spec: ClusterSpec


class EmbeddedCluster:
    """A running embedded cluster; implements `clusters.api.Cluster`."""

    def __init__(self, folder: Path, running: Running, child: Child | None = None) -> None:
        self._folder, self._running, self._child = folder, running, child

    @property
    def name(self) -> str:
        """Name among the clusters of this user."""
        return self._running.name

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of its administrator."""
        return self._folder / "kubeconfig"

    @property
    def programs(self) -> Path:
        """Folder with its kubectl and helm."""
        return Path(self._running.programs) / "bin"

    @property
    def traits(self) -> Traits:
        """What is true of it beyond its API."""
        return self._running.traits

    @property
    def holder(self) -> int:
        """Process id of its holder, from which all its processes descend."""
        return self._running.pid

    @property
    def spec(self) -> ClusterSpec:
        """What it was started from."""
        return self._running.spec

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` in the cluster's network."""
        return holder.enter(self._running.pid, argv, root=_is_root())

    def check(self) -> None:
        """Returns while the holder lives; raises ClusterLost with the reason it left once it does not."""
        if start_time(self._running.pid) == self._running.started:
            return
        ended = self._folder / "ended"
        reason = ended.read_text() if ended.is_file() else "its holder was killed"
        raise ClusterLost(f"the cluster {self.name!r} has ended: {reason}")

    def stop(self) -> None:
        """Kills the holder, with which everything inside ends, and removes the state."""
        if start_time(self._running.pid) == self._running.started:
            kill_for_certain(self._running.pid)
        if self._child:
            self._child.wait()
        _remove(self._folder)


def start(
    name: str,
    spec: ClusterSpec,
    *,
    programs: Path,
    images: Path,
    env: Mapping[str, str],
    progress: Progress,
    port: int = 0,
    detached: bool = False,
) -> EmbeddedCluster:
    """Brings up a cluster and returns once it is ready; a failure or Ctrl-C leaves nothing behind.

    Args:
        name: its name among this user's clusters.
        spec: its nodes.
        programs: folder of the Kubernetes programs, from build.py.
        images: the list of images that its containers may use.
        env: environment variables, for the place of the state.
        progress: told what is waited for.
        port: TCP port on 127.0.0.1 for the API server; 0 takes a free one.
        detached: the cluster outlives this process.

    Raises:
        SpecError: the description cannot be met, or the port is taken.
        ClusterError: a cluster of that name runs already.
        MachineError: this machine lacks something.
        StartError: a component did not come up.
    """
    _check_spec(spec)
    folder = places.clusters(env) / name
    with _lock(folder) as lock, _door(port) as door:
        _clear_stale(folder, progress)
        folder.mkdir(mode=0o700)
        keep = tuple(dict.fromkeys(str(path) for path in (folder, programs, images.parent, Path.cwd())))
        job = holder.Job(
            name=name,
            state=str(folder),
            programs=str(programs),
            images=str(images),
            spec=spec,
            server=f"https://127.0.0.1:{door.getsockname()[1]}",
            door=door.fileno(),
            keep=keep,
        )
        child, reports = _start_holder(job, folder, lock, env, detached=detached)
        try:
            with reports:
                _follow(reports, child, folder, progress)
            running = Running(name, child.pid, start_time(child.pid) or 0, str(programs), traits(spec), spec)
            write_private(folder / "cluster.json", msgspec.json.encode(running))
        except BaseException as error:
            kill_for_certain(child.pid)
            child.wait()
            if isinstance(error, StartError):
                error.add_note(f"The logs of this start are in {_keep_logs(folder, env)}")
            _remove(folder)
            raise
    return EmbeddedCluster(folder, running, child)


def _start_holder(
    job: holder.Job, folder: Path, lock: IO[str], env: Mapping[str, str], *, detached: bool
) -> tuple[Child, IO[bytes]]:
    """Starts the holder, which inherits lock and door; returns it and the pipe on which it reports."""
    reading, writing = os.pipe()
    reports = os.fdopen(reading, "rb")
    with os.fdopen(writing, "wb"):
        file = write_private(folder / "holder.json", msgspec.json.encode(msgspec.structs.replace(job, report=writing)))
        argv = holder.argv(file, root=_is_root())
        fds = (lock.fileno(), job.door, writing)
        log = folder / "holder.log"
        return Child(argv, log=log, env=_clean(env), pass_fds=fds, detached=detached), reports


def find(name: str, env: Mapping[str, str]) -> EmbeddedCluster | None:
    """The running cluster of that name, or None."""
    folder = places.clusters(env) / name
    try:
        running = msgspec.json.decode((folder / "cluster.json").read_bytes(), type=Running)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return EmbeddedCluster(folder, running) if start_time(running.pid) == running.started else None


def names(env: Mapping[str, str]) -> list[str]:
    """Names of this user's clusters, running or left behind."""
    folder = places.clusters(env)
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def traits(spec: ClusterSpec) -> Traits:
    """What is true of an embedded cluster made from `spec`."""
    simulated = any(node.gpus for node in spec.nodes)
    return Traits(
        backend="embedded",
        level="L1",
        gpus="simulated" if simulated else "none",
        users="mapped",
        not_enforced=NOT_ENFORCED,
    )


def _clean(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of the cluster's programs: a proxy or a setting of the user's own must not reach them."""
    kept = {name: env[name] for name in ("HOME", "LANG", "USER") if name in env}
    return {**kept, "PATH": system_path(env)}


def _is_root() -> bool:
    return os.geteuid() == 0


def _check_spec(spec: ClusterSpec) -> None:
    if not 1 <= len(spec.nodes) <= network.MOST_NODES:
        raise SpecError(f"asked for {len(spec.nodes)} nodes; an embedded cluster has 1 to {network.MOST_NODES}")
    seen = [node.name for node in spec.nodes]
    if twice := sorted({name for name in seen if seen.count(name) > 1}):
        raise SpecError(f"the cluster names two nodes {twice[0]!r}; give each node a name of its own")


@contextmanager
def _lock(folder: Path) -> Iterator[IO[str]]:
    """The cluster's lock, which the holder inherits and so keeps for as long as it lives."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ClusterError(
                f"asked to start the cluster {folder.name!r}, but one of that name runs already or is just starting; "
                "use it, or end it with `gpulab down`"
            ) from error
        yield lock


@contextmanager
def _door(port: int) -> Iterator[socket.socket]:
    """A listening socket on the host's loopback, to be inherited by the holder."""
    if not 0 <= port <= 65535:
        raise SpecError(f"asked for port {port} for the API server; a port is a number from 0 to 65535")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except OSError as error:
            raise SpecError(
                f"asked for port {port} on 127.0.0.1 for the API server, but it cannot be had: {error.strerror}; "
                "choose another with --port, or leave it out to get a free one"
            ) from error
        door.listen(128)
        yield door


def _clear_stale(folder: Path, progress: Progress) -> None:
    """Removes what a cluster left behind that was killed; the lock is ours, so nobody uses it."""
    if folder.exists():
        progress(f"removing the state of a cluster {folder.name!r} that was killed")
        _remove(folder)


def _keep_logs(folder: Path, env: Mapping[str, str]) -> Path:
    """Copies the logs out of a state folder that is about to go; the newest failed start replaces the one before."""
    kept = places.clusters(env).with_name("logs") / folder.name
    shutil.rmtree(kept, ignore_errors=True)
    for log in folder.rglob("*.log"):
        target = kept / log.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, target)
    return kept


def _remove(folder: Path) -> None:
    """Removes a state folder; processes that were killed an instant ago may still write into it."""
    deadline = time.monotonic() + 5
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists() and time.monotonic() > deadline:
            raise MachineError(f"the state of an ended cluster, {folder}, cannot be removed; remove it by hand")


def _follow(reports: IO[bytes], child: Child, folder: Path, progress: Progress) -> None:
    """Passes on what the holder says until the cluster is ready."""
    for line in reports:
        report = msgspec.json.decode(line, type=holder.Report)
        if report.ready:
            return
        if report.error:
            raise StartError(f"the cluster did not start: {report.error}")
        progress(report.say or "")
    child.wait(5)
    raise StartError(
        f"the cluster did not start; its holder ended with status {child.status()}:\n{tail(folder / 'holder.log')}"
    )
