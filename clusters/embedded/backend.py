"""The embedded cluster as seen from the host: start one, find one that runs, enter its network, end it.

Place: the backend that `--cluster embedded` names; it starts holder.py and keeps the cluster's state folder. Limits:
Linux.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from clusters import places
from clusters.api import ClusterLost, ClusterSpec, NodeSpec, Progress, SpecError, StartError, Traits
from clusters.drain import drain
from clusters.embedded import additions, cgroups, control, identities, state
from clusters.embedded.cgroups import Kind
from clusters.embedded.checks import check
from clusters.embedded.exhaustion import exhausted
from clusters.embedded.gpu import devices, faults, nvml
from clusters.embedded.job import Job, Report, enter, holder_argv
from clusters.embedded.private import write_private
from clusters.embedded.runtime.images import Entry, entries
from clusters.embedded.supervisor import Restart, restarts
from clusters.process import Child, children, kill_for_certain, start_time, system_path, tail
from clusters.wait import until

MAPPED = ("supplementary groups and fsGroup", "service account tokens for pods of other users")  # with a single id
NOT_ENFORCED = (
    "AppArmor profiles",
    "NetworkPolicy",
)


class EmbeddedCluster:
    """A running embedded cluster; implements `clusters.api.Cluster`."""

    def __init__(self, folder: Path, running: state.Running, child: Child | None = None) -> None:
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
        return self._now.traits

    @property
    def shared(self) -> bool:
        """Whether it outlives the process that started it."""
        return self._running.detached

    @property
    def roots(self) -> tuple[int, ...]:
        """Its holder."""
        return (self.holder,)

    @property
    def images(self) -> Path:
        """The list of images that its containers may use."""
        return Path(self._running.images)

    @property
    def added_images(self) -> tuple[Entry, ...]:
        """The images that its user added when it started."""
        file = self._folder / state.ADDED_IMAGES
        return entries(file) if file.is_file() else ()

    @property
    def holder(self) -> int:
        """Process id of its holder, from which all its processes descend."""
        return self._running.pid

    @property
    def spec(self) -> ClusterSpec:
        """What it was started from, with the nodes that joined since."""
        return self._now.spec

    @property
    def _now(self) -> state.Running:
        """What is written down about it by now, for nodes join while it runs."""
        return state.read(self._folder) or self._running

    def restarts(self) -> tuple[Restart, ...]:
        """Which of its programs were started again since it is up, oldest first."""
        return restarts(self._folder / state.RESTARTS)

    def fail_gpu(self, node: str, index: int, xid: int) -> None:
        """Lets a simulated GPU of a node have an Xid error (`faults.inject`); raises SpecError when that cannot be."""
        self.check()
        faults.inject(self._folder, self.spec, node, index, xid)

    def heal_gpu(self, node: str, index: int) -> None:
        """Makes a simulated GPU whole again, as a reset would (`faults.heal`); raises SpecError when that cannot be."""
        self.check()
        faults.heal(self._folder, self.spec, node, index)

    def heat_gpus(self, node: str, celsius: float) -> None:
        """Gives a node's simulated GPUs air of that temperature (`faults.heat`); raises SpecError when it cannot be."""
        self.check()
        faults.heat(self._folder, self.spec, node, celsius)

    def add_node(self, node: NodeSpec) -> None:
        """Lets a new node join, and returns when it is Ready."""
        self._ask(control.AddNode(node))

    def drain(self, node: str, *, seconds: float, progress: Progress) -> None:
        """Drains a node with kubectl (`clusters.drain`)."""
        self.check()
        drain(self, node, seconds=seconds, progress=progress)

    def lose(self, node: str) -> None:
        """Kills all that runs on a node at once; its address answers no more."""
        self._ask(control.Lose(node))

    def spot_notice(self, node: str, seconds: float) -> None:
        """Marks a node as providers do; the holder loses it after so many seconds."""
        self._ask(control.SpotNotice(node, seconds))

    def heal(self, node: str) -> None:
        """Brings a lost node back without what was on it; takes cordon and notice back; returns when it is Ready."""
        self._ask(control.Heal(node))

    def _ask(self, request: control.Request) -> None:
        self.check()
        control.ask(self._folder, request)

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` in the cluster's network."""
        return enter(self._running.pid, argv, root=_is_root())

    def check(self) -> None:
        """Returns while the holder lives; raises ClusterLost with the reason it left once it does not."""
        if start_time(self._running.pid) == self._running.started:
            return
        ended = self._folder / "ended"
        reason = ended.read_text() if ended.is_file() else "its holder was killed"
        raise ClusterLost(f"the cluster {self.name!r} has ended: {reason}")

    def stop(self) -> None:
        """Kills the holder, with which everything inside ends, and removes the state, unless it is another's by now."""
        if start_time(self._running.pid) == self._running.started:
            kill_for_certain(self._running.pid)
        if self._child:
            self._child.wait()
        _await_end(self._running.inner)
        # The last thread of a killed process lets go of its files a moment after the process is gone.
        with contextlib.suppress(state.NameInUse), state.lock(self._folder, seconds=2):
            found = state.read(self._folder)
            if found and (found.pid, found.started) == (self._running.pid, self._running.started):
                state.remove(self._folder)


def start(
    name: str,
    spec: ClusterSpec,
    *,
    programs: Path,
    images: Path,
    env: Mapping[str, str],
    progress: Progress,
    added: Sequence[Entry] = (),
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
        added: images that the user adds, from additions.py; they come before those of the list.
        port: TCP port on 127.0.0.1 for the API server; 0 takes a free one.
        detached: the cluster outlives this process.

    Raises:
        SpecError: the description cannot be met, or the port is taken.
        ClusterError: a cluster of that name runs already.
        MachineError: this machine lacks something.
        StartError: a component did not come up.
    """
    check(spec, port)
    limits = cgroups.choose(spec.limits, name)
    folder = places.clusters(env) / name
    with state.lock(folder) as lock, _door(port) as door:
        state.clear_stale(folder, progress)
        state.begin(folder)
        write_private(folder / state.ADDED_IMAGES, msgspec.json.encode(added))
        job = Job(
            name=name,
            state=str(folder),
            programs=str(programs),
            images=str(images),
            spec=spec,
            server=f"https://127.0.0.1:{door.getsockname()[1]}",
            door=door.fileno(),
            keep=_kept(spec, added, folder, programs, images.parent),
            limits=limits,
        )
        child, reports = _start_holder(job, folder, lock, env, detached=detached)
        try:
            _follow(reports, child, folder, progress)
            running = _write_down(job, child.pid, detached=detached)
        except BaseException as error:
            _end(child)
            if isinstance(error, StartError):
                _add_logs(error, state.keep_logs(folder, env))
            state.remove(folder)
            raise
    return EmbeddedCluster(folder, running, child)


def _add_logs(error: StartError, logs: Path) -> None:
    if why := exhausted(logs):
        error.add_note(why)
    error.add_note(f"The logs of this start are in {logs}")


def _kept(spec: ClusterSpec, added: Sequence[Entry], *folders: Path) -> tuple[str, ...]:
    """What the cluster needs to see of this machine, wherever it is."""
    own = [*map(str, folders), str(Path(__file__).parents[2]), sys.prefix, sys.base_prefix]
    return tuple(dict.fromkeys([*own, *additions.places(added), *spec.host_paths]))


def _start_holder(
    job: Job, folder: Path, lock: IO[str], env: Mapping[str, str], *, detached: bool
) -> tuple[Child, IO[bytes]]:
    """Starts the holder, which inherits lock and door; returns it and the pipe on which it reports."""
    cgroups.store(job.limits, folder)
    cgroups.make(job.limits)
    reading, writing = os.pipe()
    reports = os.fdopen(reading, "rb")
    with os.fdopen(writing, "wb"):
        file = write_private(folder / "holder.json", msgspec.json.encode(msgspec.structs.replace(job, report=writing)))
        argv = holder_argv(file, identities.unshare(identities.kind(root=_is_root()), root=_is_root()))
        fds = (lock.fileno(), job.door, writing)
        log = folder / "holder.log"
        return Child(argv, log=log, env=_clean(env, folder), pass_fds=fds, detached=detached), reports


def find(name: str, env: Mapping[str, str]) -> EmbeddedCluster | None:
    """The running cluster of that name, or None."""
    folder = places.clusters(env) / name
    running = state.read(folder)
    if running is None or start_time(running.pid) != running.started:
        return None
    return EmbeddedCluster(folder, running)


def traits(spec: ClusterSpec, limits: Kind = "watch") -> Traits:
    """What is true of an embedded cluster made from `spec`, whose containers are limited so."""
    users = identities.kind(root=_is_root())
    unenforced = (*cgroups.NOT_ENFORCED[limits], *NOT_ENFORCED)
    return Traits(
        backend="embedded",
        level="L1",
        gpus=devices.kind(devices.assign(spec.nodes, nvml.find())),
        users=users,
        not_enforced=(*unenforced, *(MAPPED if users == "mapped" else ())),
        control_plane=spec.control_plane,
    )


def _clean(env: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of the cluster's programs: a proxy or a setting of the user's own must not reach them."""
    return {"HOME": str(home), "LANG": env.get("LANG", "C.UTF-8"), "PATH": system_path(env)}


def _is_root() -> bool:
    return os.geteuid() == 0


@contextmanager
def _door(port: int) -> Iterator[socket.socket]:
    """A listening socket on the host's loopback, to be inherited by the holder."""
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


def _write_down(job: Job, pid: int, *, detached: bool) -> state.Running:
    """Writes down what is to be known of the cluster whose holder has that outer process, and returns it."""
    running = state.Running(
        name=job.name,
        pid=pid,
        started=start_time(pid) or 0,
        inner=_inner(pid),
        detached=detached,
        images=job.images,
        programs=job.programs,
        traits=traits(job.spec, job.limits.kind),
        spec=job.spec,
    )
    write_private(Path(job.state) / "cluster.json", msgspec.json.encode(running))
    return running


def _inner(outer: int) -> tuple[int, int]:
    """Process 1 of a holder's namespaces, as seen from here, and its start time; (0, 0) when there is none."""
    for pid in children(outer):
        return pid, start_time(pid) or 0
    return 0, 0


def _end(child: Child) -> None:
    """Kills a holder that is a child of this process, and waits until all in it is gone."""
    inner = _inner(child.pid)
    kill_for_certain(child.pid)
    child.wait()
    _await_end(inner)


def _await_end(inner: tuple[int, int]) -> None:
    """Returns when process 1 of a killed holder is gone, which the kernel lets it be once all others are."""
    pid, born = inner
    until(
        lambda: start_time(pid),
        lambda now: now != born,
        what="the cluster's processes to end",
        seconds=10,
        interval=0.005,
    )


def _follow(reports: IO[bytes], child: Child, folder: Path, progress: Progress) -> None:
    """Passes on what the holder says until the cluster is ready."""
    with reports:
        for line in reports:
            report = msgspec.json.decode(line, type=Report)
            if report.ready:
                return
            if report.error:
                raise StartError(f"the cluster did not start: {report.error}")
            progress(report.say or "")
    child.wait(5)
    raise StartError(
        f"the cluster did not start; its holder ended with status {child.status()}:\n{tail(folder / 'holder.log')}"
    )
