"""What the processes of a container have used, from the container's own /proc.

Place: GPU telemetry asks for it. Limits: the time of a process that ended without being waited for is lost; memory that
processes share counts for each of them.
"""

import os
from pathlib import Path

from clusters.embedded.gpu.attribution import Holder
from clusters.embedded.gpu.telemetry import Usage
from clusters.embedded.runtime.container import Container, State
from clusters.embedded.runtime.sandbox import Sandboxes

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def usage(container: Container) -> Usage | None:
    """What a container has used; None when it does not run."""
    if container.init is None:
        return None
    ticks = pages = 0
    for process in Path(f"/proc/{container.init}/root/proc").glob("[0-9]*"):  # house: the kernel's name for a root
        try:
            after_name = (process / "stat").read_text().rpartition(")")[2].split()
            pages += int((process / "statm").read_text().split()[1])
        except (OSError, IndexError):  # it has ended
            continue
        ticks += sum(map(int, after_name[11:15]))  # utime, stime, cutime and cstime of proc(5)
    return Usage(container.id, ticks / _TICKS, pages * _PAGE, cores(container))


def held(pods: Sandboxes, holder: Holder) -> Usage | None:
    """What the container of a pod has used; None when it does not run."""
    for pod in pods.all():
        about = pod.config.metadata
        if (about.namespace, about.name) == (holder.namespace, holder.pod):
            for container in pod.containers.values():
                if container.config.metadata.name == holder.container and container.state is State.RUNNING:
                    return usage(container)
    return None


def cores(container: Container) -> float:
    """How many processors it may use: its limit, else all that this machine gives."""
    resources = container.config.linux.resources
    available = float(len(os.sched_getaffinity(0)))
    if resources.cpu_quota > 0 and resources.cpu_period > 0:
        return min(available, float(resources.cpu_quota / resources.cpu_period))
    return available
