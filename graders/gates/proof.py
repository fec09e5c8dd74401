"""What a lab is proven by: its reference, its starter, faults planted in the reference, and cheats.

Place: the gates read it; `gpulab verify` grades its cases. Limits: folders and tables; what a grading must come to is
judged in `measured`.

    tests/solutions/NN_name/               the reference
    tests/faults/NN_name/expected.toml     a table for each fault, as in `Fault`
    tests/cheats/NN_name/expected.toml     a table for each cheat, as in `Cheat`
    tests/*/NN_name/<fault or cheat>/      files of its own, where edits of the reference do not make it
    labs/NN_name/starter/
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from graders.errors import GraderError
from graders.gates.edits import Edit, edited, misfits
from graders.lab import Lab
from graders.provenance import contents

TABLE = "expected.toml"
_NAME = re.compile(r"\w[\w.-]*")
Kind = Literal["reference", "starter", "fault", "cheat"]


class UnknownCase(GraderError):
    """A lab has no case of that name."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a fault must come to.

    `check` fails, and shows `hint`, None where it shows none; the checks in `also` may fail too, of the same cause.
    It is the reference with `edits`.
    """

    check: str
    hint: str | None = None
    also: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()

    @property
    def checks(self) -> tuple[str, ...]:
        """All checks that it names."""
        return (self.check, *self.also)


class Cheat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cheat must come to.

    `check` fails, and what it observed begins with `words`; the checks in `on`, by default all, give no points.
    It is the reference with `edits`.
    """

    check: str
    words: str
    on: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()

    @property
    def checks(self) -> tuple[str, ...]:
        """All checks that it names."""
        return (self.check, *self.on)


class Case(msgspec.Struct, frozen=True):
    """One submission that proves something: `expected` says what of a fault or a cheat.

    A fault or a cheat has the files in `folder`, which need not be there, and the others of `reference`, edited.
    """

    kind: Kind
    name: str
    folder: Path
    expected: Fault | Cheat | None = None
    reference: Path | None = None

    @property
    def label(self) -> str:
        """What it is called in a sentence."""
        return self.name if self.name == self.kind else f"{self.kind} {self.name}"

    def files(self) -> dict[str, bytes]:
        """What it hands in."""
        others = edited(contents(self.reference), self.expected.edits) if self.reference and self.expected else {}
        return {**others, **contents(self.folder)}

    def write(self, place: Path) -> None:
        """Writes what it hands in into a folder."""
        for name, content in self.files().items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def submission(self, place: Path) -> Path:
        """The folder to grade: its own where all files are there, else `place`, into which they are written."""
        if self.files() == contents(self.folder):
            return self.folder
        self.write(place)
        return place


class Proof(msgspec.Struct, frozen=True):
    """All cases of a lab, and what is wrong with its folders and tables, a sentence each."""

    lab: Lab
    cases: tuple[Case, ...]
    mistakes: tuple[str, ...]

    def of(self, kind: Kind) -> tuple[Case, ...]:
        """The cases of one kind."""
        return tuple(case for case in self.cases if case.kind == kind)

    def case(self, name: str) -> Case:
        """The case of that name.

        Raises:
            UnknownCase: there is none.
        """
        for case in self.cases:
            if case.name == name:
                return case
        names = ", ".join(case.name for case in self.cases)
        more = f"; others are wrong, which `gpulab verify {self.lab.name} --structure` tells" if self.mistakes else ""
        raise UnknownCase(f"{self.lab.name} has no case {name!r}; its cases are: {names}{more}")


Expected = TypeVar("Expected", Fault, Cheat)


def read_proof(lab: Lab, proofs: Path) -> Proof:
    """Reads what proves `lab` from `proofs`, the folder that holds solutions/, faults/ and cheats/."""
    mistakes: list[str] = []
    reference, starter = proofs / "solutions" / lab.name, lab.folder / "starter"
    if not reference.is_dir():
        mistakes.append(f"{reference} is not there; put a submission there that gets full marks")
    cases = [Case("reference", "reference", reference), Case("starter", "starter", starter)]
    cases += _cases("fault", proofs / "faults" / lab.name, reference, Fault, mistakes)
    cases += _cases("cheat", proofs / "cheats" / lab.name, reference, Cheat, mistakes)
    names = [case.name for case in cases]
    mistakes += [
        f"two cases of {lab.name} are called {name!r}; give each a name of its own"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    return Proof(lab, tuple(cases), tuple(mistakes))


def _cases(kind: Kind, folder: Path, reference: Path, form: type[Expected], mistakes: list[str]) -> list[Case]:
    """The cases of a folder, in the order of its table."""
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    table = _table(folder / TABLE, form, mistakes) if folders or (folder / TABLE).exists() else {}
    if table is None:
        return []
    if not folders and not table:
        mistakes.append(f"{folder} holds no {kind}, so nothing proves what the checks catch; put one there")
    mistakes += [
        f"the {kind} {name!r} is in {folder} and not in its {TABLE}; add a table [{name}]"
        for name in folders
        if name not in table
    ]
    cases = []
    for name, expected in table.items():
        case = Case(kind, name, folder / name, expected, reference)
        wrong = list(_unmade(case, folder, name in folders)) if expected else []
        mistakes += wrong
        if expected and not wrong:
            cases.append(case)
    return cases


def _unmade(case: Case, folder: Path, has_folder: bool) -> Iterator[str]:
    """Why a case of a table cannot be made, a sentence each."""
    assert case.expected
    assert case.reference
    if not _NAME.fullmatch(case.name):
        where = folder / TABLE
        yield f"the {case.kind} {case.name!r} in {where} has no name for a folder; give it one, as in four_workers"
        return
    if not has_folder and not case.expected.edits:
        yield (
            f"the {case.kind} {case.name!r} is in {folder / TABLE} and has neither edits nor a folder beside it; say "
            "what it changes, or put its files there"
        )
    for misfit in misfits(case.expected.edits, case.reference, contents(case.folder)):
        yield f"the {case.label} {misfit}"


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
