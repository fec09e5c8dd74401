"""Poll with a deadline, and say at the end what was seen last.

Place: everything that waits for a cluster uses `until`, and `listens` where it is for a server of this machine.
Limits: polling only; the interval is the latency.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

State = TypeVar("State")


class WaitTimeout(Exception):
    """The deadline passed; the message carries what was waited for and the last state seen."""


def until(
    look: Callable[[], State],
    done: Callable[[State], bool],
    *,
    what: str,
    seconds: float,
    interval: float = 0.05,
    describe: Callable[[State], str] = str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> State:
    """The first state from `look` that is `done`.

    Args:
        look: reads the state; what it raises is passed through.
        done: whether a state ends the wait.
        what: what is waited for, as in "waited 5 s for {what}".
        seconds: how long at most; `look` runs at least once.
        interval: seconds between two looks.
        describe: words for the last state, for the error.
        clock: monotonic seconds.
        sleep: waits that many seconds.

    Raises:
        WaitTimeout: no state was done in time.
    """
    deadline = clock() + seconds
    while not done(state := look()):
        if clock() >= deadline:
            raise WaitTimeout(f"waited {seconds:g} s for {what}; last seen: {describe(state)}")
        sleep(interval)
    return state


def listens(address: Path | tuple[str, int]) -> bool:
    """Whether a server accepts connections on a unix socket, or on a host and port; asked by making one.

    A unix socket is in the file system before its server listens on it, so its file alone tells too early.
    """
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        if isinstance(address, tuple):
            stack.enter_context(socket.create_connection(address, timeout=1))
            return True
        folder = os.open(address.parent, os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.settimeout(1)
        client.connect(f"/proc/self/fd/{folder}/{address.name}")  # the kernel takes no path of more than 107 bytes
        return True
    return False
