"""A container: its process in bubblewrap, its log, its end.

Place: in a `sandbox.Sandbox`; `server.py` translates the kubelet's calls to it. Limits: one start per container, as in
the CRI; restarts are the kubelet's.

Process 1 of a container is bubblewrap's own init, the program is process 2. So the program ends on the stop signal even
without a handler for it: process 1 of a PID namespace would ignore it (pid_namespaces(7)), and `sleep` or
`python -m http.server` would always take the whole grace period, as they do in runtimes without an init.
"""

import asyncio
import contextlib
import enum
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from clusters.embedded.protos import Message
from clusters.embedded.runtime import bubblewrap, layer, members, terminal
from clusters.embedded.runtime.cgroups import Group
from clusters.embedded.runtime.errors import Refused, StartFailed
from clusters.embedded.runtime.images import Image
from clusters.embedded.runtime.launch import Launcher
from clusters.embedded.runtime.logs import LogFile
from clusters.embedded.runtime.namespaces import Namespaces
from clusters.embedded.runtime.plan import Plan
from clusters.embedded.runtime.spawn import Running
from clusters.embedded.runtime.stage import Stage
from clusters.embedded.runtime.streams import Streams
from clusters.embedded.runtime.terminal import Terminal
from clusters.embedded.runtime.usage import Usage, listed, tree, written

NICENESS = "10"
"""Containers yield to the cluster's own programs and to whoever measures them from outside, as they do where cgroups
give the pods of a node a share of their own; without this a busy pod starves the client that times it."""


class State(enum.IntEnum):
    """The life of a container; the numbers are those of the CRI's ContainerState."""

    CREATED = 0
    RUNNING = 1
    EXITED = 2


