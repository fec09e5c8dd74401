"""The nodes of a cluster over its life: they join, are lost, get a spot notice, and come back.

Place: holder.py has the first nodes started (`begin`) and hands requests of control.py to `handle`, each on a thread of
its own. Limits: what starts or kills programs happens on the supervisor's thread (`Supervisor.do`); a node keeps its
place, and so its addresses, for as long as the cluster lives.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from clusters.api import ClusterError, ClusterSpec, NodeSpec, SpecError
from clusters.embedded import network, node, spot, state
from clusters.embedded.cgroups import Limits
from clusters.embedded.checks import check_nodes
from clusters.embedded.control import AddNode, Heal, Lose, Request, SpotNotice
from clusters.embedded.controlplane import Files, is_ready
from clusters.embedded.gpu import devices, faults, nvml
from clusters.embedded.rest import Api
from clusters.embedded.supervisor import Supervisor
from clusters.process import Child, descendants, start_time
from clusters.wait import WaitTimeout, until

_READY = 60.0
_GONE = 10.0
_LONGEST_NOTICE = 86400


@dataclass
class Member:
    """A node of the cluster: its place, counted from 1, the file that describes it, and how it is."""

    spec: NodeSpec
    index: int
    file: Path
    lost: bool = False
    notice: object | None = None

    @property
    def component(self) -> str:
        """Its name among the supervisor's programs."""
        return f"node {self.spec.name}"


class Fleet:
    """The nodes of one cluster."""

    def __init__(
        self, spec: ClusterSpec, files: Files, images: Path, run: Path, limits: Limits, supervisor: Supervisor
    ) -> None:
        """`images` is the list of images, `run` a short path for sockets, `limits` what limits containers."""
        self._spec, self._files, self._images, self._run = spec, files, images, run
        self._limits, self._supervisor = limits, supervisor
        self._members: dict[str, Member] = {}

    def begin(self) -> None:
        """Starts the nodes that the cluster has from the start."""
        offers = devices.assign(self._spec.nodes, nvml.find())
        for index, (spec, offer) in enumerate(zip(self._spec.nodes, offers, strict=True), 1):
            self._members[spec.name] = Member(spec, index, self._describe(spec, index, offer))
        for member in self._members.values():
            self._start(member)

    def handle(self, api: Api, request: Request) -> None:
        """Does what is asked; called from a thread of its own.

        Raises:
            SpecError: there is no such node, or it cannot be done to it.
            ClusterError: it failed.
        """
        do = self._supervisor.do
        match request:
            case AddNode(spec):
                _await_ready(api, spec.name, do(partial(self._add, spec)))
            case Lose(name):
                _await_end(name, do(partial(self._lose, name)))
            case SpotNotice(name, seconds):
                do(partial(self._may_be_told, name, seconds))
                spot.tell(api, name, seconds, datetime.now(UTC))
                do(partial(self._lose_later, name, seconds))
            case Heal(name):
                began = do(partial(self._renew, name))
                spot.take_back(api, name)
                _await_ready(api, name, began)

    def _describe(self, spec: NodeSpec, index: int, offer: devices.Offer) -> Path:
        return node.describe(spec, index, self._files, self._run, self._images, self._spec, offer, self._limits)

    def _start(self, member: Member) -> None:
        log = member.file.with_name("runtime.log")
        self._supervisor.start(member.component, partial(_node, member.file, log), log)

    def _find(self, name: str) -> Member:
        if name not in self._members:
            raise SpecError(f"there is no node {name!r}; the nodes are: {', '.join(self._members)}")
        return self._members[name]

    def _add(self, spec: NodeSpec) -> datetime:
        wanted = msgspec.structs.replace(self._spec, nodes=(*self._spec.nodes, spec))
        check_nodes(wanted)
        index = len(wanted.nodes)
        network.add_node(index)
        member = Member(spec, index, self._describe(spec, index, devices.assign(wanted.nodes, nvml.find())[-1]))
        self._spec, self._members[spec.name] = wanted, member
        state.rewrite(self._files.state, wanted)
        self._start(member)
        return datetime.now(UTC)

    def _lose(self, name: str) -> list[tuple[int, int | None]]:
        """Kills all that runs on a node, the runtime first, which can then do nothing more; returns who was killed."""
        member = self._find(name)
        if member.lost:
            raise SpecError(f"the node {name!r} is lost already; `gpulab node heal {name}` brings it back")
        member.lost, member.notice = True, None
        first = self._supervisor.drop(member.component)
        killed = [(pid, start_time(pid)) for pid in descendants(first)] if first else []
        for pid, _ in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        network.remove_node(member.index)
        return killed

    def _may_be_told(self, name: str, seconds: float) -> None:
        member = self._find(name)
        if not 0 <= seconds <= _LONGEST_NOTICE:
            raise SpecError(f"asked for a spot notice of {seconds:g} s; it has 0 to {_LONGEST_NOTICE}")
        if member.lost:
            raise SpecError(f"the node {name!r} is lost, so it can be told nothing; `gpulab node heal {name}` is first")
        if member.notice:
            raise SpecError(f"the node {name!r} has a spot notice already; `gpulab node heal {name}` takes it back")

    def _lose_later(self, name: str, seconds: float) -> None:
        member, notice = self._members[name], object()
        member.notice = notice

        def lose() -> None:
            if member.notice is notice:  # else it was healed, or lost, meanwhile
                self._lose(name)

        self._supervisor.at(seconds, lose)

    def _renew(self, name: str) -> datetime:
        """Takes a spot notice back; a lost node starts with nothing but the logs of what ran on it."""
        member = self._find(name)
        member.notice = None
        if not member.lost:
            return datetime.fromtimestamp(0, UTC)
        for folder in ("kubelet", "containers"):
            state.remove(member.file.with_name(folder))
            member.file.with_name(folder).mkdir(mode=0o700)
        faults.file(self._files.state, name).unlink(missing_ok=True)
        network.add_node(member.index)
        member.lost = False
        self._start(member)
        return datetime.now(UTC)


def _node(file: Path, log: Path) -> Child:
    module = [sys.executable, "-P", "-m", "clusters.embedded.node", str(file)]
    return Child(["unshare", "--mount", "--propagation=private", *module], log=log)


def _await_ready(api: Api, name: str, since: datetime) -> None:
    """Returns when the node is Ready by a heartbeat that is not older than `since`."""

    def look() -> bool:
        found = api.get(f"/api/v1/nodes/{name}")
        return found is not None and is_ready(json.loads(found), since)

    try:
        until(look, bool, what=f"the node {name!r} to be Ready", seconds=_READY, describe=lambda _: "not yet")
    except WaitTimeout as error:
        raise ClusterError(f"{error}; its logs are in the cluster's folder, in nodes/{name}") from error


def _await_end(name: str, killed: Sequence[tuple[int, int | None]]) -> None:
    def left() -> list[int]:
        return [pid for pid, born in killed if born is not None and start_time(pid) == born]

    try:
        until(left, lambda alive: not alive, what=f"all on the node {name!r} to end", seconds=_GONE, interval=0.005)
    except WaitTimeout as error:
        raise ClusterError(f"asked to lose the node {name!r}, but the kernel keeps some of it: {error}") from error
