"""Which code graded: digests of a lab's files and of the harness, by which gradings by different code are told apart.

Place: each run's header has both; `variance` puts gradings together, and `gates` takes kept ones again, only where they
are the same. Limits: what is installed besides is named in `machine`; documents (README.md) do not count.
"""

import hashlib
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from graders.lab import Lab
from graders.submission import digest

DIGITS = 12
"""Of the harness's digest in its version."""
HARNESS = ("graders", "clusters", "conftest.py")


def harness_version(root: Path) -> str:
    """The release, and after a plus sign a digest of the code in the project's root that grades, as in 0.1.0+1a2b3c."""
    return f"{version('gpulab')}+{folder_digest(*(root / name for name in HARNESS))[:DIGITS]}"


def lab_digest(lab: Lab) -> str:
    """Of the lab's files, of the charts that its code names, and of what these link to."""
    words = {word for path in lab.folder.rglob("*.py") for word in re.findall(r"\"([a-z0-9-]+)\"", path.read_text())}
    charts = lab.folder.parents[1] / "charts"
    named = {path for path in charts.iterdir() if path.name in words} if charts.is_dir() else set()
    shared = {link.resolve() for chart in named for link in chart.glob("charts/*")}
    return folder_digest(lab.folder, *sorted(named | shared))


def folder_digest(*folders: Path, without: Sequence[str] = ("README.md",)) -> str:
    """SHA-256 (hex) over the names and contents of some files, and of all in some folders, but for documents."""
    whole = hashlib.sha256()
    for folder in folders:
        files = {name: content for name, content in contents(folder).items() if PurePosixPath(name).name not in without}
        whole.update(f"{folder.name}\0{digest(files)}\0".encode())
    return whole.hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    """A file, or all in a folder, by name (relative, with slashes), but for Python's bytecode; none where it is not."""
    if folder.is_file():
        return {folder.name: folder.read_bytes()}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
