"""Mounts that the runtime makes for pods, by system call: a program for each would cost a tenth of a pod's start.

Place: `sandbox.py` and `layer.py`. Limits: tmpfs and overlayfs.
"""

import contextlib
import ctypes
import os
from pathlib import Path

_NOSUID, _NODEV, _NOEXEC, _DETACH = 2, 4, 8, 2  # mount(2), umount2(2)
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


def remove(place: Path) -> None:
    """Removes a mount as soon as nobody uses it; one that is gone is no error."""
    with contextlib.suppress(OSError):
        _check(_libc.umount2(os.fsencode(place), _DETACH), place)


def _check(result: int, place: Path) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(place))
