"""Mounts that the runtime makes for pods, by system call: a program for each would cost a tenth of a pod's start.

Place: `sandbox.py`, `layer.py` and `stage.py`. Limits: tmpfs, overlayfs, and copies of what is mounted already.
"""

import contextlib
import ctypes
import os
from pathlib import Path

_NOSUID, _NODEV, _NOEXEC, _DETACH = 2, 4, 8, 2  # mount(2), umount2(2)
_OPEN_TREE, _MOVE_MOUNT = 428, 429  # their numbers, the same on every architecture: the C library may lack them
_CLONE, _RECURSIVE, _CLOEXEC, _EMPTY_PATH, _HERE = 1, 0x8000, os.O_CLOEXEC, 4, -100  # open_tree(2), move_mount(2)
_NEWNS, _REC, _PRIVATE = 0x20000, 0x4000, 1 << 18  # unshare(2), mount(2)
_libc = ctypes.CDLL(None, use_errno=True)


def tmpfs(place: Path, size: int) -> None:
    """Mounts memory that anybody may use, at most `size` bytes, at a folder.

    Raises:
        OSError: the kernel refused.
    """
    options = f"mode=1777,size={size}".encode()
    _check(_libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", _NOSUID | _NODEV | _NOEXEC, options), place)


def overlay(lower: Path, upper: Path, work: Path, place: Path) -> None:
    """Mounts the folder `lower` at `place` with a layer over it that takes every change: `upper`, with its `work`.

    Raises:
        OSError: the kernel refused, as it does where a path has a colon or a comma.
    """
    folders = {"lowerdir": lower, "upperdir": upper, "workdir": work}
    named = [f"{name}={folder}" for name, folder in folders.items()]
    options = ",".join([*named, "userxattr"]).encode()  # the last: trusted attributes are for the machine's root only
    _check(_libc.mount(b"gpulab", os.fsencode(place), b"overlay", 0, options), place)


def copy(place: Path) -> int:
    """A descriptor of a copy, mounted nowhere, of what is mounted at a file or folder and below it.

    Raises:
        OSError: there is nothing at that path, or the kernel refused.
    """
    flags = _CLONE | _RECURSIVE | _CLOEXEC
    copied: int = _libc.syscall(_OPEN_TREE, _HERE, os.fsencode(place), flags)
    _check(copied < 0, place)
    return copied


def move(copied: int, place: Path) -> None:
    """Mounts a `copy` at a file or folder.

    Raises:
        OSError: the kernel refused.
    """
    _check(_libc.syscall(_MOVE_MOUNT, copied, b"", _HERE, os.fsencode(place), _EMPTY_PATH), place)


def apart() -> None:
    """Gives the calling thread the mounts of now to itself: no later change reaches or leaves it.

    Raises:
        OSError: the kernel refused.
    """
    _check(_libc.unshare(_NEWNS), Path("/"))
    _check(_libc.mount(b"none", b"/", None, _REC | _PRIVATE, None), Path("/"))


def remove(place: Path) -> None:
    """Removes a mount as soon as nobody uses it; one that is gone is no error."""
    with contextlib.suppress(OSError):
        _check(_libc.umount2(os.fsencode(place), _DETACH), place)


def _check(result: int | bool, place: Path) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(place))
