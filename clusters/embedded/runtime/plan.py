"""From what the kubelet asks for a container to what is run: program, environment, volumes, rights.

Place: `server.py` plans when a container is created, `container.py` runs the plan. Limits: what cannot be given is
refused by name, except what the cluster's traits list as not enforced.
"""

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from clusters.embedded.protos import Message
from clusters.embedded.runtime import bubblewrap, security, terminal
from clusters.embedded.runtime.accounts import account
from clusters.embedded.runtime.bubblewrap import Box, Mount
from clusters.embedded.runtime.errors import Refused
from clusters.embedded.runtime.images import Image
from clusters.embedded.runtime.layer import inside

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BIDIRECTIONAL = 2  # MountPropagation of the CRI
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"


class Plan(msgspec.Struct, frozen=True):
    """What a container runs, in which box; `files` are the texts that it finds at these paths."""

    box: Box
    command: tuple[str, ...]
    stop_signal: int
    files: dict[str, str]


class Surroundings(msgspec.Struct, frozen=True):
    """What a container's pod and node give it.

    `folder`: the container's own. `files`: container path -> text, the same for all containers of the pod.
    `shm`: the pod's shared memory. `roots`: folders below which the kubelet's own mounts lie. `host_paths`: what
    cluster.yaml allows beside them.
    `users`: as in the cluster's traits, whether a container's ids are its own or one mapped id stands behind them.
    `shares_processes`: whether it joins the PID namespace of others.
    `joining`, `cgroups` and `sys`: as in Box.
    """

    hostname: str
    folder: Path
    files: dict[str, str]
    shm: Path
    roots: tuple[Path, ...]
    host_paths: tuple[Path, ...]
    image_volumes: dict[str, Image]
    users: Literal["real", "mapped"]
    shares_processes: bool = False
    joining: tuple[str, ...] = ()
    cgroups: tuple[Mount, ...] | None = None
    sys: str = "/sys"


def plan(config: Message, image: Image, around: Surroundings) -> Plan:
    """What to run for a container.

    Raises:
        Refused: it asks for something that the runtime does not offer or allow.
    """
    name = config.metadata.name
    security_context = config.linux.security_context
    who = account(name, security_context, image)
    rights = security.rights(name, security_context, who, around.users)
    masked_files, masked_folders = security.masked(security_context)
    files = {path: text for path, text in _files(who.uid, who.gid).items() if not _has(image, path)} | around.files
    own = [Mount(str(around.shm), "/dev/shm", read_only=False)]  # noqa: S108 - a folder inside the container
    own += [Mount(bind.source, bind.target, read_only=True) for bind in image.binds]
    own = [msgspec.structs.replace(mount, target=_target(image, mount.target)) for mount in own]
    envs = {item.key: os.fsdecode(item.value) for item in config.envs}
    asked = [
        image_volume(name, mount, image, around.image_volumes)
        if mount.image.image
        else volume(name, mount, image, around.roots, around.host_paths)
        for mount in config.mounts
    ]
    refuse_ways_out(name, asked)
    taken = {mount.target for mount in asked}
    box = Box(
        rights=rights,
        env=terminal_type(config) | environment(image.env, envs, around.hostname, who.uid, who.home),
        mounts=tuple([mount for mount in own if mount.target not in taken] + asked),
        devices=devices(config, around.folder),
        masked_files=masked_files,
        masked_folders=masked_folders,
        read_only=security.read_only(security_context),
        read_only_root=security_context.readonly_rootfs,
        mapped=security.mapped(name, rights, around.users, shares=around.shares_processes),
        cwd=bubblewrap.normal(config.working_dir or image.working_dir),
        root=image.root,
        joining=around.joining,
        cgroups=around.cgroups,
        sys=around.sys,
    )
    command = program(name, config.command, config.args, image)
    words = [*bubblewrap.arguments(box, 0), *box.env, *box.env.values(), *command, box.cwd]
    if any("\0" in word for word in words):  # it would end a word of an argument list
        raise Refused(
            f"container {name!r} has a NUL character in its command, environment, mounts or working directory; "
            "remove it"
        )
    placed = {_target(image, path): text for path, text in files.items()}
    return Plan(box, command, stop_signal(config.stop_signal, config), placed)


def program(container: str, command: Sequence[str], args: Sequence[str], image: Image) -> tuple[str, ...]:
    """The argument list: `command` and `args` of the pod in place of the image's entry point and command.

    A pod's command alone also replaces the image's command, as the Kubernetes documentation says.

    Raises:
        Refused: neither the pod nor the image names a program.
    """
    rest = list(args) or ([] if command else list(image.command))
    words = (list(command) or list(image.entrypoint)) + rest
    if not words:
        raise Refused(
            f"container {container!r} has nothing to run: the image {image.reference} has no entry point; "
            "give the container a command"
        )
    return tuple(words)


def environment(image: dict[str, str], pod: dict[str, str], hostname: str, uid: int, home: str = "") -> dict[str, str]:
    """All variables of a container: the image's, then the pod's; PATH, HOME and HOSTNAME where neither sets them."""
    defaults = {"PATH": _PATH, "HOSTNAME": hostname, "HOME": home or ("/root" if uid == 0 else "/")}
    return defaults | image | pod


def terminal_type(config: Message) -> dict[str, str]:
    """The variable that a container with a terminal has unless its image or its pod sets it."""
    return {"TERM": "xterm"} if config.tty else {}


