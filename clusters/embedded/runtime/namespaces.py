"""A pod's own namespaces: user, network, IPC and UTS, which its containers share.

Place: `sandbox.py` makes them, `container.py` starts containers in them. They are held by open descriptors of this
process and need none of their own: with the runtime they go. Limits: a user namespace maps to themselves the ids that
the runtime has, so that files have the same owners on both sides.

The containers' mount and PID namespaces belong to the user namespace around it. So all capabilities in a pod give power
over its network, its IPC objects and its host name, but not over a mount: what is read-only or covered stays so, and no
user namespace can be made below to change that (its max_user_namespaces is 0).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from clusters.process import Child, CommandFailed

KINDS = ("user", "net", "ipc", "uts")
_IDS = 65535  # of the range that images and pods use; nobody is 65534

# $1: descriptor to wait on, $2: host name, $3: commands for ip, $4: ip; then pairs of file and value.
_SETTLE = """
echo; read -r go < "/proc/self/fd/$1" || exit 1
hostname "$2" && echo 0 > /proc/sys/user/max_user_namespaces || exit 1
commands=$3 ip=$4; shift 4
while [ $# -gt 1 ]; do echo "$2" > "$1" || exit 1; shift 2; done
[ -z "$commands" ] || "$ip" -batch - <<END || exit 1
$commands
END
echo ready
"""


class Namespaces:
    """The namespaces of one pod; those that it shares with the node are not among them."""

    def __init__(self, descriptors: Mapping[str, int]) -> None:
        """`descriptors`: open files of /proc/PID/ns by KINDS; this object closes them."""
        self._descriptors = dict(descriptors)

    @property
    def user(self) -> int:
        """Descriptor of the user namespace."""
        return self._descriptors["user"]

    def path(self, kind: str) -> str | None:
        """Where a program of this node finds one; None when it is the node's own."""
        number = self._descriptors.get(kind)
        return None if number is None else f"/proc/{os.getpid()}/fd/{number}"

    def entering(self, nsenter: str, *options: str) -> list[str]:
        """The argument list, with `options`, before a command that runs in them except for the user namespace."""
        own = (f"--{kind}={self.path(kind)}" for kind in self._descriptors if kind != "user")
        return [nsenter, *own, *options, "--"]

    def close(self) -> None:
        """Lets go of them."""
        for number in self._descriptors.values():
            os.close(number)
        self._descriptors.clear()


def identity(id_map: str) -> str:
    """A map for a user namespace in which the ids of the one with `id_map` (user_namespaces(7)) mean themselves."""
    ranges = [line.split() for line in id_map.splitlines()]
    return "".join(f"{first} {first} {count}\n" for first, _, count in ranges)


def users(id_map: str) -> Literal["real", "mapped"]:
    """Whether containers can have ids of their own where the runtime has these; the trait of that name."""
    return "real" if sum(int(line.split()[2]) for line in id_map.splitlines()) > _IDS else "mapped"


def make(
    hostname: str,
    settings: Mapping[str, str],
    *,
    shared: Sequence[str],
    attach: Callable[[int], None],
    commands: str,
    programs: Mapping[str, str],
) -> Namespaces:
    """Makes the namespaces of a pod.

    Args:
        hostname: its host name.
        settings: file -> value, written in them.
        shared: the KINDS which the pod shares with its node.
        attach: called with the id of a process in them.
        commands: for `ip -batch`, run in them afterwards.
        programs: paths of unshare and ip.

    Raises:
        CommandFailed: the kernel refused; nothing is left behind.
    """
    kinds = [kind for kind in KINDS if kind not in shared]
    waits, goes = os.pipe()
    reading, writing = os.pipe()
    argv = [programs["unshare"], "--keep-caps", *(f"--{kind}" for kind in kinds), "--", "sh", "-c", _SETTLE, "sh"]
    argv += [str(waits), hostname, commands, programs["ip"], *(word for pair in settings.items() for word in pair)]
    with os.fdopen(reading, "rb") as said, os.fdopen(goes, "wb", 0) as go:
        try:
            with os.fdopen(writing, "wb") as sink:
                child = Child(argv, log=sink, pass_fds=(waits,), detached=True)
        finally:
            os.close(waits)
        made = Namespaces({})
        try:
            output = said.readline()
            if output == b"\n":
                made = _hold(child.pid, kinds)
                attach(child.pid)
                go.write(b"go\n")
            output += said.read()
            _expect_ready(output, child)
        except BaseException:
            made.close()
            raise
        finally:
            child.stop(0)
    return made


def _expect_ready(output: bytes, child: Child) -> None:
    if output != b"\nready\n":
        raise CommandFailed(child.argv[:1], child.wait() or 1, output.decode(errors="replace"))


def _hold(pid: int, kinds: Sequence[str]) -> Namespaces:
    """The namespaces of a process, its user namespace mapped."""
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(identity(Path(f"/proc/self/{name}").read_text()))
    return Namespaces({kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in kinds})
