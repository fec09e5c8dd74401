"""The argument list of bubblewrap for a container.

Place: `plan.py` fills in a Box, `container.py` runs bubblewrap with its arguments. Limits: pure but for `system`, which
looks at the machine, and `shown`; what it does not isolate: CPU, memory and system calls. It leaves all capabilities of
the pod's user namespace to the launch program behind it, which takes on the container's rights (`launch.py`).

A container's root is a layer of its own (`layer.py`); where the kernel refuses one, an empty tmpfs with the machine's
system in it, read-only. `/proc/sys` needs a read-only bind of
its own: bubblewrap leaves it alone, and to a container that root started the kernel would let it write there as root.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from clusters.embedded.runtime.launch import Rights

TOP = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "mime.types",
    "os-release",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
)
FOLDERS = ("/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/var", "/var/cache", "/var/lib", "/var/log")
OPEN_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 - folders inside the container


class Mount(msgspec.Struct, frozen=True):
    """A host file or folder at an absolute path of the container."""

    source: str
    target: str
    read_only: bool


class Box(msgspec.Struct, frozen=True):
    """What is around a container's process.

    `root` is the folder that is its root, "" for an empty one; `system` are arguments for what is put into it. `env` is
    all of its environment. `mapped`: it needs a user namespace of its own, in which its ids stand for the one that the
    runtime has. Masked paths, which must exist, read as nothing; `read_only` paths, which need not, cannot be written.
    `joining` goes before a program that is to be under its limits. `cgroups`: where the container sees which folder of
    its own; None leaves it the machine's. `sys` becomes its /sys.
    """

    rights: Rights
    env: dict[str, str]
    mounts: tuple[Mount, ...]
    system: tuple[str, ...] = ()
    devices: tuple[tuple[str, str], ...] = ()
    masked_files: tuple[str, ...] = ()
    masked_folders: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    read_only_root: bool = False
    mapped: bool = False
    cwd: str = "/"
    root: str = ""
    joining: tuple[str, ...] = ()
    cgroups: tuple[Mount, ...] | None = None
    sys: str = "/sys"


def programs(root: Path = Path("/")) -> tuple[str, ...]:
    """The arguments that put the machine's programs and libraries into a root of `base.py`, read-only."""
    places = {name: root / name for name in TOP}
    shown = [(str(place), f"/{name}") for name, place in places.items() if place.is_dir() and not place.is_symlink()]
    return tuple(word for source, target in shown for word in ("--ro-bind", source, target))


def system(root: Path = Path("/")) -> tuple[str, ...]:
    """The arguments that put the machine's programs and libraries into an empty root, read-only.

    Links such as /bin -> usr/bin stay links, so merged and unmerged systems both work.
    """
    arguments: list[str] = []
    for name in TOP:
        place = root / name
        if place.is_symlink():
            arguments += ["--symlink", str(place.readlink()), f"/{name}"]
        elif place.is_dir():
            arguments += ["--ro-bind", str(place), f"/{name}"]
    arguments += ["--dir", "/etc"]
    for name in ETC:
        place = root / "etc" / name
        if place.exists():
            arguments += ["--ro-bind", str(place), f"/etc/{name}"]
    return tuple(arguments)


def elsewhere(box: Box, at: Mapping[str, str]) -> Box:
    """The box with other paths for the sources that `at` names."""
    mounts = tuple(msgspec.structs.replace(each, source=at.get(each.source, each.source)) for each in box.mounts)
    devices = tuple((at.get(source, source), target) for source, target in box.devices)
    return msgspec.structs.replace(box, mounts=mounts, devices=devices)


def shown(files: Mapping[str, str], folder: Path) -> list[Mount]:
    """Writes the texts of files at absolute paths of a container into `folder`, and the mounts that put them there."""
    mounts = []
    for path, text in files.items():
        source = folder / path[1:].replace("/", "-")
        source.write_text(text)
        mounts.append(Mount(str(source), path, read_only=True))
    return mounts


def normal(path: str) -> str:
    """A container's path without "..", and without the link from /var/run to /run, which bubblewrap does not follow."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    if parts[:2] == ["var", "run"]:
        parts = parts[1:]
    return "/" + "/".join(parts)


def arguments(box: Box, user: int, beside: int | None = None) -> list[str]:
    """The options for bubblewrap, without its name and without the container's program.

    `user` is a descriptor of the pod's user namespace, `beside` one of the PID namespace to join, if not a new one.
    """
    processes = ["--unshare-pid"] if beside is None else ["--pidns", str(beside)]
    return ["--die-with-parent", "--new-session", *processes, *_user(box, user), *_tree(box)]


def _user(box: Box, user: int) -> list[str]:
    """The program's user namespace; the mounts belong to the one around it, so that nothing in it can undo them."""
    if not box.mapped:
        return ["--userns2", str(user)]
    return ["--unshare-user", "--disable-userns", "--uid", str(box.rights.uid), "--gid", str(box.rights.gid)]


def _way_to(path: str) -> list[str]:
    """The folders above a path, for every user to pass: bubblewrap itself makes them for their owner alone."""
    return [word for folder in reversed(PurePosixPath(path).parents[:-1]) for word in ("--dir", str(folder))]


def _tree(box: Box) -> list[str]:
    words = ["--bind", box.root, "/", *box.system] if box.root else _empty_root(box.system)
    words += ["--ro-bind", box.sys, "/sys", "--dev", "/dev", "--proc", "/proc"]
    words += ["--ro-bind", "/proc/sys", "/proc/sys", *_cgroups(box)]
    words += [] if box.mapped else ["--mqueue", "/dev/mqueue"]  # the user namespace around owns the IPC namespace
    for source, target in box.devices:
        words += [*_way_to(target), "--dev-bind", source, target]
    for path in box.read_only:
        words += ["--ro-bind-try", path, path] if path not in {"/proc/sys", *box.masked_folders} else []
    for mount in sorted(box.mounts, key=lambda mount: mount.target.count("/")):
        words += [*_way_to(mount.target), "--ro-bind" if mount.read_only else "--bind", mount.source, mount.target]
    for path in box.masked_files:
        words += ["--ro-bind", "/dev/null", path]
    for path in box.masked_folders:
        words += ["--tmpfs", path, "--remount-ro", path]
    words += ["--dir", box.cwd] if box.cwd != "/" else []
    return words + (["--remount-ro", "/"] if box.read_only_root else [])


def _empty_root(system: Sequence[str]) -> list[str]:
    words = ["--tmpfs", "/", *system]
    for folder in FOLDERS:
        words += ["--dir", folder]
    for folder in OPEN_FOLDERS:
        words += ["--perms", "1777", "--dir", folder]
    return [*words, "--symlink", "/run", "/var/run"]


def _cgroups(box: Box) -> list[str]:
    """The container's own cgroups in place of the machine's, read-only."""
    if box.cgroups is None:
        return []
    binds = [word for mount in box.cgroups for word in ("--ro-bind", mount.source, mount.target)]
    return ["--tmpfs", "/sys/fs/cgroup", *binds, "--remount-ro", "/sys/fs/cgroup"]