def image_volume(container: str, mount: Message, image: Image, known: Mapping[str, Image]) -> Mount:
    """A mount of the root folder of another image, or of what `image_sub_path` names in it, read-only.

    Raises:
        Refused: that image has no root folder of its own, or no such path in it.
    """
    source, target = known.get(mount.image.image), _target(image, mount.container_path)
    if source is None or not source.root:
        raise Refused(
            f"container {container!r} mounts the image {mount.image.user_specified_image or mount.image.image} at "
            f"{target}, which has no root folder of its own; add one with a root, see `gpulab up --images`"
        )
    path = source.root + inside(Path(source.root), mount.image_sub_path)
    if not Path(path).exists():
        raise Refused(
            f"container {container!r} mounts {mount.image_sub_path} of the image {source.reference} at {target}, "
            "which is not in it"
        )
    return Mount(path, target, read_only=True)


def volume(container: str, mount: Message, image: Image, roots: Iterable[Path], host_paths: Iterable[Path]) -> Mount:
    """A mount that the kubelet asks for, with the real paths of its source and, in the image's root, of its target.

    Raises:
        Refused: the source is a host folder that cluster.yaml does not allow, is not there, or the target cannot be.
    """
    target = _target(image, mount.container_path)
    source, allowed = Path(mount.host_path).resolve(), tuple(host_paths)
    if not any(source.is_relative_to(root.resolve()) for root in (*roots, *allowed)):
        listed = ", ".join(map(str, allowed)) or "empty"
        raise Refused(
            f"container {container!r} mounts the host folder {mount.host_path} (hostPath), which this cluster does not "
            f"allow; add it to hostPaths in cluster.yaml (now: {listed}) and start the cluster again"
        )
    if not source.exists():
        raise Refused(f"container {container!r} mounts the host folder {mount.host_path}, which does not exist")
    top = target.split("/")[1]
    if not top:
        raise Refused(f"container {container!r} mounts a volume at /; mount it at a folder below")
    if top == "proc":
        raise Refused(
            f"container {container!r} mounts a volume at {target}; a container's /proc is the kernel's own, so choose "
            "another mountPath"
        )
    if top in ({"sys"} if image.root else {"usr", "sys"}) and not Path(target).exists():
        raise Refused(
            f"container {container!r} mounts a volume at {target}; /{top} is the machine's own, read-only, and has no "
            "such folder, so choose another mountPath"
        )
    if mount.propagation == _BIDIRECTIONAL:
        raise Refused(
            f"container {container!r} mounts {target} with mountPropagation Bidirectional; no container makes mounts "
            "for its node here, so leave it out or use --cluster kind"
        )
    return Mount(str(source), target, read_only=mount.readonly)


def refuse_ways_out(container: str, mounts: Sequence[Mount]) -> None:
    """Raises Refused when a volume would be mounted through a link in another volume that leads out of that one.

    The mounts are made with the rights of the node, which would follow it.
    """
    for inner in mounts:
        around = [outer for outer in mounts if inner.target.startswith(f"{outer.target}/")]
        for outer in sorted(around, key=lambda mount: mount.target.count("/"))[-1:]:
            place = Path(outer.source) / inner.target.removeprefix(f"{outer.target}/")
            if not place.resolve().is_relative_to(Path(outer.source).resolve()):
                raise Refused(
                    f"container {container!r} mounts a volume at {inner.target}; the volume at {outer.target} has a "
                    "link there that leads out of it, so remove the link or choose another mountPath"
                )


def devices(config: Message, folder: Path) -> tuple[tuple[str, str], ...]:
    """What a container gets in /dev, source and target: its devices, and the terminals in its `folder` when it asks."""
    asked = [(device.host_path, device.container_path) for device in config.devices]
    return tuple(asked + ([(str(folder / terminal.FOLDER), "/dev/pts")] if config.tty else []))


def stop_signal(number: int, config: Message) -> int:
    """The signal that asks a container to end, from the CRI's Signal: SIGTERM unless the pod names another."""
    if not number:
        return signal.SIGTERM
    name = config.DESCRIPTOR.fields_by_name["stop_signal"].enum_type.values_by_number[number].name
    base, _, offset = name.removeprefix("SIGNAL_").replace("MINUS", "PLUS-").partition("PLUS")
    aliases = {"SIGCLD": "SIGCHLD", "SIGPOLL": "SIGIO", "SIGIOT": "SIGABRT"}
    return signal.Signals[aliases.get(base, base)] + int(offset or 0)


def _files(uid: int, gid: int) -> dict[str, str]:
    users = {0: "root:x:0:0:root:/root:/bin/sh", 65534: "nobody:x:65534:65534:nobody:/nonexistent:/bin/false"}
    groups = {0: "root:x:0:", 65534: "nogroup:x:65534:"}
    users.setdefault(uid, f"user{uid}:x:{uid}:{gid}::/:/bin/sh")
    groups.setdefault(gid, f"group{gid}:x:{gid}:")
    return {
        "/etc/passwd": "".join(f"{line}\n" for line in users.values()),
        "/etc/group": "".join(f"{line}\n" for line in groups.values()),
        "/etc/nsswitch.conf": _NSSWITCH,
    }


def _target(image: Image, path: str) -> str:
    """A container's path as it is mounted on: without links, which bubblewrap would follow outside."""
    plain = bubblewrap.normal(path)
    return bubblewrap.normal(inside(Path(image.root), plain)) if image.root else plain


def _has(image: Image, path: str) -> bool:
    root = Path(image.root)
    return bool(image.root) and (root / inside(root, path)[1:]).is_file()
