"""The root of a container: the root folder of its image, or the node's `base.py`, below a layer of its own.

Place: `container.py` makes one on the stage when a container starts, and takes it away there once the container has it;
`bubblewrap.py` shows it. Limits: overlayfs, which an ordinary user may mount since Linux 5.11 and
not on every file system; where it is refused, the entries of the image or of the machine are shown read-only below an
empty root.
"""

import contextlib
import logging
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from clusters.embedded.runtime import mounts

FOLDER = "root"
"""Where the layer is mounted, in the container's own folder."""
_PRIVATE = ("dev", "proc", "run", "sys", "tmp")  # of the container, whatever the image has there
_OPENED = ("etc", "var")  # shown entry by entry, for the runtime has files to add there
_MOST_LINKS = 40  # as the kernel follows, see path_resolution(7)


def make(root: Path, folder: Path, files: Mapping[str, str]) -> Path | None:
    """Mounts a layer over `root` in the container's `folder`, and returns where; None where the kernel refuses.

    It has `files`, texts at absolute paths. `/var/run` becomes a link to /run in it, which is where the runtime mounts
    what is asked for in either.
    """
    upper, merged = folder / "upper", folder / FOLDER
    for place in (upper, folder / "work", merged):
        place.mkdir(parents=True)
    upper.chmod(root.stat().st_mode & 0o7777)
    if inside(root, "/var/run") != "/run" and inside(root, "/var") == "/var":
        (upper / "var").mkdir(mode=0o755)
        (upper / "var" / "run").symlink_to("/run")
    for path, text in files.items():
        _write(root, upper, PurePosixPath(path), text)
    try:
        mounts.overlay(root, upper, folder / "work", merged)
    except OSError as error:
        logging.warning("there is no layer over %s: %s", root, error.strerror)
        return None
    return merged


def release(folder: Path) -> None:
    """Takes the layer in a container's folder from the stage; the container's own stays while it runs.

    One that is not there is no error.
    """
    mounts.remove(folder / FOLDER)


def size(folder: Path) -> int:
    """Bytes on the disk in the layer of a container's folder."""
    found = 0
    for place, _, names in os.walk(folder / "upper"):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 - quick
    return found


def entries(root: Path) -> tuple[str, ...]:
    """The arguments for bubblewrap that put each entry of a root folder into an empty root, read-only."""
    words: list[str] = []
    for place in sorted(root.iterdir()):
        if place.name in _OPENED and place.is_dir() and not place.is_symlink():
            words += ["--dir", f"/{place.name}"]
            for below in sorted(place.iterdir()):
                words += _shown(below, f"/{place.name}/{below.name}") if below.name not in {"run", "tmp"} else []
        elif place.name not in _PRIVATE:
            words += _shown(place, f"/{place.name}")
    return tuple(words)


def inside(root: Path, path: str) -> str:
    """An absolute path of a container with the links followed that are in its root folder."""
    left, done, links = deque(path.split("/")), list[str](), 0
    while left:
        part = left.popleft()
        if part == "..":
            done = done[:-1]
        elif part not in {"", "."}:
            place = root.joinpath(*done, part)
            if links < _MOST_LINKS and place.is_symlink():
                links += 1
                target = str(place.readlink())
                done = [] if target.startswith("/") else done
                left.extendleft(reversed(target.split("/")))
            else:
                done.append(part)
    return "/" + "/".join(done)


def _write(root: Path, upper: Path, path: PurePosixPath, text: str) -> None:
    """Puts a file into a layer, in folders with the mode that they have below it."""
    for folder in reversed(path.relative_to("/").parents[:-1]):
        below, above = root / folder, upper / folder
        if not above.is_dir():
            above.mkdir()
            above.chmod(below.stat().st_mode & 0o7777 if below.is_dir() else 0o755)
    file = upper / path.relative_to("/")
    file.write_text(text)
    file.chmod(0o644)


def _shown(place: Path, target: str) -> list[str]:
    if place.is_symlink():
        return ["--symlink", os.fspath(place.readlink()), target]
    return ["--ro-bind", str(place), target]
