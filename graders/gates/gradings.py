"""Grades the cases of a proof one after the other, keeps each verdict, and takes kept ones again when nothing changed.

Place: `gpulab verify` hands in how a submission is graded; tests hand in a function. Limits: one at a time. The verdict
is kept of a grading that came to what it must, and of another all that its run wrote, to be looked at; so is one that
was undecided, and therefore made again.

    <folder>/fault-<name>-<run>/verdict.json, kept.json, grade.log (and submission/ and the run's folder)
    <folder>/fault-<name>-<run>-undecided/
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

import msgspec

from graders.errors import HarnessError
from graders.gates.measured import Graded, mistakes
from graders.gates.proof import Case, Proof
from graders.record import pretty, write_whole
from graders.rubric import Verdict, read_verdict, write_verdict
from graders.submission import digest

VERDICT, KEPT = "verdict.json", "kept.json"

Grade = Callable[[Path, Path], Verdict]
"""Grades the submission in a folder, and writes what it leaves behind in another, which holds nothing but the first."""


class Stamp(msgspec.Struct, frozen=True):
    """What a verdict depends on: digests of the submission and of the lab's files, and the version of the harness."""

    submission: str
    lab: str
    harness: str


class Kept(msgspec.Struct, frozen=True):
    """What is kept beside a verdict."""

    stamp: Stamp
    seconds: float


class Step(msgspec.Struct, frozen=True):
    """One grading that is due: which of how many, and the seconds it and all the rest may take, None if not known.

    `undecided` says what the same grading left open the first time.
    """

    case: Case
    run: int
    number: int
    count: int
    seconds: float | None
    rest: float | None
    undecided: str = ""

    def words(self) -> str:
        """The step in a line, for whoever waits."""
        again = f" (run {self.run})" if self.run > 1 else ""
        if self.undecided:
            return f"{self.case.label}{again}: {self.undecided}; grading it a second time"
        return f"{self.case.label}{again}: grading {self.number} of {self.count}, {foretold(self.seconds, self.rest)}"


class Gradings:
    """The gradings of one proof.

    Args:
        proof: what is graded.
        folder: where verdicts are kept.
        grade: grades a submission.
        lab: digest of the lab's files.
        harness: version of the harness.
        clock: seconds.
    """

    def __init__(
        self, proof: Proof, folder: Path, grade: Grade, *, lab: str, harness: str, clock: Callable[[], float]
    ) -> None:
        self._proof, self._folder, self._grade, self._clock = proof, folder, grade, clock
        self._lab, self._harness = lab, harness

    def due(self, only: Sequence[str], runs: int, *, resume: bool) -> list[tuple[Case, int]]:
        """The cases called `only`, all where none is named, the reference `runs` times.

        Where `resume` is set, also others of which a verdict is kept.

        Raises:
            UnknownCase: there is none of a name.
        """
        known = {self._proof.case(name).name for name in only}
        return [
            (case, run)
            for case in self._proof.cases
            for run in range(1, (runs if case.kind == "reference" else 1) + 1)
            if not only or case.name in known or (resume and self.kept(case, run))
        ]

    def run(self, due: Sequence[tuple[Case, int]], *, resume: bool, before: Callable[[Step], None]) -> Iterator[Graded]:
        """Grades what is due, tells `before` of each; takes kept verdicts that still stand where `resume` is set."""
        kept = {(case.name, run): self.kept(case, run) for case, run in due} if resume else {}
        for place, (case, run) in enumerate(due):
            if found := kept.get((case.name, run)):
                yield found
                continue
            rest = [each for each in due[place:] if not kept.get((each[0].name, each[1]))]
            step = Step(case, run, place + 1, len(due), self._expected([(case, run)]), self._expected(rest))
            before(step)
            yield self._graded(step, before)

    def kept(self, case: Case, run: int) -> Graded | None:
        """The kept verdict on a case, if it says something and nothing that it depends on has changed."""
        place = self._place(case, run)
        found = self._read(place)
        if found is None or found.stamp != self._stamp(case):
            return None
        try:
            graded = Graded(case, run, read_verdict(place / VERDICT), found.seconds, reused=True)
        except HarnessError:
            return None
        return None if self._says_nothing(graded) else graded

    def _graded(self, step: Step, before: Callable[[Step], None]) -> Graded:
        """Grades a case; a second time when the first says nothing, as on a machine that is busy otherwise."""
        case, run = step.case, step.run
        place = self._place(case, run)
        aside = place.with_name(f"{place.name}-undecided")
        stamp = self._stamp(case)
        begun = self._clock()
        for old in (place, aside):
            shutil.rmtree(old, ignore_errors=True)
        for is_last in (False, True):
            place.mkdir(parents=True)
            try:
                verdict = self._grade(case.submission(place / "submission"), place)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)  # half a grading proves nothing
                raise
            graded = Graded(case, run, verdict, self._clock() - begun)
            if is_last or not self._says_nothing(graded):
                break
            place.rename(aside)
            before(msgspec.structs.replace(step, undecided=left_open(verdict)))
        if not mistakes(self._proof.lab, graded):
            for path in place.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)  # samples of all faults together take gigabytes
        write_verdict(verdict, place / VERDICT)
        write_whole(place / KEPT, pretty(Kept(stamp, graded.seconds)))
        return graded

    def _expected(self, due: Sequence[tuple[Case, int]]) -> float | None:
        """Seconds that gradings may take, by how long they took before; None where nobody knows."""
        known = [found.seconds for path in self._folder.glob(f"*/{KEPT}") if (found := self._read(path.parent))]
        if not known:
            return None
        before = [self._read(self._place(case, run)) for case, run in due]
        return sum(found.seconds if found else fmean(known) for found in before)

    def _says_nothing(self, graded: Graded) -> bool:
        """Whether it did not come to what it must, for want of a decision."""
        return bool(left_open(graded.verdict)) and bool(mistakes(self._proof.lab, graded))

    def _place(self, case: Case, run: int) -> Path:
        return self._folder / f"{case.label.replace(' ', '-')}-{run}"

    def _stamp(self, case: Case) -> Stamp:
        return Stamp(digest(case.files()), self._lab, self._harness)

    def _read(self, place: Path) -> Kept | None:
        try:
            return msgspec.json.decode((place / KEPT).read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError):
            return None


def left_open(verdict: Verdict) -> str:
    """What a verdict did not decide, in a few words; empty when it decided everything."""
    checks = (f"{check.id} is {check.status}" for check in verdict.checks if check.status in ("inconclusive", "error"))
    return verdict.reason or ", ".join(checks)


def foretold(seconds: float | None, rest: float | None) -> str:
    """How many seconds a grading may take, and the rest of a row with it, where that is known."""
    if seconds is None or rest is None:
        return "how long it takes is not known yet"
    return f"about {duration(seconds)}, and {duration(rest)} with all that is left"


def duration(seconds: float) -> str:
    """A time as people say it: 45 s, 4 min, 1 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
