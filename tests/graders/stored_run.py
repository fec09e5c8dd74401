"""A small run, graded without pytest and stored: two checks, a submission, evidence of several kinds.

Place: tests of what reads stored runs. Limits: its clock stands still.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from graders.check import Check, LabRun
from graders.lab import CheckSpec, Lab, SubmissionRules
from graders.machine import Machine
from graders.record import Record
from graders.rubric import ClusterFacts, Finding, RunHeader, result_of
from graders.submission import Submission, digest

NAME = "20260901T120000Z-abcdef"
NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
CHECKS = (CheckSpec("first", "The first", 60), CheckSpec("second", "The second", 40))
SAMPLES = b'{"format":"gpulab/load/v2"}\n' + b'{"index":1}\n' * 100


def begun(folder: Path, submission: bytes = b"replicas: 1\n", record: Record | None = None) -> LabRun:
    """A run that has begun in results/01_tiny/NAME of a folder."""
    lab = Lab(
        name="01_tiny",
        folder=folder,
        title="A tiny lab",
        summary="It is tiny.",
        minutes=1,
        submission=SubmissionRules(("values.yaml",)),
        checks=CHECKS,
        thresholds={"L1": {"ratio": 2.0}},
    )
    files = {"values.yaml": submission}
    header = RunHeader(
        lab="01_tiny",
        title="A tiny lab",
        machine=Machine("cpu", 2, 4096, "6.1", "3.11.9", {}),
        grader_version="0.1.0",
        submission=digest(files),
        started=NOW,
    )
    record = record or Record(folder / "results" / "01_tiny" / NAME, clock=lambda: 0.0)
    facts = ClusterFacts("L1", ("GPUs",), {"backend": "fake"})
    return LabRun(lab, record, header, Submission(folder, files, digest(files)), lambda: facts, lambda: None)


def measured(run: LabRun, number: int, observed: str = "3 tokens/s") -> None:
    """Lets a check pass, with evidence of two kinds."""
    spec = CHECKS[number]
    names = (
        run.record.keep(f"{spec.id}.jsonl.gz", SAMPLES),
        run.record.keep(f"{spec.id}.log", f"line of {spec.id}\n"),
    )
    check = Check(spec, run, None)
    finding = Finding(expected="2 or more", observed=observed, verdict="passed", n=3, evidence=names)
    check.measure(lambda _: finding)
    run.settle(result_of(spec, finding, why=None, attempts=1, tiers=1))


def graded(folder: Path, sign: Callable[[bytes], bytes] | None = None) -> Path:
    """A run with full marks; returns its folder."""
    run = begun(folder)
    for number in range(len(CHECKS)):
        measured(run, number)
    run.finish(NOW, None, sign)
    return run.record.folder