class Container:
    """One container; times in nanoseconds since 1970, None when not yet."""

    def __init__(
        self,
        id_: str,
        plan: Plan,
        *,
        config: Message,
        image: Image,
        pod: str,
        namespaces: Namespaces,
        launcher: Launcher,
        base: Callable[[], Path],
        stage: Stage,
        beside: int | None = None,
        folder: Path,
        log: Path | None,
        group: Group | None,
        programs: dict[str, str],
        now: Callable[[], int],
    ) -> None:
        """A container that is not started, from the CRI's ContainerConfig.

        `pod` and `namespaces` are its pod's id and namespaces, `folder` is its own, `group` its cgroup where there are
        any; `base` tells the root of those whose image names none; it is put together on `stage`; `now` is nanoseconds
        since 1970. It joins the PID namespace of the process `beside`, else it has its own.
        """
        self.config, self.image, self.group = config, image, group
        self.id, self.plan, self.pod, self.folder, self.log_path = id_, plan, pod, folder, log
        self._namespaces, self._launcher, self._programs, self._now = namespaces, launcher, programs, now
        self._beside, self._mounts, self._base, self._stage = beside, "", base, stage
        self._log = LogFile(log, now)
        self.streams = Streams(self._log, stdin=config.stdin, once=config.stdin_once, tty=config.tty)
        self._process: Running | None = None
        self._program: int | None = None
        self._exited = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._lowering: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self.state = State.CREATED
        self.created = now()
        self.started: int | None = None
        self.finished: int | None = None
        self.exit_code: int | None = None
        self.reason = self.message = ""
        self._out_of_memory = False
        self._cpu_ns = 0
        self.init: int | None = None
        self.at_end: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Runs the program; returns when it really runs (or already ended).

        Raises:
            Refused: the container was started before.
            StartFailed: the box could not be made or the program could not be executed; says why.
        """
        if self.state is not State.CREATED or self._process is not None:
            raise Refused(f"container {self.id!r} was already started")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log.reopen()
        tty = await terminal.make(self.folder / terminal.FOLDER) if self.config.tty else None
        said = await self._put_together(tty)
        assert self._process is not None
        if said != b".":  # it is told when the program is not executed, and nothing when there was no step to it
            await self._exited.wait()
            self._fail(said.decode(errors="replace").removeprefix("."))
            raise StartFailed(self.message)
        if self.init is not None and not self._process.ended:
            self._program = _second(self.init) if self._beside is None else _handle(self.init)
        if self.state is State.CREATED:
            self.state, self.started = State.RUNNING, self._now()
        if self._program is not None:
            self._lowering = asyncio.create_task(_lower_group(self._program))

    async def stop(self, seconds: float) -> None:
        """The stop signal to the program, after `seconds` SIGKILL to all of it; returns when it is gone."""
        if self.state is State.RUNNING and seconds > 0 and self._program is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._program, self.plan.stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), seconds)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to all of it; returns when it is gone."""
        if self._process is None or self._exited.is_set():
            return
        with contextlib.suppress(ProcessLookupError):
            if self._mounts:
                await members.kill(self._mounts)
            elif self.init is not None and not self._process.ended:
                os.kill(self.init, signal.SIGKILL)
            elif not self._process.ended:
                self._process.kill()
        await self._exited.wait()

    def end(self, why: str = "", *, out_of_memory: bool = False) -> None:
        """SIGKILL to all of it because it exceeds a limit; does not wait for its end."""
        self._out_of_memory, self.message = out_of_memory, why
        self._ending = asyncio.create_task(self.kill())

    @property
    def processes(self) -> list[Path]:
        """The folder in /proc of each of its processes, bubblewrap's own too; empty while it does not run."""
        if self.state is not State.RUNNING or self.init is None:
            return []
        return [each for each in listed(self._root) if not self._mounts or members.namespace(each) == self._mounts]

    @property
    def in_memory(self) -> int:
        """Bytes of files in its root, where that is in memory."""
        return written(self._root) if self.init and not self.plan.box.root else 0

    @property
    def written(self) -> int:
        """Bytes that it has written outside of volumes."""
        return layer.size(self.folder) if self.plan.box.root else self.in_memory

    @property
    def _root(self) -> Path:
        return Path(f"/proc/{self.init}/root")  # house: the kernel's name for a process's root, no home folder

    def usage(self) -> Usage | None:
        """What its processes have used; None while it does not run."""
        if self.state is not State.RUNNING or self.init is None:
            return None
        found = self.group.usage() if self.group else tree(self.processes, self.in_memory)
        if found is None:
            return None
        self._cpu_ns = max(self._cpu_ns, found.cpu_ns)  # the time of a process that nobody waited for is lost
        return msgspec.structs.replace(found, cpu_ns=self._cpu_ns)

    def reopen_log(self) -> None:
        """Goes on in a new log file.

        Raises:
            Refused: the container does not run.
        """
        if self.state is not State.RUNNING:
            raise Refused(f"container {self.id!r} does not run, so its log cannot be reopened")
        self._log.reopen()

    async def forget(self) -> None:
        """Removes its files, but not its log, which is the kubelet's to remove."""
        if self.config.tty:
            await terminal.remove(self.folder / terminal.FOLDER)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.group:
            self.group.remove()

    async def _put_together(self, tty: Terminal | None) -> bytes:
        """Starts it on the stage and returns what the launcher reports; from then on it has its mounts to itself."""
        box = self.plan.box
        async with self._stage.showing(
            [source for source, _ in box.devices] + [each.source for each in box.mounts]
        ) as at:
            try:
                box = await self._rooted(bubblewrap.elsewhere(box, at))
                self.plan = msgspec.structs.replace(self.plan, box=box)
                self._process, info, report = self._spawn(tty)
                self._watch = asyncio.create_task(self._follow(self._process))
                await self.streams.join(self._process, tty)
                await self._set_up(info)
                with os.fdopen(report, "rb") as told:
                    return await asyncio.to_thread(told.read)
            finally:
                await self._stage.do(layer.release, self.folder)

    async def _rooted(self, box: bubblewrap.Box) -> bubblewrap.Box:
        """With a layer of its own over the image's root; where there can be none, with that read-only."""
        own, files, mounts = self.image.root, self.plan.files, box.mounts
        if made := await self._stage.do(layer.make, Path(own) if own else self._base(), self.folder, files):
            system = () if own else bubblewrap.programs()
        else:
            system = layer.entries(Path(own)) if own else bubblewrap.system()
            mounts = (*bubblewrap.shown(files, self.folder), *mounts)
        return msgspec.structs.replace(box, root=str(made or ""), system=system, mounts=mounts)

    def _spawn(self, tty: Terminal | None) -> tuple[Running, int, int]:
        """Starts it; returns it, what bubblewrap tells of itself and what the launcher reports."""
        box, user = self.plan.box, self._namespaces.user
        info, inform = os.pipe()
        report, tell = os.pipe()
        opened = [inform, tell]
        try:
            beside = None
            if self._beside is not None:
                opened.append(beside := os.open(f"/proc/{self._beside}/ns/pid", os.O_RDONLY))
            words = bubblewrap.arguments(box, user, beside)
            opened.append(listed := _in_memory(b"".join(os.fsencode(word) + b"\0" for word in words)))
            bwrap = [self._programs["bwrap"], "--info-fd", str(inform), "--args", str(listed)]
            if box.rights.filter:
                opened.append(code := _in_memory(box.rights.filter))
                bwrap += ["--seccomp", str(code)]
            last = self._launcher.argv(
                self._launcher.descriptor,
                box.rights,
                self.plan.command,
                env=box.env,
                cwd=box.cwd,
                terminal=tty is not None,
                filtered=True,
                report=tell,
            )
            enter = [*box.joining, self._programs["nice"], "-n", NICENESS]
            enter += self._namespaces.entering(self._programs["nsenter"], self._stage.entering)
            passed = (*opened, user, self._launcher.descriptor)
            inner = tty.inner if tty else None
            argv = [*enter, *bwrap, "--", *last]
            return Running(argv, pass_fds=passed, stdin=self.config.stdin, terminal=inner), info, report
        except BaseException:
            os.close(info)
            os.close(report)
            raise
        finally:
            for number in opened:
                os.close(number)

    async def _set_up(self, info: int) -> None:
        """Waits until bubblewrap has told which process is the first in the container, or has ended."""
        with os.fdopen(info, "rb") as told:
            about = await asyncio.to_thread(told.read)
        if about:
            self.init = json.loads(about)["child-pid"]
            if self._beside is not None:
                self._mounts = members.namespace(Path(f"/proc/{self.init}"))

    async def _follow(self, process: Running) -> None:
        code = await process.wait()
        if self._mounts:
            await members.kill(self._mounts)
        await self.streams.finish()
        self._log.close()
        if self._program is not None:
            os.close(self._program)
            self._program = None
        self.exit_code, self.reason = code, "Error" if code else "Completed"
        if self._out_of_memory or (self.group and self.group.out_of_memory()):
            self.reason = "OOMKilled"
        self.started = self.started or self._now()
        self.state, self.finished, self.init = State.EXITED, self._now(), None
        self._exited.set()
        for tell in self.at_end:
            tell()

    def _fail(self, why: str) -> None:
        """The words and the code that containerd has for a program that cannot be executed."""
        said = why or self.streams.last.decode(errors="replace").partition(": ")[2] or "it was killed"
        self.exit_code, self.reason, self.message = 128, "StartError", f"the container could not be started: {said}"


