"""Starts the programs of containers from the event loop and tells when they end.

Place: `container.py` and `execute.py`; it is the asynchronous neighbour of `clusters/process.py`. Limits: Linux 5.3
(pidfd). Must be used on the loop's own thread: bubblewrap's --die-with-parent means the thread that started it.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import IO

from clusters.process import missing, system_path


class Running:
    """A program that was started; it leads a session and process group of its own."""

    def __init__(
        self, argv: Sequence[str], *, pass_fds: Sequence[int] = (), stdin: bool = False, terminal: int | None = None
    ) -> None:
        """Starts it with an empty environment: a container's variables must not act on programs outside of it.

        Its output goes to pipes, its input comes from one if `stdin`; all three are the `terminal`, where there is one.
        """
        output = subprocess.PIPE if terminal is None else terminal
        self._process = subprocess.Popen(
            argv,
            stdin=(subprocess.PIPE if stdin else subprocess.DEVNULL) if terminal is None else terminal,
            stdout=output,
            stderr=output,
            env={},
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self._transports: list[asyncio.ReadTransport] = []
        self._pidfd = os.pidfd_open(self._process.pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    async def read(self, stdout: asyncio.Protocol, stderr: asyncio.Protocol) -> list[asyncio.ReadTransport]:
        """Hands its two output pipes to protocols."""
        for protocol, pipe in ((stdout, self._process.stdout), (stderr, self._process.stderr)):
            self._transports.append(await reading(protocol, _there(pipe)))
        return self._transports

    @property
    def input(self) -> IO[bytes]:
        """Its input pipe."""
        return _there(self._process.stdin)

    def close(self) -> None:
        """Stops reading, also where a process that was left behind holds the stream open."""
        for transport in self._transports:
            transport.close()

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._ended.is_set()

    async def wait(self) -> int:
        """Its exit status, 128 + the signal's number when a signal ended it."""
        await self._ended.wait()
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def kill(self) -> None:
        """SIGKILL to its process group, unless it is gone."""
        if self.ended:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()
        self._ended.set()


async def reading(protocol: asyncio.Protocol, file: IO[bytes]) -> asyncio.ReadTransport:
    """Hands what can be read from a pipe or terminal to a protocol; its transport's end closes the file."""
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, file)
    return transport


async def writing(file: IO[bytes]) -> asyncio.StreamWriter:
    """What writes to a pipe or terminal, and closes it."""
    loop = asyncio.get_running_loop()
    # There is nothing to read here: StreamReaderProtocol is the library's public way to what drain() needs.
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, file)
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _there(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "this program was started without that pipe"
    return pipe


def find(program: str) -> str:
    """The absolute path of a program.

    Raises:
        MachineError: it is not on this machine.
    """
    found = shutil.which(program, path=system_path(os.environ))
    if found is None:
        raise missing(program)
    return found
