"""A small run, graded without pytest and stored: two checks, a submission, evidence of several kinds.

Place: tests of what reads stored runs. Limits: its clock stands still.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from graders.check import Check, LabRun
from graders.lab import CheckSpec, Lab, SubmissionRules
from graders.record import Record
from graders.rubric import ClusterFacts, Finding, result_of
from graders.submission import Submission, digest
from tests.graders.verdicts import NOON, header_of

NAME = "20260901T120000Z-abcdef"
CHECKS = (CheckSpec("first", "The first", 60), CheckSpec("second", "The second", 40))
CLUSTER = ClusterFacts("L1", ("GPUs",), {"backend": "fake"})
SAMPLES = b'{"format":"gpulab/load/v2"}\n' + b'{"index":1}\n' * 100


def begun(
    folder: Path,
    submission: bytes = b"replicas: 1\n",
    record: Record | None = None,
    *,
    checks: tuple[CheckSpec, ...] = CHECKS,
    facts: Callable[[], ClusterFacts | None] = lambda: CLUSTER,
    others: Callable[[], float | None] = lambda: None,
    **told: Any,
) -> LabRun:
    """A run that has begun in results/01_tiny/NAME of a folder, its header as `told`; the rest is as in `LabRun`."""
    lab = Lab(
        name="01_tiny",
        folder=folder,
        title="A tiny lab",
        summary="It is tiny.",
        minutes=1,
        submission=SubmissionRules(("values.yaml",)),
        checks=checks,
        thresholds={"L1": {"ratio": 2.0}},
    )
    files = {"values.yaml": submission}
    record = record or Record(folder / "results" / "01_tiny" / NAME, clock=lambda: 0.0)
    found = Submission(folder, files, digest(files))
    return LabRun(lab, record, header_of(lab, found.digest, **told), found, facts, others)


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
    run.finish(NOON, None, sign)
    return run.record.folder
