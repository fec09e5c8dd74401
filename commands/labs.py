"""`gpulab labs`: which labs there are, how long each takes, at which levels, and what it needs.

Place: `gpulab.py` adds it to its parser; README.md's table of labs has the same words. Limits: it reads lab.toml only.
"""

import argparse
import textwrap
from collections.abc import Sequence

from commands.places import LABS, Commands, add_command
from graders.lab import Lab, known_labs

WIDTH = 80


def add(commands: Commands) -> None:
    """Adds it."""
    add_command(commands, "labs", run_labs, "list the labs: title, minutes, levels, and what each needs of a cluster")


def run_labs(_: argparse.Namespace) -> int:
    """Prints the list; exit status 1 when there is no lab."""
    labs = [Lab.load(LABS / name) for name in known_labs(LABS)]
    print(listed(labs) if labs else f"{LABS} holds no lab.")
    return 0 if labs else 1


def listed(labs: Sequence[Lab]) -> str:
    """Two lines or more on each lab, none wider than a terminal unless a single word is."""
    names = max(len(lab.name) for lab in labs)
    lines: list[str] = []
    for lab in labs:
        facts = f"{counted(lab.minutes, 'minute')}; {levels(lab)}; needs {needs(lab)}"
        for text, first in ((lab.title, lab.name), (facts, "")):
            lines += textwrap.wrap(
                text,
                WIDTH,
                initial_indent=first.ljust(names + 2),
                subsequent_indent=" " * (names + 2),
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def levels(lab: Lab) -> str:
    """The levels that can grade a lab."""
    return ", ".join(lab.needs.levels)


def needs(lab: Lab) -> str:
    """What a lab asks of a cluster: nodes, GPUs, images."""
    found = [counted(lab.needs.nodes, "node")]
    found += [counted(lab.needs.gpus, "GPU")] if lab.needs.gpus else []
    return ", ".join([*found, *lab.needs.images])


def counted(count: int, thing: str) -> str:
    """So many of a thing."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
