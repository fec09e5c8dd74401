"""The last step into a container: user, groups, capabilities, system call filter, working directory, environment.

Place: `container.py` puts `argv` behind bubblewrap, `execute.py` behind nsenter, so that a container's program and what
is run in it later have the same rights. The step itself is the program in kubernetes/launch. Limits: it needs /proc in
the container, for it is run from an open file: no file of the container is used, which a volume could have replaced.
"""

import base64
import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from clusters.api import MachineError
from clusters.embedded.runtime.capabilities import mask

BROUGHT = 9
"""The descriptor of the launch program after `Launcher.bringing`; a shell's redirections go no higher."""
_ADD_SEALS, _ALL_SEALS = 1033, 0xF  # fcntl(2), F_ADD_SEALS: no change of the content and none of the seals


class Rights(msgspec.Struct, frozen=True):
    """Whom a container's processes run as.

    `groups` are the supplementary ones, None where the kernel lets nobody set them (a single mapped id).
    `capabilities` bound what user 0 holds; any other user holds none. `filter` is a program of seccomp(2), or empty.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] | None = None
    capabilities: tuple[str, ...] = ()
    filter: bytes = b""


class Launcher:
    """The launch program, in a sealed file that no container can write to: it is visible to them as /proc/PID/exe."""

    def __init__(self, program: Path) -> None:
        """Reads the program.

        Raises:
            MachineError: it cannot be read.
        """
        try:
            code = program.read_bytes()
        except OSError as error:
            raise MachineError(f"{program} cannot be read: {error.strerror}; it is built with Kubernetes") from error
        writing = os.memfd_create("launch", os.MFD_ALLOW_SEALING)
        try:
            os.write(writing, code)
            fcntl.fcntl(writing, _ADD_SEALS, _ALL_SEALS)
            # A file that is open for writing cannot be executed.
            self.descriptor = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY)
        finally:
            os.close(writing)

    @property
    def bringing(self) -> list[str]:
        """What goes before an `argv` that a process starts which has not inherited `descriptor`."""
        script = f'exec {BROUGHT}<"$0" && exec "$@"'
        return ["/bin/sh", "-c", script, f"/proc/{os.getpid()}/fd/{self.descriptor}"]

    @staticmethod
    def argv(
        descriptor: int,
        rights: Rights,
        command: Sequence[str],
        *,
        env: dict[str, str],
        cwd: str,
        terminal: bool = False,
        filtered: bool = False,
        report: int = 0,
    ) -> list[str]:
        """The argument list that becomes `command`.

        Args:
            descriptor: where the launch program is open: this one's `descriptor`, passed on, or BROUGHT.
            rights: whom it runs as.
            command: the program and its arguments, found by the PATH in `env`.
            env: all of its environment.
            cwd: its working directory.
            terminal: whether standard input is a terminal, which becomes the program's own.
            filtered: whether the filter is in force already.
            report: a descriptor that is told "." and then, when the program cannot be executed, why.
        """
        settings = {
            "uid": rights.uid,
            "gid": rights.gid,
            "groups": rights.groups,
            "capabilities": mask(rights.capabilities),
            "filter": "" if filtered else base64.b64encode(rights.filter).decode(),
            "directory": cwd,
            "variables": len(env),
            "terminal": terminal,
            "report": report,
        }
        variables = [f"{name}={value}" for name, value in env.items()]
        return [f"/proc/self/fd/{descriptor}", json.dumps(settings), *variables, *command]
