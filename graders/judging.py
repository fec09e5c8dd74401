"""Measuring and judging apart: a check measures facts, which its run keeps; a pure function makes a finding of them.

Place: `check` judges each try of a check so, and `rescore` judges stored tries by the same function, so that the two
never differ. Limits: what was not measured cannot be judged later, whatever lab.toml says then.

What the author of a lab writes, in the lab's own package `<topic>_lab`:

1. for each check a struct of facts: what was measured, down to samples where they are few, and the words that were
   observed; a number that may be missing or infinite is None there, as JSON has neither::

       class Throughput(Facts, frozen=True, kw_only=True):
           ratios: tuple[float, ...]

2. a pure function that judges them. It asks for thresholds by name, and so needs no other number of lab.toml::

       def judge(facts: Throughput, threshold: Thresholds) -> Finding: ...

3. in `<topic>_lab/judges.py` which judge is whose. `format` names the shape and the meaning of the facts, and changes
   when they do; `effort` names thresholds that say how long or how often to measure only::

       JUDGES: Judges = {"throughput": Judge("03_x/throughput/v1", Throughput, judge, effort=("pairs",))}

The lab's test hands a function to `check.measure` that returns the facts. Any other threshold that it asks for while it
measures is a condition of the claim: under another number of it, stored facts prove nothing. A check whose function
returns a `Finding` needs none of this; re-scoring keeps that finding, and applies points and hints.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from graders.errors import GraderError, HarnessError
from graders.lab import CheckSpec, Lab
from graders.rubric import Finding

MODULE = "judges"

Thresholds: TypeAlias = Callable[[str], float]
"""The number of a name in lab.toml, for the level of the cluster that was measured."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What one try of a check measured; `evidence` names files in the run's folder that show it."""

    evidence: tuple[str, ...] = ()


F = TypeVar("F", bound=Facts)


@dataclass(frozen=True)
class Judge(Generic[F]):
    """How the facts of one check are read and judged; see the head of this module."""

    format: str
    facts: type[F]
    decide: Callable[[F, Thresholds], Finding]
    effort: tuple[str, ...] = ()

    def read(self, facts: bytes) -> F:
        """Its own facts of JSON; raises HarnessError when it is none of theirs."""
        try:
            return msgspec.json.decode(facts, type=self.facts)
        except msgspec.DecodeError as error:
            raise HarnessError(f"these facts cannot be read as {self.format}: {error}; correct the lab") from error

    def judge(self, facts: bytes, threshold: Thresholds) -> Finding:
        """What the facts, as JSON, come to by these thresholds.

        Raises:
            HarnessError: they are no facts of its own, a threshold is missing, or it fails for another reason.
        """
        read = self.read(facts)
        try:
            found = self.decide(read, threshold)
        except GraderError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise HarnessError(f"the judge of {self.format} failed: {said}; correct the lab") from error
        return msgspec.structs.replace(found, evidence=read.evidence)


Judges: TypeAlias = Mapping[str, Judge[Any]]
"""The judges of a lab by the id of their check."""


class Asked:
    """Thresholds that remember, in `numbers`, which were asked for."""

    def __init__(self, look: Thresholds) -> None:
        self._look = look
        self.numbers: dict[str, float] = {}

    def __call__(self, name: str) -> float:
        """As lab.toml has it."""
        return self.numbers.setdefault(name, self._look(name))


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a check, as a line of run.jsonl of the kind "attempt".

    Attributes:
        check: its id.
        attempt: the how manieth, from 1.
        finding: what it came to.
        others: cores that other programs used meanwhile; None where that is not known.
        format: of the facts; None where the check has no judge, as the next three then have nothing to tell.
        facts: what was measured.
        measured_with: thresholds that measuring asked for.
        judged_by: thresholds that judging asked for.
    """

    check: str
    attempt: int
    finding: Finding
    others: float | None = None
    format: str | None = None
    facts: msgspec.Raw = msgspec.Raw(b"null")
    measured_with: dict[str, float] = {}
    judged_by: dict[str, float] = {}


def refuse_unknown_hint(check: CheckSpec, finding: Finding) -> None:
    """Raises HarnessError when the finding names a hint that lab.toml does not have."""
    if finding.hint is not None and finding.hint not in check.hints:
        raise HarnessError(f"lab.toml has no hint {finding.hint!r} for the check {check.id!r}; add it there")


def load(lab: Lab) -> Judges:
    """The judges that a lab declares in `<topic>_lab/judges.py`; none where it has no such file.

    A package that is imported from the lab's folder already is taken as it is; one of that name from elsewhere, as of
    another version of the lab, is left alone.

    Raises:
        HarnessError: there are several, they cannot be imported, or they judge no check of lab.toml.
    """
    found = sorted(lab.folder.resolve().glob(f"*_lab/{MODULE}.py"))
    if not found:
        return {}
    if len(found) > 1:
        said = ", ".join(path.relative_to(lab.folder.resolve()).as_posix() for path in found)
        raise HarnessError(f"{lab.folder} declares judges in {said}; keep one package of the lab's own")
    path = found[0]
    try:
        with _importing(path.parent):
            judges: Judges = importlib.import_module(f"{path.parent.name}.{MODULE}").JUDGES
    except Exception as error:
        raise HarnessError(f"{path} declares no judges: {type(error).__name__}: {error}; correct the lab") from error
    if unknown := [name for name in judges if lab.check(name) is None]:
        raise HarnessError(f"{path} declares a judge of {unknown[0]!r}, which is no check of lab.toml; correct either")
    return judges


@contextmanager
def _importing(package: Path) -> Iterator[None]:
    """Lets the package in that folder be imported by its name, whatever has that name otherwise."""
    ours = importlib.util.find_spec(package.name) if package.name in sys.modules else None
    if ours is not None and list(map(Path, ours.submodule_search_locations or ())) == [package]:
        yield
        return
    hidden = _taken_out(package.name)
    sys.path.insert(0, str(package.parent))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(package.parent))
        if hidden:
            _taken_out(package.name)
            sys.modules.update(hidden)


def _taken_out(package: str) -> dict[str, Any]:
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}
