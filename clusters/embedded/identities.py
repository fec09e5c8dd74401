"""Which user ids a cluster's containers can have: root's, a user's range of subordinate ones, or a single one.

Place: backend.py starts the holder by it and tells it in the traits; state.py removes what such ids own. Limits: a
range needs newuidmap (package uidmap) and 65536 ids for the user in /etc/subuid and /etc/subgid, which `useradd` and
`adduser` give.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from clusters.embedded.runtime.namespaces import users
from clusters.process import CommandFailed, run

Users = Literal["real", "mapped"]
_OWN = ("--user", "--map-root-user")
_RANGE = (*_OWN, "--map-auto")


def kind(*, root: bool, run: Callable[[list[str]], str] = run) -> Users:
    """Whether containers have ids of their own ("real"), or one id stands for all of them; found out by trying."""
    if root:
        return users(Path("/proc/self/uid_map").read_text())
    try:
        return users(run(["unshare", *_RANGE, "cat", "/proc/self/uid_map"]))
    except CommandFailed:
        return "mapped"


def unshare(found: Users, *, root: bool) -> list[str]:
    """What makes the user namespace of a cluster, for the program of that name; nothing for root, who needs none."""
    if root:
        return []
    return list(_RANGE if found == "real" else _OWN)


def remove(folder: Path) -> None:
    """Removes a folder in which files belong to subordinate ids of this user.

    Raises:
        CommandFailed: there are files of others, too.
    """
    run(["unshare", *_RANGE, "rm", "-rf", "--", str(folder)], cwd=Path("/"), env={"PATH": os.defpath})
