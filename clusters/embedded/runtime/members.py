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


def namespace(process: int) -> str:
    """Names the mount namespace of a process; "" when it is gone, or is still in this program's own."""
    with contextlib.suppress(OSError):
        found, own = (Path(f"/proc/{pid}/ns/mnt").readlink() for pid in (process, "self"))
        return "" if found == own else str(found)
    return ""


async def kill(mounts: str) -> None:
    """SIGKILL to all processes in a mount namespace, until there is none."""
    while found := [int(path.name) for path in Path("/proc").glob("[0-9]*") if namespace(int(path.name)) == mounts]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_PAUSE)
