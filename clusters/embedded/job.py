"""What a holder is started with, how, and what it tells: the side of it that the host needs.

Place: backend.py starts holders and follows their reports with this; holder.py reads and writes the same. Limits: apart
from holder.py only so that a command need not import what runs inside a cluster, which takes longer than the rest.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from clusters.api import ClusterSpec
from clusters.embedded.cgroups import Limits


class Job(msgspec.Struct, frozen=True):
    """What a holder is started with: paths as text; `door` and `report` are inherited file descriptors."""

    name: str
    state: str
    programs: str
    images: str
    spec: ClusterSpec
    server: str
    door: int
    keep: tuple[str, ...]
    limits: Limits = Limits()
    report: int = -1


class Report(msgspec.Struct, frozen=True):
    """One line from a holder: what it waits for, or that the cluster is ready, or why it is not."""

    say: str | None = None
    ready: bool = False
    error: str | None = None


def holder_argv(job_file: Path, user: Sequence[str]) -> list[str]:
    """Command line that runs a holder in new namespaces; SIGKILL on its first process ends everything in them.

    `user`: from `identities.unshare`.
    """
    namespaces = ["--net", "--mount", "--propagation=private", "--pid", "--ipc", "--uts"]
    into = ["--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *user, *namespaces, *into, sys.executable, "-P", "-m", "clusters.embedded.holder", str(job_file)]


def enter(pid: int, command: Sequence[str], *, root: bool) -> list[str]:
    """Argument list that runs `command` in the network of the holder whose outer process is `pid`."""
    user = [] if root else ["--user", "--preserve-credentials"]
    return ["nsenter", f"--target={pid}", *user, "--net", "--", *command]
