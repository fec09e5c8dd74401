"""A pseudo-terminal for a container, in a devpts file system of its own.

Place: `container.py` makes one for a container with `tty: true`; the plan mounts its folder at the container's
/dev/pts, so `tty` and `ls -l /dev/pts` in there tell the truth. Limits: the terminals of `kubectl exec -t` are made by
the streaming helper, in the same devpts.

The launcher makes the program the leader of a session with this terminal, inside the container's PID namespace: a
shell whose session had a leader outside of it could not give the terminal back.
"""

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from pathlib import Path

from clusters.process import CommandFailed, run

FOLDER = "pts"
"""Where a container's devpts is mounted, in the container's own folder."""
_UNLOCK, _NUMBER = 0x40045431, 0x80045430  # TIOCSPTLCK and TIOCGPTN of ioctl_tty(2), which termios lacks


class Terminal:
    """One terminal: `outer` is the side of who watches, `inner` the side of the program; both file descriptors."""

    def __init__(self, folder: Path) -> None:
        """Opens the first terminal of the devpts at `folder`."""
        self._folder = folder
        self.outer = os.open(folder / "ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(self.outer, _UNLOCK, struct.pack("i", 0))
        (number,) = struct.unpack("i", fcntl.ioctl(self.outer, _NUMBER, bytes(4)))
        self.inner = os.open(folder / str(number), os.O_RDWR | os.O_NOCTTY)

    def resize(self, width: int, height: int) -> None:
        """Tells the program how many columns and rows there are; it gets SIGWINCH."""
        fcntl.ioctl(self.outer, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def close(self) -> None:
        """Closes both sides, `inner` only if it still is open; the program gets SIGHUP if it lives."""
        self.release()
        os.close(self.outer)

    def release(self) -> None:
        """Closes `inner`, which the program holds now."""
        if self.inner >= 0:
            os.close(self.inner)
            self.inner = -1


async def make(folder: Path) -> Terminal:
    """Mounts a devpts at `folder`, which is made, and opens a terminal in it.

    Raises:
        CommandFailed: the kernel refused the mount.
    """
    folder.mkdir(parents=True)
    options = "newinstance,ptmxmode=0666,mode=0620"
    await asyncio.to_thread(run, ["mount", "-t", "devpts", "-o", options, "gpulab", str(folder)])
    return Terminal(folder)


async def remove(folder: Path) -> None:
    """Takes the devpts at `folder` away; one that is not there is no error."""
    with contextlib.suppress(CommandFailed):
        await asyncio.to_thread(run, ["umount", "--lazy", str(folder)])
