"""What a lab is proven by: its reference, its starter, faults planted in the reference, and cheats.

Place: the gates read it; `gpulab verify` grades its cases. Limits: folders and tables; what a grading must come to is
judged in `measured`.

    tests/solutions/NN_name/               the reference
    tests/faults/NN_name/<fault>/          and expected.toml beside them: a table for each, as in `Fault`
    tests/cheats/NN_name/<cheat>/          and expected.toml beside them: a table for each, as in `Cheat`
    labs/NN_name/starter/
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from graders.lab import Lab

TABLE = "expected.toml"
Kind = Literal["reference", "starter", "fault", "cheat"]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a fault must come to.

    `check` fails, and shows `hint`, None where it shows none; the checks in `also` may fail too, of the same cause.
    """

    check: str
    hint: str | None = None
    also: tuple[str, ...] = ()

    @property
    def checks(self) -> tuple[str, ...]:
        """All checks that it names."""
        return (self.check, *self.also)


class Cheat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cheat must come to.

    `check` fails, and what it observed begins with `words`; the checks in `on`, by default all, give no points.
    """

    check: str
    words: str
    on: tuple[str, ...] = ()

    @property
    def checks(self) -> tuple[str, ...]:
        """All checks that it names."""
        return (self.check, *self.on)


class Case(msgspec.Struct, frozen=True):
    """One submission that proves something: `expected` says what of a fault or a cheat."""

    kind: Kind
    name: str
    folder: Path
    expected: Fault | Cheat | None = None

    @property
    def label(self) -> str:
        """What it is called in a sentence."""
        return self.name if self.name == self.kind else f"{self.kind} {self.name}"


class Proof(msgspec.Struct, frozen=True):
    """All cases of a lab, and what is wrong with its folders and tables, a sentence each."""

    lab: Lab
    cases: tuple[Case, ...]
    mistakes: tuple[str, ...]

    def of(self, kind: Kind) -> tuple[Case, ...]:
        """The cases of one kind."""
        return tuple(case for case in self.cases if case.kind == kind)


Expected = TypeVar("Expected", Fault, Cheat)


def read_proof(lab: Lab, proofs: Path) -> Proof:
    """Reads what proves `lab` from `proofs`, the folder that holds solutions/, faults/ and cheats/."""
    mistakes: list[str] = []
    reference, starter = proofs / "solutions" / lab.name, lab.folder / "starter"
    if not reference.is_dir():
        mistakes.append(f"{reference} is not there; put a submission there that gets full marks")
    cases = [Case("reference", "reference", reference), Case("starter", "starter", starter)]
    cases += _cases("fault", proofs / "faults" / lab.name, Fault, mistakes)
    cases += _cases("cheat", proofs / "cheats" / lab.name, Cheat, mistakes)
    names = [case.name for case in cases]
    mistakes += [
        f"two cases of {lab.name} are called {name!r}; give each a name of its own"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    return Proof(lab, tuple(cases), tuple(mistakes))


def _cases(kind: Kind, folder: Path, form: type[Expected], mistakes: list[str]) -> list[Case]:
    """The cases of a folder, in the order of its table."""
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not folders:
        mistakes.append(f"{folder} holds no {kind}, so nothing proves what the checks catch; put one there")
        return []
    table = _table(folder / TABLE, form, mistakes)
    if table is None:
        return []
    mistakes += [
        f"the {kind} {name!r} is in {folder} and not in its {TABLE}; add a table [{name}]"
        for name in folders
        if name not in table
    ]
    mistakes += [
        f"the {kind} {name!r} is in {folder / TABLE} and has no folder beside it; put its files there"
        for name in table
        if name not in folders
    ]
    return [
        Case(kind, name, folder / name, expected) for name, expected in table.items() if expected and name in folders
    ]


def _table(path: Path, form: type[Expected], mistakes: list[str]) -> Mapping[str, Expected | None] | None:
    """The tables of a file by name, None for one that is wrong; None for a file that cannot be read."""
    try:
        tables = msgspec.toml.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        mistakes.append(f"{path} is not there; write a table [name] for each folder beside it")
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        mistakes.append(f"{path} is not TOML: {error}; correct it")
        return None
    read: dict[str, Expected | None] = {}
    for name, table in tables.items():
        try:
            read[name] = msgspec.convert(table, form)
        except msgspec.ValidationError as error:
            read[name] = None
            mistakes.append(f"the table [{name}] in {path} is wrong: {error}; correct it")
    return read
