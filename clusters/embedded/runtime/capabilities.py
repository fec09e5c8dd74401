"""Which Linux capabilities a container holds, in the user namespace of its own.

Place: `plan.py` asks. Limits: they never reach beyond the container's own namespace, so NET_ADMIN and the like are held
but have nothing to act on.
"""

from collections.abc import Sequence

DEFAULT = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What container runtimes grant when nothing is asked (containerd, pkg/oci, `populateDefaultUnixSpec`)."""

ALL = (
    *DEFAULT,
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_BLOCK_SUSPEND",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_NET_ADMIN",
    "CAP_NET_BROADCAST",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
)
"""capabilities(7) as of Linux 3.16; newer ones (PERFMON, BPF, CHECKPOINT_RESTORE) are split off SYS_ADMIN."""


def granted(uid: int, add: Sequence[str], drop: Sequence[str]) -> tuple[str, ...]:
    """The capabilities of a container's process, sorted: the default set as its securityContext changes it.

    "ALL" first takes or gives everything, then single names are added, then dropped. A process that is not user 0 holds
    none, as with every runtime that sets no ambient capabilities.
    """
    if uid != 0:
        return ()
    adds, drops = {_full(name) for name in add}, {_full(name) for name in drop}
    held = set() if "CAP_ALL" in drops else set(DEFAULT)
    if "CAP_ALL" in adds:
        held = set(ALL)
    return tuple(sorted((held | adds) - drops - {"CAP_ALL"}))


def _full(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"
