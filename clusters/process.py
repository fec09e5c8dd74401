"""The one place that starts programs: run one to its end, or keep one as a child that stops for certain.

Place: the rest of the package shells out through here only. Limits: Linux (process groups, parent-death signal).
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

from clusters.api import ClusterError, MachineError

_CRASH = re.compile(r"^(?:runtime: .*\n)*(?:fatal error|panic): ", re.MULTILINE)  # of a Go program, before its stacks


class CommandFailed(ClusterError):
    """A program ended with a status other than 0; `output` is what it printed last."""

    def __init__(self, argv: Sequence[str], status: int, output: str) -> None:
        self.argv, self.status, self.output = list(argv), status, output
        said = output.strip() or "it printed nothing"
        super().__init__(f"{' '.join(argv)} ended with status {status}: {said}")


def missing(program: str) -> MachineError:
    """The error for a program that is not on this machine."""
    return MachineError(f"the program {program!r} is not on this machine; `gpulab doctor` says how to get it")


def system_path(env: Mapping[str, str]) -> str:
    """PATH with the folders of system programs, which an ordinary user's often lacks (ip, nft)."""
    folders = env.get("PATH", os.defpath).split(":")
    return ":".join(dict.fromkeys([*folders, "/usr/sbin", "/sbin"]))


def foreign_settings(env: Mapping[str, str]) -> list[str]:
    """Names of variables that would lead helm to another cluster than it is told to (HELM_KUBEAPISERVER and others)."""
    return [name for name in env if name.startswith("HELM_KUBE") or name == "HELM_NAMESPACE"]


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float | None = None,
) -> str:
    """Runs a program to its end and returns what it wrote to standard output.

    Raises:
        MachineError: the program is not there.
        CommandFailed: it ended with another status than 0, or (status 124) after `seconds`.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, env=env, cwd=cwd, timeout=seconds, capture_output=True, text=True, errors="replace"
        )
    except FileNotFoundError as error:
        raise missing(argv[0]) from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(argv, 124, f"not done after {seconds:g} s") from error
    if done.returncode:
        raise CommandFailed(argv, done.returncode, (done.stderr or done.stdout)[-4000:])
    return done.stdout


def become(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Replaces this process by a program; what is still buffered is written first."""
    sys.stdout.flush()
    os.execve(argv[0], list(argv), dict(env))  # noqa: S606 - there is no shell, on purpose


class Child:
    """A program in a process group of its own, writing to a log.

    It dies with the thread that started it (the kernel counts threads), unless it is `detached`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path | IO[bytes],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        detached: bool = False,
    ) -> None:
        self.argv = list(argv)
        if not shutil.which(argv[0], path=(env or os.environ).get("PATH")):
            raise missing(argv[0])
        # setpriv sets the signal, then becomes the program; our code between fork and exec would upset gRPC threads.
        prefix = [] if detached else ["setpriv", "--pdeathsig", "KILL", "--"]
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(log.open("ab")) if isinstance(log, Path) else log
            self._process = subprocess.Popen(
                [*prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=env,
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, which is also that of the group."""
        return self._process.pid

    def status(self) -> int | None:
        """Exit status, negative for a signal, or None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Exit status once it ends, or None when it still runs after `seconds`."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace: float = 5.0) -> None:
        """SIGTERM to the group, after `grace` seconds SIGKILL; returns when the child is gone."""
        self._signal(signal.SIGTERM)
        if self.wait(grace) is None:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._signal(signal.SIGKILL)  # what the child left behind in its group

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22), or None when it is gone.

    Together with the process id it names a process for good: ids are used again, this pair is not.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def children(parent: int) -> list[int]:
    """Process ids of a process's children; zombies too."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def descendants(root: int) -> list[int]:
    """A process and all that descend from it, parents before children."""
    found = [root]
    for pid in found:
        found += children(pid)
    return found


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, or a note that there is none; of a crashed Go program what it says before the stacks."""
    if not log.is_file():
        return f"({log.name}: nothing was written)"
    text = log.read_text(errors="replace")
    crash = list(_CRASH.finditer(text))
    if crash:
        text = text[crash[-1].start() :].partition("\n\n")[0]
        return "\n".join(text.splitlines()[:lines])
    return "\n".join(text.splitlines()[-lines:])


def kill_for_certain(pid: int, seconds: float = 5.0) -> None:
    """SIGKILL to one process, and waits until it is gone (for a process that is not a child of this one)."""
    born = start_time(pid)
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while born is not None and start_time(pid) == born and time.monotonic() < deadline:
        time.sleep(0.005)


def stream(
    argv: Sequence[str],
    each: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Runs a program to its end, and gives each line it prints (both outputs) to `each` as it comes.

    Whatever ends this function, Ctrl-C included, the program's process group has ended too.

    Raises:
        MachineError: the program is not there.
        CommandFailed: it ended with another status than 0.
    """
    last: deque[str] = deque(maxlen=30)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as output:
        with os.fdopen(writing, "wb", 0) as sink:
            child = Child(argv, log=sink, env=env, cwd=cwd)
        try:
            for raw in output:
                last.append(raw.decode(errors="replace").rstrip("\n"))
                each(last[-1])
            status = child.wait()
        finally:
            child.stop()
    if status:
        raise CommandFailed(argv, status, "\n".join(last))
