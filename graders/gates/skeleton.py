"""A new lab: a small one that can be graded and is proven, for its author to change.

Place: `gpulab new-lab` writes it. Limits: its text is a folder of files, in which the lab is called 00_skeleton and its
chart skeleton-chart; only names are changed.
"""

import re
from pathlib import Path

from graders.errors import GraderError

_NAME = re.compile(r"\d\d_(?P<topic>[a-z](_?[a-z0-9])*)")
PLACES = {
    "lab": "labs/{name}",
    "chart": "charts/{chart}",
    "solution": "tests/solutions/{name}",
    "faults": "tests/faults/{name}",
    "cheats": "tests/cheats/{name}",
}
"""Where each folder of the skeleton goes."""


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
    chart = topic.replace("_", "-")
    folders = {source: root / place.format(name=name, chart=chart) for source, place in PLACES.items()}
    if taken := [str(folder.relative_to(root)) for folder in folders.values() if folder.exists()]:
        raise LabRefused(
            f"asked for a lab named {name!r}, but this is there already: {', '.join(taken)}; choose another name"
        )
    names = {"00_skeleton": name, "skeleton-chart": chart, "test_skeleton": f"test_{topic}"}
    for source, folder in folders.items():
        for path in sorted(path for path in (skeleton / source).rglob("*") if path.is_file()):
            target = folder / _renamed(path.relative_to(skeleton / source).as_posix(), names)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_renamed(path.read_text(), names))
    return list(folders.values())


def _renamed(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(old, new)
    return text
