"""Which Linux capabilities a container holds, in the user namespace of its pod.

Place: `plan.py` asks, `launch.py` needs their numbers. Limits: they never reach beyond the pod's own namespaces:
NET_ADMIN acts on the pod's network, SYS_ADMIN on its host name, neither on a mount or a device.
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

NUMBERS = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""All capabilities in the order of their numbers (linux/capability.h), of Linux 5.9 and later."""


def mask(capabilities: Sequence[str]) -> int:
    """A bit for each capability; a name that no kernel has counts for nothing, as it holds nothing."""
    return sum(1 << NUMBERS.index(name) for name in set(capabilities) if name in NUMBERS)


def granted(add: Sequence[str], drop: Sequence[str]) -> tuple[str, ...]:
    """The capabilities of a container's process, sorted: the default set as its securityContext changes it.

    "ALL" first takes or gives everything, then single names are added, then dropped. They bound what user 0 holds; a
    process of another user holds none, as with every runtime that sets no ambient capabilities.
    """
    adds, drops = {_full(name) for name in add}, {_full(name) for name in drop}
    held = set() if "CAP_ALL" in drops else set(DEFAULT)
    if "CAP_ALL" in adds:
        held = set(NUMBERS)
    return tuple(sorted((held | adds) - drops - {"CAP_ALL"}))


def _full(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"
