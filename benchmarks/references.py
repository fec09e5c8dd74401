"""Is a lab's reference ever graded as less than it is? Gradings in a row, alone or beside another process.

    python -m benchmarks.references [--lab 03_vllm] [--runs 10] [--busy 0.5]
    python -m benchmarks.references --add VERDICT...

Place: by hand; a grading takes three to five minutes, on a cluster of its own. Each adds a line to
benchmarks/gradings.jsonl, which is kept with the code, so that the rate of false failures grows over days and machines;
`--add` does so for verdicts of gradings that something else began, as `gpulab verify`. Alone, every run must have all
points; beside a process that wants a core some of the time, checks may be inconclusive, and none may fail. Exit status
1 when one did, or when a run ended with an error. `gpulab grade --repeat` does the same for any submission.
"""

import argparse
import contextlib
import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from commands.places import RESULTS
from commands.repeat import graded, repeat
from graders import stats
from graders.beside import BUSY_SHARE
from graders.errors import GraderError
from graders.process import ROOT, Child
from graders.rubric import Verdict, read_verdict
from graders.variance import GIB, kind_of

GRADINGS = ROOT / "benchmarks" / "gradings.jsonl"
BUSY_CORES = 2 * BUSY_SHARE
"""What others may use on a machine of two cores before a failed check is not believed."""
PERIOD = 0.1
"""Seconds in which the other process works its share and sleeps for the rest."""
WORK = """
import sys, time
share, period = float(sys.argv[1]), float(sys.argv[2])
while True:
    begun = time.monotonic()
    while time.monotonic() < begun + share * period:
        pass
    time.sleep((1 - share) * period)
"""


class Grading(msgspec.Struct, frozen=True, kw_only=True):
    """One grading of a reference, as a line of GRADINGS holds it.

    Attributes:
        lab: which.
        kind: what gradings have to share to be put together (`graders.variance.kind_of`), with the digest of lab.toml
            in the place of that of all the lab's files, the release's version, and no machine: code and machine may
            change while the figure grows, what is asked may not.
        machine: processor, cores, memory.
        busy: the share of a core that another process used meanwhile.
        others: cores that other programs kept busy, and a hypervisor took, during the check that suffered most from it;
            None where the run does not say.
        started: UTC.
        seconds: from its beginning to its end.
        points: of 100.
        missed: the status of each check that did not pass.
        again: checks that were measured more than once.
    """

    lab: str
    kind: str
    machine: str
    busy: float
    others: float | None = None
    started: datetime
    seconds: float
    points: int
    missed: Mapping[str, str]
    again: tuple[str, ...]

    @classmethod
    def of(cls, verdict: Verdict, *, busy: float, others: float | None = None) -> "Grading":
        """What is kept of a verdict; raises ValueError for that of a run that has not ended."""
        if verdict.ended is None:
            raise ValueError(f"the grading of {verdict.lab} that began at {verdict.started} has not ended")
        machine, release = verdict.machine, verdict.grader_version.partition("+")[0]
        asked = hashlib.sha256((ROOT / "labs" / verdict.lab / "lab.toml").read_bytes()).hexdigest()
        anywhere = msgspec.structs.replace(machine, cpu_model=None, cores=None, memory_bytes=None)
        return cls(
            lab=verdict.lab,
            kind=kind_of(msgspec.structs.replace(verdict, lab_digest=asked, grader_version=release, machine=anywhere)),
            machine=f"{machine.cores} cores of {machine.cpu_model}, {(machine.memory_bytes or 0) / GIB:.0f} GiB",
            busy=busy,
            others=others,
            started=verdict.started,
            seconds=round((verdict.ended - verdict.started).total_seconds(), 1),
            points=verdict.points,
            missed={check.id: check.status for check in verdict.checks if check.status != "passed"},
            again=tuple(check.id for check in verdict.checks if check.attempts > 1),
        )

    @property
    def has_failed(self) -> bool:
        """Whether the reference failed a check, which is false."""
        return "failed" in self.missed.values()

    @property
    def is_undecided(self) -> bool:
        """Whether checks did not pass and none failed."""
        return bool(self.missed) and not self.has_failed


class _Line(msgspec.Struct):
    """What is read of a line of run.jsonl."""

    kind: str = ""
    others: float | None = None


