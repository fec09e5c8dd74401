"""The root of a container whose image names none: what programs of the machine need to find beside /usr.

Place: a runtime makes one for its node; `layer.py` puts a layer of each container's own over it. So a container starts
with a handful of mounts, not with one for every file of /etc that it sees: mounts are made one at a time on the whole
machine, and each takes longer the more there are. Limits: files of /etc are copies from the node's start.
"""

import os
import shutil
from pathlib import Path

from clusters.embedded.runtime.bubblewrap import ETC, FOLDERS, OPEN_FOLDERS, TOP


def make(place: Path, machine: Path = Path("/")) -> None:
    """Makes the folder `place` with links such as /bin -> usr/bin, files of /etc and the usual empty folders.

    Raises:
        OSError: the disk is full, or the like.
    """
    place.mkdir(mode=0o755)
    for name in (*TOP, "etc", "dev", "proc", "sys"):
        top = machine / name
        if top.is_symlink():
            (place / name).symlink_to(top.readlink())
        elif top.is_dir():
            (place / name).mkdir(mode=0o755)
    for path in FOLDERS:
        (place / path[1:]).mkdir(mode=0o755)
    for path in OPEN_FOLDERS:
        (place / path[1:]).mkdir()
        (place / path[1:]).chmod(0o1777)
    (place / "var" / "run").symlink_to("/run")
    for name in ETC:
        _copy(machine / "etc" / name, place / "etc" / name)


def _copy(source: Path, target: Path) -> None:
    """Copies a file or a folder; links in a folder stay links, what a link itself leads to is copied."""
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy, ignore=_unreadable)
    elif os.access(source, os.R_OK):
        shutil.copy(source, target)


def _unreadable(folder: str, names: list[str]) -> list[str]:
    """What an ordinary user may not read, and neither could its containers."""
    places = {name: Path(folder, name) for name in names}
    return [name for name, place in places.items() if not place.is_symlink() and not os.access(place, os.R_OK)]
