"""The tiny lab with a judge: its first check measures a ratio and how many streams it was measured with.

Place: tests of judging and re-scoring. Limits: one module of the lab's own, which the lab's test file does not import.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from graders.judging import load
from graders.lab import Lab
from graders.record import FORMAT, MANIFEST, sums
from graders.rescore import Rescored, read_run, rescore
from tests.graders.tiny_lab import LAB, RUN, Session

THRESHOLDS = "ratio = 2\nstreams = 8\nseconds = 1\n"
MEASURED = '''
from graders.judging import Facts
class Ratio(Facts, frozen=True, kw_only=True):
    ratio: float
    streams: int
def test_first(check: Check) -> None:
    """It matters
    a lot."""
    check.threshold("seconds")
    def take(attempt):
        name = check.record.keep(f"samples-{attempt}", "1 2 3")
        return Ratio(ratio=RATIO, streams=int(check.threshold("streams")), evidence=(name,))
    check.measure(take)
def test_second(check: Check) -> None:
    check.measure(lambda attempt: GOOD)
'''
JUDGES = """
from graders.judging import Facts, Judge
from graders.rubric import Finding

class Ratio(Facts, frozen=True, kw_only=True):
    ratio: float
    streams: int

def judge(facts, threshold):
    goal = threshold("ratio")
    verdict = "inconclusive" if facts.ratio == goal else "passed" if facts.ratio > goal else "failed"
    return Finding(
        expected=f"more than {goal:g} with {facts.streams} streams",
        observed=f"{facts.ratio:g}",
        verdict=verdict,
        value=facts.ratio,
        hint=None if verdict == "passed" else "low",
    )

JUDGES = {"first": Judge("01_tiny/ratio/v1", Ratio, judge, effort=("seconds",))}
"""


def measured(session: Session, ratio: str, *, judges: str = JUDGES, lab: str = LAB) -> Path:
    """Grades the lab where its first check measures that ratio, an expression of `attempt`; returns the run."""
    change(session, judges=judges, lab=lab)
    session.run(MEASURED.replace("RATIO", ratio))
    return session.pytester.path / RUN


def change(session: Session, *, judges: str = JUDGES, lab: str = LAB, thresholds: str = THRESHOLDS) -> None:
    """Writes the lab's files anew."""
    (session.lab / "tiny_lab").mkdir(exist_ok=True)
    (session.lab / "tiny_lab/judges.py").write_text(judges)
    (session.lab / "lab.toml").write_text(lab.replace("ratio = 2\n", thresholds))


def again(session: Session) -> Rescored:
    """The run judged by the lab as its files are now."""
    lab = Lab.load(session.lab)
    return rescore(read_run(session.pytester.path / RUN), lab, load(lab))


def edit(folder: Path, name: str, changed: Callable[[str], str], *, sealed: bool = True) -> None:
    """Changes a file of a run, and the manifest with it where it is to stay sealed."""
    text = (folder / name).read_text()
    (folder / name).write_text(changed(text))
    assert (folder / name).read_text() != text
    if sealed and name != MANIFEST:
        (folder / MANIFEST).write_bytes(msgspec.json.encode({"format": FORMAT, "sha256": sums(folder)}))
