"""Limits of containers where no cgroups can be had: their processes are looked at, and killed when they are too many.

Place: a task of the node's runtime. Limits: memory is what processes have mapped and what lies in the container's root;
shared memory and files in memory that nobody maps are missed, and for up to INTERVAL a container may have more than its
limit. Then all of it is killed, where a cgroup would kill the greatest process or let fork(2) fail.
"""

import asyncio
import contextlib
import logging
import os
from pathlib import Path

from clusters.embedded.runtime.cgroups import PIDS
from clusters.embedded.runtime.container import Container, State
from clusters.embedded.runtime.sandbox import Sandboxes

INTERVAL = 0.2
"""Seconds between two looks; a limit that is exceeded twice over must be noticed within 0.3 s."""

SOON = 0.05
"""Seconds, while a container uses more than half of its limit."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_log = logging.getLogger(__name__)


async def watch(pods: Sandboxes) -> None:
    """Looks at all containers of a node until cancelled."""
    while True:
        running = [each for pod in pods.all() for each in pod.containers.values() if each.state is State.RUNNING]
        shares = [look(container) for container in running]
        await asyncio.sleep(SOON if max(shares, default=0.0) > 0.5 else INTERVAL)


def look(container: Container) -> float:
    """Kills a container that has too much; returns the share of its memory limit that it uses."""
    limit = int(container.config.linux.resources.memory_limit_in_bytes)
    processes = container.processes
    if len(processes) > PIDS:
        _log.warning("container %s has %d processes, %d are allowed; it is killed", container.id, len(processes), PIDS)
        container.end(f"it had {len(processes)} processes; a container may have {PIDS}")
        return 0.0
    if limit <= 0:
        return 0.0
    written = container.in_memory
    used = written + sum(map(resident, processes))
    if used > limit:  # what processes share was counted for each of them; the exact figure takes longer
        used = written + sum(map(proportional, processes))
        if used > limit:
            _log.warning("container %s uses %d bytes of memory, its limit is %d", container.id, used, limit)
            container.end(out_of_memory=True)
    return used / limit


def resident(process: Path) -> int:
    """Bytes of memory that a process has mapped, shared ones too."""
    with contextlib.suppress(OSError):
        return int((process / "statm").read_bytes().split(b" ", 2)[1]) * _PAGE
    return 0  # it has ended


def proportional(process: Path) -> int:
    """Bytes of memory that count for a process, those it shares divided, without files on a disk."""
    with contextlib.suppress(OSError):
        lines = (process / "smaps_rollup").read_text().splitlines()
        table = {words[0]: words[1] for words in map(str.split, lines) if len(words) == 3}
        return (int(table["Pss_Anon:"]) + int(table["Pss_Shmem:"])) * 1024
    return 0
