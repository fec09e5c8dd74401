"""Where the project's own folders are, and how a command is added to the parser.

Place: every module of commands/ uses it. Limits: it knows no command.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from clusters import backends

ROOT = Path(__file__).resolve().parents[1]
LABS, RESULTS, WORK = ROOT / "labs", ROOT / "results", ROOT / "work"
PROOFS = ROOT / "tests"
"""Holds what proves labs: solutions/, faults/ and cheats/."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What commands are added to; argparse gives it no public name."""


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """A command that `run` carries out; `text` says what it does."""
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def add_cluster_flags(command: argparse.ArgumentParser) -> None:
    """`--cluster` and `--name`."""
    command.add_argument("--cluster", default="embedded", choices=backends.BACKENDS, help="backend (default: embedded)")
    command.add_argument("--name", help=backends.NAME_HELP)
