"""Runs a command in a running container and keeps what it prints: exec probes and hooks.

Place: `server.py`, for ExecSync. Limits: no terminal and no input; a process that the command leaves behind lives on in
the container, as in other runtimes.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from clusters.embedded.runtime.bubblewrap import Box
from clusters.embedded.runtime.errors import TimedOut
from clusters.embedded.runtime.launch import BROUGHT, Launcher
from clusters.embedded.runtime.spawn import Running

_MOST = 16 * 1024 * 1024 - 4096
"""Bytes of output kept, the rest is dropped: the CRI asks for 16 MiB, and the kubelet takes no longer answer."""
_LINGER = 1.0  # seconds that a process left behind may hold the output open after the command ended


class Output(msgspec.Struct, frozen=True):
    """What a command printed and its exit status."""

    stdout: bytes
    stderr: bytes
    status: int


class _Kept(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data[: max(0, _MOST - len(self.data))]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.ended.set()


def entering(
    box: Box, init: int, command: Sequence[str], nsenter: str, launcher: Launcher, *, terminal: bool = False
) -> list[str]:
    """The argument list that runs a command in a container, with its environment, rights and working directory.

    Joining a user namespace gives all capabilities in it; the launcher takes them back. With `terminal`, standard input
    is one and becomes the command's own.
    """
    namespaces = ("--user", "--preserve-credentials", "--mount", "--net", "--pid", "--uts", "--ipc", "--root")
    last = launcher.argv(BROUGHT, box.rights, command, env=box.env, cwd=box.cwd, terminal=terminal)
    return [*box.joining, *launcher.bringing, nsenter, f"--target={init}", *namespaces, "--", *last]


async def run(argv: Sequence[str], seconds: float | None, shown: str) -> Output:
    """Runs an `entering` argument list to its end.

    Args:
        argv: the argument list.
        seconds: how long at most; None for ever.
        shown: the command, for the error.

    Raises:
        TimedOut: it was not done in time, and was killed.
    """
    stdout, stderr = _Kept(), _Kept()
    process = Running(argv)
    try:
        await process.read(stdout, stderr)
        status = await asyncio.wait_for(process.wait(), seconds)
        async with asyncio.timeout(_LINGER):
            await asyncio.gather(stdout.ended.wait(), stderr.ended.wait())
    except TimeoutError:
        if not process.ended:
            raise TimedOut(f"command {shown!r} in the container was not done after {seconds:g} s") from None
    finally:
        process.kill()
        await process.wait()
        process.close()
    return Output(bytes(stdout.data), bytes(stderr.data[: _MOST - len(stdout.data)]), status)
