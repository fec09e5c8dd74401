"""Servers of this machine: whether one listens, and unix sockets by paths of any length.

Place: who starts a server waits with `listens`; the holder's control socket is made and found by `short`.
Limits: Linux, for /proc.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """A path of a socket that has fewer than the 108 bytes that the kernel takes, wherever its folder is.

    Raises:
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def listens(address: Path | tuple[str, int]) -> bool:
    """Whether a server accepts connections on a unix socket, or on a host and port; asked by making one.

    A unix socket is in the file system before its server listens on it, so its file alone tells too early.
    """
    with contextlib.suppress(OSError):
        if isinstance(address, tuple):
            socket.create_connection(address, timeout=1).close()
            return True
        with short(address) as name, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(name)
            return True
    return False
