"""A new lab: a small one that can be graded and is proven, for its author to change.

Place: `gpulab new-lab` writes it. Limits: its text is a folder of files, laid out as they will be in the project; there
the lab is called 00_skeleton, its package skeleton_lab and its chart skeleton-chart, and only names are changed.
"""

import re
from pathlib import Path

from graders.errors import GraderError

_NAME = re.compile(r"\d\d_(?P<topic>[a-z](_?[a-z0-9])*)")
_PARTS = ("labs/*", "charts/*", "tests/solutions/*", "tests/faults/*", "tests/cheats/*")


class LabRefused(GraderError):
    """A lab of that name cannot be made."""


def new_lab(name: str, *, skeleton: Path, root: Path) -> list[Path]:
    """Writes a lab called `name` into the project at `root`, and returns its folders, the lab's own first.

    Raises:
        LabRefused: the name is none for a lab, or something of that name is there.
    """
    matched = _NAME.fullmatch(name)
    if matched is None:
        raise LabRefused(
            f"asked for a lab named {name!r}; labs are named with two digits and what they are about, as 04_autoscaling"
        )
    topic = matched["topic"]
    names = {
        "00_skeleton": name,
        "skeleton-chart": topic.replace("_", "-"),
        "skeleton_lab": f"{topic}_lab",
        "test_skeleton": f"test_{topic}",
    }

    def renamed(text: str) -> str:
        for old, new in names.items():
            text = text.replace(old, new)
        return text

    folders = [root / renamed(_below(skeleton, path)) for part in _PARTS for path in skeleton.glob(part)]
    if taken := [_below(root, folder) for folder in folders if folder.exists()]:
        raise LabRefused(
            f"asked for a lab named {name!r}, but this is there already: {', '.join(taken)}; choose another name"
        )
    for path in sorted(skeleton.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            target = root / renamed(_below(skeleton, path))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(renamed(path.read_text()))
    return folders


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