def _in_memory(content: bytes) -> int:
    """A descriptor to read this from."""
    number = os.memfd_create("container")
    os.write(number, content)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _handle(process: int) -> int | None:
    """A handle, as of pidfd_open(2), on a process; None when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return os.open(f"/proc/{process}", os.O_RDONLY | os.O_DIRECTORY)
    return None


def _second(init: int) -> int | None:
    """A handle, as of pidfd_open(2), on process 2 of the PID namespace of `init`; None while there is none.

    The container's own /proc is asked, for kernels need not tell a process's children; until the container has one, the
    path leads to another /proc, on another device.
    """
    proc = f"/proc/{init}/root/proc"  # house: the kernel's name for a process's root, no home folder
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, NotADirectoryError):
        if os.stat(proc).st_dev != os.stat("/proc").st_dev:  # noqa: PTH116 - no Path for a link into another namespace
            return os.open(f"{proc}/2", os.O_RDONLY | os.O_DIRECTORY)
    return None


async def _lower_group(process: int) -> None:
    """Gives a process's scheduling group the niceness too: with autogroups (sched(7)), its own counts in there only."""
    try:
        group = os.open("autogroup", os.O_WRONLY, dir_fd=process)
    except OSError:  # no such groups in this kernel, or the process is gone
        return
    try:
        for _ in range(100):
            try:
                os.write(group, NICENESS.encode())
            except BlockingIOError:  # an ordinary user may change one group of the machine in 100 ms
                await asyncio.sleep(0.1)
            else:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(group)
