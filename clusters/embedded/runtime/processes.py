"""What GPU telemetry asks of containers: what the one that holds a device has used.

Place: `server.py` gives it to `gpus.py`. Limits: those of `runtime/usage.py`.
"""

import os

from clusters.embedded.gpu.attribution import Holder
from clusters.embedded.gpu.telemetry import Usage
from clusters.embedded.runtime.container import Container, State
from clusters.embedded.runtime.sandbox import Sandboxes


def usage(container: Container) -> Usage | None:
    """What a container has used; None when it does not run."""
    found = container.usage()
    if found is None:
        return None
    return Usage(container.id, found.cpu_ns / 1e9, found.working_set, cores(container))


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
