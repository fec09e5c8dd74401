"""The cgroup of a container: made and limited, joined by its processes, asked what they used, removed.

Place: `services.py` makes one for each container when the cluster has cgroups (`clusters.embedded.cgroups`), below one
for its pod; `container.py` and `execute.py` start processes in it by the words of `joining`. Limits: hugepages, block
devices and cpusets are not limited; of a pod only the number of its processes is.
"""

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from clusters.embedded import cgroups
from clusters.embedded.cgroups import Limits
from clusters.embedded.protos import Message
from clusters.embedded.runtime import usage
from clusters.embedded.runtime.errors import Refused
from clusters.embedded.runtime.usage import Usage

PIDS = 1024
"""Processes and threads that a pod may have; CRI-O's default for a container."""

PERIOD = 100_000
"""Microseconds of the processor quota where the kubelet names none."""


class Group:
    """The cgroup of one container."""

    def __init__(self, limits: Limits, pod: str, container: str) -> None:
        """Makes it.

        Args:
            limits: of the cluster, by cgroups.
            pod: its uid.
            container: its id.
        """
        self._version = limits.kind
        self._pods = {name: Path(folder) / f"pod{pod}" for name, folder in limits.folders.items()}
        self.folders = {name: folder / container for name, folder in self._pods.items()}
        for folder in self._pods.values():
            folder.mkdir(exist_ok=True)
            if self._version == "cgroup-v2":
                cgroups.delegate(folder)
        (self._pods["pids"] / "pids.max").write_text(str(PIDS))
        for folder in self.folders.values():
            folder.mkdir(exist_ok=True)

    @property
    def places(self) -> list[tuple[str, str]]:
        """Folder, and where the container sees it, for each of its controllers."""
        if self._version == "cgroup-v2":
            return [(str(self.folders["memory"]), "/sys/fs/cgroup")]
        return [(str(folder), f"/sys/fs/cgroup/{name}") for name, folder in self.folders.items()]

    @property
    def entrances(self) -> list[Path]:
        """The files to which a process writes that joins it."""
        return [folder / "cgroup.procs" for folder in dict.fromkeys(self.folders.values())]

    def limit(self, resources: Message) -> None:
        """Sets the limits of the CRI's LinuxContainerResources.

        Raises:
            Refused: the kernel does not take one, as less memory than is in use.
        """
        for path, value in settings(self._version, resources):
            file = self.folders[path.partition(".")[0]] / path
            try:
                file.write_text(value)
            except FileNotFoundError:
                if "swap" not in path and "memsw" not in path:  # kernels count swap only where they are built to
                    raise
            except OSError as error:
                raise Refused(
                    f"the limit {path} of a container cannot be set to {value}: {error.strerror}; a limit of memory "
                    "must be above what is in use"
                ) from error

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of it for want of memory."""
        name = "memory.oom_control" if self._version == "cgroup-v1" else "memory.events"
        try:
            lines = (self.folders["memory"] / name).read_text().splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)

    def usage(self) -> Usage | None:
        """What its processes have used; None when it is gone."""
        assert self._version != "watch", "there are no cgroups to watch"
        try:
            return usage.cgroup(self.folders, self._version)
        except OSError:
            return None

    def remove(self) -> None:
        """Removes it, and its pod's when it was the last; one that has processes stays for the end of the cluster."""
        for folder in dict.fromkeys([*self.folders.values(), *self._pods.values()]):
            with contextlib.suppress(OSError):
                folder.rmdir()


def settings(version: str, resources: Message) -> list[tuple[str, str]]:
    """File and text for each limit, in the order in which they are to be written; what is not asked is no limit."""
    period = resources.cpu_period or PERIOD
    quota, memory, shares = resources.cpu_quota, resources.memory_limit_in_bytes, resources.cpu_shares or 2
    if version == "cgroup-v1":
        bytes_ = str(memory) if memory > 0 else "-1"
        return [
            # Memory and swap together must stay above memory, whichever way this goes.
            ("memory.memsw.limit_in_bytes", "-1"),
            ("memory.limit_in_bytes", bytes_),
            ("memory.memsw.limit_in_bytes", bytes_),
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.cfs_period_us", str(period)),
            ("cpu.cfs_quota_us", str(quota) if quota > 0 else "-1"),
            ("cpu.shares", str(shares)),
        ]
    unified = dict(resources.unified)
    return [
        ("memory.max", str(memory) if memory > 0 else "max"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", unified.get("memory.oom.group", "0")),
        ("cpu.max", f"{quota if quota > 0 else 'max'} {period}"),
        ("cpu.weight", str(weight(shares))),
    ]


def weight(shares: int) -> int:
    """The cpu.weight of v2 that stands for cpu.shares of v1, as runc had it when Kubernetes took up v2 (KEP 2254)."""
    return 1 + (min(max(shares, 2), 262_144) - 2) * 9999 // 262_142


def joining(entrances: Sequence[Path], oom_score: int) -> tuple[str, ...]:
    """The argument list before a program that shall run in a cgroup, with this oom_score_adj (proc(5)) where it may."""
    script = "".join(f"echo 0 > {shlex.quote(str(path))} || exit 126; " for path in entrances)
    if oom_score:  # only the machine's root may lower it
        script += f"{{ echo {oom_score} > /proc/self/oom_score_adj; }} 2> /dev/null; "
    return ("/bin/sh", "-c", f'{script}exec "$@"', "sh") if script else ()
