"""What a container's securityContext means here: rights, system call filter, guarded paths, and what is refused.

Place: `plan.py` asks. Limits: AppArmor and SELinux are not applied; seccomp knows the runtime's default profile only.

A privileged container holds all capabilities of its pod's user namespace and has no filter. It gets no device of the
machine, and what it could harm the machine by stays read-only (`GUARDED`): user 0 in there owns the files of the
machine's root where root runs the cluster.
"""

from pathlib import Path
from typing import Literal

from clusters.embedded.protos import Message
from clusters.embedded.runtime import seccomp
from clusters.embedded.runtime.accounts import Account
from clusters.embedded.runtime.capabilities import NUMBERS, granted
from clusters.embedded.runtime.errors import Refused
from clusters.embedded.runtime.launch import Rights

GUARDED = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/scsi", "/proc/sys", "/proc/sysrq-trigger")
"""What can be written by the machine's root and acts on the whole machine."""
_RUNTIME_DEFAULT, _LOCALHOST = 0, 2  # SecurityProfile.ProfileType of the CRI


def rights(name: str, security: Message, who: Account, users: Literal["real", "mapped"]) -> Rights:
    """What a container that runs as `who` may do.

    Raises:
        Refused: it names a seccomp profile of the node's, or this machine has no default one.
    """
    change = security.capabilities
    held = NUMBERS if security.privileged else granted(change.add_capabilities, change.drop_capabilities)
    return Rights(
        uid=who.uid,
        gid=who.gid,
        groups=who.groups if users == "real" else None,
        capabilities=tuple(held),
        filter=_filter(name, security, tuple(held)),
    )


def mapped(name: str, rights: Rights, users: Literal["real", "mapped"], *, shares: bool) -> bool:
    """Whether a container needs a user namespace of its own, for ids that only stand for the one there is.

    Raises:
        Refused: it does, and `shares` processes with others: it could not see them, for they belong to the one around.
    """
    if users == "real" or (rights.uid, rights.gid) == (0, 0):
        return False
    if shares:
        raise Refused(
            f"container {name!r} runs as user {rights.uid} and group {rights.gid} among the processes of others "
            "(shareProcessNamespace or kubectl debug --target); an ordinary user's cluster needs a range of "
            "subordinate ids for that (`gpulab doctor` tells), so run it as user 0"
        )
    return True


def read_only(security: Message) -> tuple[str, ...]:
    """The paths that cannot be written, `GUARDED` whatever the pod asks."""
    return tuple(dict.fromkeys([*security.readonly_paths, *GUARDED]))


def masked(security: Message) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files and the folders that read as nothing, of those that this machine has."""
    paths = [Path(path) for path in security.masked_paths]
    return tuple(str(each) for each in paths if each.is_file()), tuple(str(each) for each in paths if each.is_dir())


def _filter(name: str, security: Message, capabilities: tuple[str, ...]) -> bytes:
    if security.privileged or not security.HasField("seccomp"):
        return b""
    if security.seccomp.profile_type == _LOCALHOST:
        raise Refused(
            f"container {name!r} asks for its node's seccomp profile {security.seccomp.localhost_ref!r} (Localhost); "
            "the embedded cluster's nodes have none, so use RuntimeDefault or --cluster kind"
        )
    return seccomp.default(capabilities) if security.seccomp.profile_type == _RUNTIME_DEFAULT else b""
