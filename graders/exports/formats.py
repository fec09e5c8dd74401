"""All formats by name, and the one way to write a run in one of them.

Place: the plugin exports what it graded, `gpulab export` stored runs. Limits: text files; each is written whole.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from graders.errors import GraderError
from graders.exports.classroom import classroom
from graders.exports.classroom50 import classroom50
from graders.exports.ctrf import ctrf
from graders.exports.github import annotations
from graders.exports.gradebook import gradebook
from graders.exports.gradescope import gradescope
from graders.exports.junit import junit
from graders.exports.markdown import markdown
from graders.exports.otter import otter
from graders.exports.prairielearn import prairielearn
from graders.exports.prometheus import prometheus
from graders.record import write_whole
from graders.rubric import Verdict

OF_ONE: Mapping[str, Callable[[Verdict], str]] = {
    "annotations": annotations,
    "classroom": classroom,
    "classroom50": lambda verdict: classroom50(verdict, os.environ),
    "ctrf": ctrf,
    "gradescope": gradescope,
    "junit": junit,
    "markdown": markdown,
    "prairielearn": prairielearn,
    "prometheus": prometheus,
    "summary": markdown,  # of a GitHub step
}
"""Formats of one run."""

OF_MANY: Mapping[str, Callable[[Sequence[tuple[str, Verdict]]], str]] = {"gradebook": gradebook, "otter": otter}
"""Tables, with a row for each run."""

NAMES = tuple(sorted([*OF_ONE, *OF_MANY]))


class WrongExport(GraderError):
    """An export was asked for that there is not."""


def export(name: str, runs: Sequence[tuple[str, Verdict]]) -> str:
    """The runs, as `(name, verdict)`, in the format of that name.

    Raises:
        WrongExport: there is no such format, no run, or several for a format of one.
        GraderError: the format cannot tell such a run; the message says why and what to do.
    """
    if name not in NAMES:
        raise WrongExport(f"there is no format {name!r}; the formats are: {', '.join(NAMES)}")
    if not runs:
        raise WrongExport(f"asked to export as {name}, but no run was given; name the folder of one, as in results/")
    refuse_several(name, len(runs))
    return OF_MANY[name](runs) if name in OF_MANY else OF_ONE[name](runs[0][1])


def refuse_several(name: str, count: int) -> None:
    """Raises WrongExport when a format of one run is to tell of several."""
    if count > 1 and name in OF_ONE:
        raise WrongExport(
            f"{name} tells of one run, {count} were given; export them one by one, or as one of: {', '.join(OF_MANY)}"
        )


def wanted(text: str) -> tuple[str, Path]:
    """Reads FORMAT=FILE; raises WrongExport when it is not that."""
    name, sign, file = text.partition("=")
    if name not in NAMES or not sign or not file:
        raise WrongExport(f"{text!r} is not FORMAT=FILE; the formats are: {', '.join(NAMES)}")
    return name, Path(file)


def write(name: str, path: Path, runs: Sequence[tuple[str, Verdict]]) -> None:
    """Writes an export at once and whole, and makes the folder for it.

    Raises:
        GraderError: as `export`, or the file cannot be written.
    """
    text = export(name, runs)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise WrongExport(f"the export {path} cannot be written ({error.strerror}); name another file") from error
