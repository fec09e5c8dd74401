"""The system call filter of a container, as a program for seccomp(2).

Place: `plan.py` asks for the default profile, bubblewrap and the launch program put it in force. Limits: x86_64 and
aarch64, and on them no programs for other processors (32-bit ones), whose calls have other numbers.

The table says what container runtimes' default profile says (moby/profiles/seccomp): everything that a program in a
container has no business with is refused, unless a capability of the container stands for it. The profile itself lists
what is allowed; a kernel's calls that are newer than this table do not exist here.
"""

import errno
import platform
import struct
from collections.abc import Collection, Sequence

from clusters.embedded.runtime.errors import Refused

# Name -> number on x86_64 and on aarch64, -1 where it has none; both count alike from 424.
_CALLS = {
    "_sysctl": (156, -1),
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_settime": (227, 112),
    "create_module": (174, -1),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, -1),
    "get_mempolicy": (239, 236),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, -1),
    "iopl": (172, -1),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "query_module": (178, -1),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, -1),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, -1),
    "userfaultfd": (323, 282),
    "ustat": (136, -1),
    "vhangup": (153, 58),
}
# What a capability of the container allows.
_ALLOWS = {
    "CAP_BPF": ("bpf",),
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_PERFMON": ("perf_event_open",),
    "CAP_SYSLOG": ("syslog",),
    "CAP_SYS_ADMIN": (
        "bpf",
        "fanotify_init",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "lookup_dcookie",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_tree",
        "perf_event_open",
        "quotactl",
        "quotactl_fd",
        "setdomainname",
        "sethostname",
        "setns",
        "syslog",
        "umount2",
        "unshare",
    ),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_CHROOT": ("chroot",),
    "CAP_SYS_MODULE": ("delete_module", "finit_module", "init_module"),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYS_TIME": ("clock_settime", "settimeofday"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
}
# Calls that depend on their first argument, and on whether there is CAP_SYS_ADMIN.
_CLONE, _SOCKET, _PERSONALITY, _CLONE3 = (56, 220), (41, 198), (135, 92), (435, 435)
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of clone(2)
_AF_VSOCK = 40
_PERSONALITIES = 0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF  # Linux with and without UNAME26 and 32-bit, and "tell me"
_NEWEST = 466  # removexattrat, Linux 6.13

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH_*, column of the tables
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|J*|K, BPF_RET|K
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000  # SECCOMP_RET_*


def default(capabilities: Collection[str], machine: str = platform.machine()) -> bytes:
    """The default profile for a container with these capabilities: an array of struct sock_filter.

    Args:
        capabilities: their full names.
        machine: the processor, as uname(2) names it.

    Raises:
        Refused: there is no table for this processor.
    """
    if machine not in _ARCHITECTURES:
        raise Refused(
            f"the pod asks for the seccomp profile RuntimeDefault (which is the default); it is known for "
            f"{' and '.join(_ARCHITECTURES)}, and this machine is a {machine}; set seccompProfile to Unconfined"
        )
    architecture, column = _ARCHITECTURES[machine]
    allowed = {name for capability in capabilities for name in _ALLOWS.get(capability, ())}
    refused = [numbers[column] for name, numbers in _CALLS.items() if name not in allowed and numbers[column] >= 0]
    lines = [*_when(_LOAD, _ARCHITECTURE), *_unless(_EQUAL, architecture, _fails(errno.ENOSYS))]
    lines += [*_when(_LOAD, _NUMBER), *_if(_GREATER, _NEWEST, _fails(errno.ENOSYS))]
    for number in refused:
        lines += _if(_EQUAL, number, _fails(errno.EPERM))
    if "CAP_SYS_ADMIN" not in capabilities:
        lines += _if(_EQUAL, _CLONE3[column], _fails(errno.ENOSYS))  # flags in memory, so use clone
        lines += _argument(_CLONE[column], _if(_ANY_BIT, _NEW_NAMESPACES, _fails(errno.EPERM)))
    lines += _argument(_SOCKET[column], _if(_EQUAL, _AF_VSOCK, _fails(errno.EPERM)))
    known = [line for value in _PERSONALITIES for line in _if(_EQUAL, value, _returns(_ALLOW))]
    lines += _argument(_PERSONALITY[column], [*known, *_fails(errno.EPERM)])
    return b"".join(lines + _returns(_ALLOW))


def _when(code: int, value: int, yes: int = 0, no: int = 0) -> list[bytes]:
    """One instruction; a jump skips `yes` or `no` instructions."""
    return [struct.pack("=HBBI", code, yes, no, value)]


def _if(code: int, value: int, then: Sequence[bytes]) -> list[bytes]:
    return [*_when(code, value, no=len(then)), *then]


def _unless(code: int, value: int, then: Sequence[bytes]) -> list[bytes]:
    return [*_when(code, value, yes=len(then)), *then]


def _argument(number: int, then: Sequence[bytes]) -> list[bytes]:
    """For the call `number`: `then` on the lower half of its first argument, and allow it."""
    return _if(_EQUAL, number, [*_when(_LOAD, _ARGUMENT), *then, *_returns(_ALLOW)])


def _returns(action: int) -> list[bytes]:
    return _when(_RETURN, action)


def _fails(error: int) -> list[bytes]:
    return _returns(_ERROR | error)
