"""The processes of a container that has no PID namespace of its own, found by its mount namespace.

Place: `container.py`, for pods whose containers share their processes, and for containers that look at another's.
Limits: a process that leaves the mount namespace (unshare --mount, which needs CAP_SYS_ADMIN) is found no more; it ends
with its pod.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

_PAUSE = 0.001  # seconds between two looks


def namespace(process: Path) -> str:
    """Names the mount namespace of the process with this folder in /proc; "" when it is gone, or in our own."""
    with contextlib.suppress(OSError):
        found, own = (folder.joinpath("ns/mnt").readlink() for folder in (process, Path("/proc/self")))
        return "" if found == own else str(found)
    return ""


async def kill(mounts: str) -> None:
    """SIGKILL to all processes in a mount namespace, until there is none."""
    while found := [int(path.name) for path in Path("/proc").glob("[0-9]*") if namespace(path) == mounts]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_PAUSE)
