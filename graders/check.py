"""One lab's run while it goes on: `LabRun` keeps what finished and the verdict so far, a lab test holds a `Check`.

Place: the plugin makes both; lab tests get a `Check` by its fixture. Limits: a run killed outright keeps the verdict
written last, which is an error.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from graders.beside import Beside
from graders.errors import HarnessError, SubmissionError
from graders.lab import CheckSpec, Lab
from graders.record import Record
from graders.rubric import UNFINISHED, CheckResult, ClusterFacts, Finding, RunHeader, Verdict, judge, write_verdict
from graders.submission import Submission


class LabRun:
    """One lab's run: its folder, what finished, and the verdict on disk, an error until the run ends."""

    def __init__(
        self,
        lab: Lab,
        record: Record,
        header: RunHeader,
        submission: Submission | SubmissionError,
        facts: Callable[[], ClusterFacts | None],
        others: Callable[[], float | None],
    ) -> None:
        self.lab, self.record, self.submission, self.facts = lab, record, submission, facts
        self.beside = Beside(others, header.machine.cores or 1)
        self.finished: dict[str, CheckResult] = {}
        self.reasons: list[str] = []
        self.gone: str | None = None
        self._header = header
        record.write("start", header=header)
        if isinstance(submission, Submission):
            for name, content in submission.files.items():
                record.put(f"submission/{name}", content)
        self.verdict = self._save(UNFINISHED, UNFINISHED, None)

    @property
    def place(self) -> Path:
        """Where its verdict.json is."""
        return self.record.folder / "verdict.json"

    def settle(self, result: CheckResult) -> None:
        """Keeps how a check ended, and writes the verdict so far."""
        self.finished[result.id] = result
        self.record.write("check", result=result)
        self.verdict = self._save(UNFINISHED, UNFINISHED, None)

    def finish(self, now: datetime, ended_early: str | None) -> None:
        """Writes the final verdict and seals the record; `ended_early` says why the run is not whole."""
        reasons = [*self.reasons, *([ended_early] if ended_early else [])]
        self.verdict = self._save(ended_early or "not run", "; ".join(reasons) or None, now)
        self.record.write("end", status=self.verdict.status, ended=now)
        self.record.seal()

    def _save(self, absent: str, reason: str | None, ended: datetime | None) -> Verdict:
        verdict = judge(
            self.lab, self._header, self.finished, cluster=self.facts(), absent=absent, reason=reason, ended=ended
        )
        write_verdict(verdict, self.place)
        return verdict


class Check:
    """What a lab test holds of its check: thresholds, the record, and `measure`, which ends it."""

    def __init__(self, spec: CheckSpec, run: LabRun, why: str | None) -> None:
        self.spec, self.run, self.why = spec, run, why
        self.finding: Finding | None = None
        self.root: CheckSpec | None = None
        self.attempts = 0

    @property
    def record(self) -> Record:
        """The run's record, for evidence."""
        return self.run.record

    def threshold(self, name: str) -> float:
        """The number of that name in lab.toml, for the level of the cluster in use.

        Raises:
            HarnessError: lab.toml has none, or no cluster was started before.
        """
        facts = self.run.facts()
        if facts is None:
            raise HarnessError(
                f"the threshold {name!r} depends on the cluster's level, but no cluster was started; "
                "let the test ask for the cluster's fixture"
            )
        return self.run.lab.threshold(facts.level, name)

    def measure(self, attempt: Callable[[int], Finding], *, retries: int = 1) -> Finding:
        """Measures by `attempt(1)`, and again, at most `retries` times, while the finding is inconclusive.

        No attempt has the number of an earlier one, of which evidence may be left.

        Returns only when the check passed; otherwise it ends the test as failed. What `attempt` raises is passed on.

        Raises:
            HarnessError: the check was measured before, or a finding names a hint or evidence that is not there.
        """
        if self.finding is not None:
            raise HarnessError(f"the check {self.spec.id!r} was measured twice; call check.measure once")
        before = self.attempts  # of a try that the infrastructure broke
        for number in range(before + 1, before + retries + 2):
            self.attempts = number
            used = self.run.beside.begin()
            finding = attempt(number)
            self._refuse_loose_ends(finding)
            others = used()
            if self.spec.timed:
                finding = self.run.beside.judge(finding, others)
            self.record.write("attempt", check=self.spec.id, attempt=number, finding=finding, others=others)
            if finding.verdict != "inconclusive":
                break
        self.finding = finding
        if finding.verdict != "passed":
            pytest.fail(f"{finding.verdict}: {finding.observed}", pytrace=False)
        return finding

    def _refuse_loose_ends(self, finding: Finding) -> None:
        if finding.hint is not None and finding.hint not in self.spec.hints:
            raise HarnessError(f"lab.toml has no hint {finding.hint!r} for the check {self.spec.id!r}; add it there")
        if missing := [name for name in finding.evidence if not self.record.has(name)]:
            raise HarnessError(
                f"the check {self.spec.id!r} names the evidence {missing[0]!r}, which was not kept; keep it first"
            )
