"""The flags that `gpulab grade` and `pytest labs/NAME` share, so that both have the same ones.

Place: conftest.py and commands/ add them to their parsers; `gpulab grade` hands on what it was given. Limits: it only
reads the command line; what a flag means is decided where it is used.
"""

import argparse
from collections.abc import Callable
from typing import Any

TIERS = ("1", "2", "3")


def add_flags(add: Callable[..., Any]) -> None:
    """Adds the flags by `add`, which takes what argparse's `add_argument` takes."""
    add("--hints", type=hint_tiers, default=1, metavar="1|2|3", help="how many tiers of a hint to show (default: 1)")


def words_of(options: argparse.Namespace) -> list[str]:
    """The flags of a parsed command line, as words to start pytest with."""
    return [f"--hints={options.hints}"]


def hint_tiers(text: str) -> int:
    """Reads a number of tiers; argparse tells what this raises, with the name of the flag before it."""
    if text not in TIERS:
        raise argparse.ArgumentTypeError(
            f"asked for {text!r} tiers of hints; ask for 1 (a question), 2 (where to look) or 3 (the answer)"
        )
    return int(text)
