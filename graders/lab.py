"""A lab as its folder tells it: lab.toml, decoded and checked; what a check may ask, and which file holds the checks.

Place: the plugin grades by it, the rubric counts by it, `gpulab` lists by it. Limits: it reads lab.toml only; what a
submission may hold is read in `submission`, what cluster a lab runs on is the cluster's own file.
"""

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Literal, Self

import msgspec

from graders.errors import GraderError, HarnessError

Level = Literal["L1", "L2", "L3"]

_ID = re.compile(r"[a-z][a-z0-9_]*")


class UnknownLab(GraderError):
    """There is no lab of that name, or its folder is not a lab's."""


class CheckSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One graded check.

    `id` names the function `test_<id>`; `needs` the checks, listed above this one, that must have passed before it is
    measured; `hints` a few tiers, from a nudge to the answer, for each thing that can be observed; `hidden` keeps what
    was seen of it from the exports that learners read (docs/formats.md); `timed` says that it fails on a
    machine that is too busy with other things; `starter_passes` that the starter passes it, which earns nothing on all
    others; `essential` that no check earns anything unless this one passes.
    """

    id: str
    title: str
    points: int
    needs: tuple[str, ...] = ()
    hints: dict[str, tuple[str, ...]] = {}
    hidden: bool = False
    timed: bool = False
    starter_passes: bool = False
    essential: bool = False


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a lab asks of a cluster.

    `gpus` are devices on all nodes together, `images` the image references to prepare before it starts, `levels` those
    that can grade it.
    """

    nodes: int = 1
    gpus: int = 0
    images: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ("L1", "L2", "L3")


class SubmissionRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a submission consists of: these files, relative to its folder, and together at most `max_bytes`."""

    files: tuple[str, ...]
    max_bytes: int = 65536


class LabFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """lab.toml: `minutes` is how long a learner should plan, `thresholds` are numbers by level and name.

    `variants` are thresholds that may differ between students, by level and the name of a group: each of its choices
    gives all the thresholds of that group, and is as hard as any other.
    """

    title: str
    summary: str
    minutes: int
    submission: SubmissionRules
    checks: tuple[CheckSpec, ...]
    needs: Needs = Needs()
    thresholds: dict[Level, dict[str, float]] = {}
    variants: dict[Level, dict[str, tuple[dict[str, float], ...]]] = {}


class Lab(LabFile, frozen=True, kw_only=True):
    """A lab: what lab.toml says, the folder it is in, and its name, which is the folder's."""

    name: str
    folder: Path

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads the lab in `folder`.

        Raises:
            UnknownLab: the folder or its lab.toml is not there.
            HarnessError: lab.toml is wrong; the message says where.
        """
        path = folder / "lab.toml"
        try:
            text = path.read_bytes()
        except FileNotFoundError as error:
            raise UnknownLab(
                f"{folder} is not a lab: it holds no lab.toml; give the folder of a lab, such as labs/NN_name"
            ) from error
        try:
            decoded = msgspec.toml.decode(text, type=LabFile)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HarnessError(f"{path}: {error}; correct lab.toml") from error
        if mistake := mistake_in(decoded):
            raise HarnessError(f"{path}: {mistake}; correct lab.toml")
        return cls(
            name=folder.name, folder=folder, **{name: getattr(decoded, name) for name in LabFile.__struct_fields__}
        )

    @classmethod
    def find(cls, labs: Path, name: str) -> Self:
        """The lab called `name` in the folder of labs; raises as `load` does, and UnknownLab lists the known ones."""
        known = known_labs(labs)
        if name not in known and not (labs / name).is_dir():
            raise UnknownLab(f"there is no lab {name!r}; the labs are: {', '.join(known) or f'none, in {labs}'}")
        return cls.load(labs / name)

    def check(self, check_id: str) -> CheckSpec | None:
        """The check of that id, if lab.toml lists it."""
        return next((check for check in self.checks if check.id == check_id), None)

    def threshold(self, level: Level, name: str) -> float:
        """The number lab.toml gives for `name` at `level`; HarnessError when it gives none."""
        numbers = self.thresholds.get(level, {})
        if name not in numbers:
            raise HarnessError(
                f"the lab {self.name} asks for the threshold {name!r} at level {level}, where lab.toml has: "
                f"{', '.join(sorted(numbers)) or 'none'}; add it to [thresholds.{level}]"
            )
        return numbers[name]

    @property
    def test_file(self) -> Path:
        """The one file that holds the lab's checks; HarnessError when there is none or more than one."""
        found = sorted(self.folder.glob("test_*.py"))
        if len(found) != 1:
            raise HarnessError(
                f"{self.folder} holds {len(found)} files named test_*.py, "
                f"{', '.join(path.name for path in found) or 'so nothing to grade by'}; keep exactly one"
            )
        return found[0]


def known_labs(labs: Path) -> tuple[str, ...]:
    """Names of the labs in a folder: its folders that hold a lab.toml, sorted."""
    return tuple(sorted(path.parent.name for path in labs.glob("*/lab.toml")))


def mistake_in(lab: LabFile) -> str | None:
    """What lab.toml gets wrong beyond its types, or None."""
    ids = [check.id for check in lab.checks]
    if twice := [name for name, count in Counter(ids).items() if count > 1]:
        return f"the check {twice[0]!r} is listed twice"
    for place, check in enumerate(lab.checks):
        if mistake := _mistake_in_check(check, ids[:place]):
            return f"the check {check.id!r} {mistake}"
    if (points := sum(check.points for check in lab.checks)) != 100:
        return f"the points of the checks sum to {points}, not 100"
    return _mistake_in_rules(lab.submission) or _mistake_in_variants(lab)


def _mistake_in_variants(lab: LabFile) -> str | None:
    for level, groups in lab.variants.items():
        own, seen = lab.thresholds.get(level, {}), set[str]()
        for group, choices in groups.items():
            where = f"the variants {group!r} at {level}"
            names = choices[0].keys() if choices else set()
            if strange := [name for name in names if name not in own or name in seen]:
                why = "another group gives, too" if strange[0] in seen else f"[thresholds.{level}] does not have"
                return f"{where} give {strange[0]!r}, which {why}"
            if any(choice.keys() != names for choice in choices):
                return f"{where} do not all give the same thresholds"
            if len(choices) < 2 or any(choices.count(choice) > 1 for choice in choices):
                return f"{where} are not at least two that differ"
            if {name: own[name] for name in names} not in choices:
                return f"{where} lack what [thresholds.{level}] says itself"
            seen |= names
    return None


def _mistake_in_check(check: CheckSpec, above: list[str]) -> str | None:
    if not _ID.fullmatch(check.id):
        return "needs an id of small letters, digits and underscores, which starts with a letter"
    if check.points < 1:
        return f"is worth {check.points} points, where 1 is the least"
    if unknown := [need for need in check.needs if need not in above]:
        return f"needs {unknown[0]!r}, which is no check listed above it"
    if empty := [key for key, tiers in check.hints.items() if not tiers]:
        return f"has no text for the hint {empty[0]!r}"
    return None


def _mistake_in_rules(rules: SubmissionRules) -> str | None:
    if not rules.files:
        return "a submission has no files"
    if rules.max_bytes < 1:
        return f"a submission may have {rules.max_bytes} bytes, where 1 is the least"
    for name in rules.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or not path.parts:
            return f"the submission file {name!r} is not a plain path inside the folder"
    if len(set(rules.files)) != len(rules.files):
        return "a submission file is listed twice"
    return None