def busiest(folder: Path) -> float | None:
    """The most cores that others used during a check, as a run's folder tells it; None where it does not."""
    records = folder / "run.jsonl"  # `gpulab verify` keeps the verdict alone
    lines = msgspec.json.Decoder(_Line).decode_lines(records.read_bytes()) if records.exists() else []
    told = [line.others for line in lines if line.kind == "attempt" and line.others is not None]
    return round(max(told), 2) if told else None


def read(path: Path = GRADINGS) -> list[Grading]:
    """All gradings that were kept."""
    return msgspec.json.Decoder(Grading).decode_lines(path.read_bytes()) if path.exists() else []


def add(new: Iterable[Grading], path: Path = GRADINGS) -> None:
    """Keeps gradings, once each: a run is known by when it began."""
    known = {(each.lab, each.started) for each in read(path)}
    with path.open("ab") as file:
        for each in new:
            if (each.lab, each.started) not in known:
                file.write(msgspec.json.encode(each) + b"\n")


def summary(gradings: Sequence[Grading], lab: str) -> str:
    """A sentence on a lab's gradings of the newest kind: how many and where, how many failed, and what that bounds."""
    mine = [each for each in gradings if each.lab == lab]
    if not mine:
        return f"{lab}: no grading is kept"
    mine = [each for each in mine if each.kind == mine[-1].kind]
    failed, beside = sum(each.has_failed for each in mine), sum(each.busy > 0 for each in mine)
    undecided = [each for each in mine if each.is_undecided]
    disturbed = sum((each.others or 0) > BUSY_CORES for each in undecided)
    meanwhile = f", {disturbed} of them while others used more than {BUSY_CORES:g} cores" if undecided else ""
    seconds = [each.seconds for each in mine]
    machines = "; ".join(f"{count} on {name}" for name, count in Counter(each.machine for each in mine).items())
    most = 100 * stats.share_interval(failed, len(mine))[1]
    return (
        f"{lab}: {len(mine)} gradings ({machines}), {beside} of them beside a process that wanted a core some "
        f"of the time; in {failed} a check failed, which bounds the rate of false failures at {most:.1f} % with 95 % "
        f"confidence; {len(undecided)} were undecided in a check{meanwhile}; {min(seconds):.0f} to "
        f"{max(seconds):.0f} s each"
    )


def wrong(verdict: Verdict, *, busy: bool) -> bool:
    """Whether the reference was graded as something that it is not."""
    excused = {"passed", "inconclusive", "skipped"} if busy else {"passed"}
    return any(check.status not in excused for check in verdict.checks)


def main() -> int:
    """Prints a line for each run, more where a check did not pass, what differs between all so far, and the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lab", default="03_vllm")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--busy", type=float, default=0.0, help="share of a core that another process uses")
    parser.add_argument("--add", type=Path, nargs="+", metavar="VERDICT", help="verdict.json files to keep instead")
    options = parser.parse_args()
    if options.add:
        try:
            add(Grading.of(read_verdict(path), busy=options.busy, others=busiest(path.parent)) for path in options.add)
        except (GraderError, ValueError) as error:
            parser.error(str(error))
        print(summary(read(), options.lab))
        return 0
    results = RESULTS / "references" / (f"busy-{options.busy:g}" if options.busy else "alone")
    verdicts: list[Verdict] = []

    def grade(lab: str, words: Sequence[str], results: Path) -> tuple[str, Verdict]:
        name, verdict = graded(lab, words, results)
        verdicts.append(verdict)
        if verdict.ended:
            add([Grading.of(verdict, busy=options.busy, others=busiest(results / lab / name))])
        return name, verdict

    with tempfile.TemporaryDirectory(prefix="references-") as name, contextlib.ExitStack() as stack:
        if options.busy:
            argv = [sys.executable, "-c", WORK, str(options.busy), str(PERIOD)]
            stack.enter_context(Child(argv, log=Path(name) / "busy.log"))
        words = ["--name=references", f"--submission={ROOT / 'tests' / 'solutions' / options.lab}"]
        repeat(options.lab, words, results=results, times=options.runs, grade=grade)
    print(f"\n{summary(read(), options.lab)}")
    return 1 if any(wrong(verdict, busy=bool(options.busy)) for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
