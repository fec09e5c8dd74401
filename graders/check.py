"""One lab's run while it goes on: `LabRun` keeps what finished and the verdict so far, a lab test holds a `Check`.

Place: the plugin makes both; lab tests get a `Check` by its fixture. Limits: a run killed outright keeps the verdict
written last, which is an error.
"""

import contextlib
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path

import msgspec
import pytest

from graders import judging
from graders.beside import Beside
from graders.errors import HarnessError, SubmissionError
from graders.judging import Asked, Attempt, Facts, Judges
from graders.lab import CheckSpec, Lab
from graders.lines import encoded
from graders.record import NotWritten, Record, pretty, write_over
from graders.rubric import (
    AT_END,
    NOT_RUN,
    UNFINISHED,
    CheckResult,
    ClusterFacts,
    Finding,
    Left,
    RunHeader,
    Verdict,
    judge,
    write_verdict,
)
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
        self.left: Left | None = None
        self._header = header
        record.write("start", header=header)
        if isinstance(submission, Submission):
            for name, content in submission.files.items():
                record.put(f"submission/{name}", content)
        self.verdict = self._save(self._judged(UNFINISHED, UNFINISHED, None))

    @property
    def place(self) -> Path:
        """Where its verdict.json is."""
        return self.record.folder / "verdict.json"

    @cached_property
    def judges(self) -> Judges:
        """Of the lab; HarnessError when they cannot be loaded."""
        return judging.load(self.lab)

    def settle(self, result: CheckResult) -> None:
        """Keeps how a check ended, and writes the verdict so far."""
        result = self.record.clean(result)
        self.finished[result.id] = result
        try:
            self.record.write("check", result=result)
            if self.record.broken:
                raise self.record.broken
            self.verdict = self._save(self._judged(UNFINISHED, UNFINISHED, None))
        except NotWritten as error:
            self._give_up(error, None)

    def finish(self, now: datetime, ended_early: str | None, sign: Callable[[bytes], bytes] | None = None) -> None:
        """Writes the final verdict and seals the record; `ended_early` says why the run is not whole."""
        reasons = [*self.reasons, *([ended_early] if ended_early else [])]
        absent, reason = ended_early or NOT_RUN, "; ".join(reasons) or None
        try:
            if self.record.broken:
                raise self.record.broken
            verdict = self._judged(absent, reason, now)
            self.record.write("end", **{name: getattr(verdict, name) for name in AT_END})
            self.verdict = self._save(verdict)
            self.record.seal(sign)
        except NotWritten as error:
            self._give_up(error, now)
            self.record.close()

    def _judged(self, absent: str, reason: str | None, ended: datetime | None) -> Verdict:
        return self.record.clean(
            judge(
                self.lab,
                self._header,
                self.finished,
                cluster=self.facts(),
                absent=absent,
                reason=reason,
                ended=ended,
                left=self.left,
            )
        )

    def _save(self, verdict: Verdict) -> Verdict:
        try:
            write_verdict(verdict, self.place)
        except OSError as error:
            raise self.record.failed(error) from error
        return verdict

    def _give_up(self, error: NotWritten, ended: datetime | None) -> None:
        """Makes the verdict an error, here and on the disk, where the last one makes room if there is no other.

        Where it cannot be written even so, the last one stays if it is an error, too, and goes otherwise.
        """
        self.gone = self.gone or str(error)
        before, self.verdict = self.verdict, self._judged(str(error), str(error), ended)
        try:
            write_verdict(self.verdict, self.place)
        except OSError:
            try:
                write_over(self.place, pretty(self.verdict) + b"\n")
            except OSError:
                if before.status != "error":
                    with contextlib.suppress(OSError):
                        self.place.unlink()


class Check:
    """What a lab test holds of its check: thresholds, the record, and `measure`, which ends it."""

    def __init__(self, spec: CheckSpec, run: LabRun, why: str | None) -> None:
        self.spec, self.run, self.why = spec, run, why
        self.finding: Finding | None = None
        self.root: CheckSpec | None = None
        self.attempts = 0
        self._earlier: float | None = None
        self._asked = Asked(self._look)

    @property
    def record(self) -> Record:
        """The run's record, for evidence."""
        return self.run.record

    def threshold(self, name: str) -> float:
        """The number of that name in lab.toml, for the level of the cluster in use.

        Raises:
            HarnessError: lab.toml has none, or no cluster was started before.
        """
        return self._asked(name)

    def looks_back(self, others: float | None) -> None:
        """Says in a try that its facts were measured before it, while other programs used so many cores on average.

        None where that is not known. `run.beside.begin` counts them.
        """
        self._earlier = others

    def measure(self, take: Callable[[int], Facts | Finding], *, retries: int = 1) -> Finding:
        """Measures by `take(1)`, and again, at most `retries` times, while the finding is inconclusive.

        No try has the number of an earlier one, of which evidence may be left.

        `take` returns facts, which the lab's judge of this check judges, or a finding of its own. Each try is kept in
        the record. Returns only when the check passed; otherwise it ends the test as failed. What `take` raises is
        passed on.

        Raises:
            HarnessError: the check was measured before, its facts have no judge, or a finding names a hint or evidence
                that is not there.
        """
        if self.finding is not None:
            raise HarnessError(f"the check {self.spec.id!r} was measured twice; call check.measure once")
        before = self.attempts  # of a try that the infrastructure broke
        for number in range(before + 1, before + retries + 2):
            self.attempts, self._earlier = number, None
            used = self.run.beside.begin()
            attempt = self._judged(number, take(number))
            self._refuse_loose_ends(attempt.finding)
            attempt = msgspec.structs.replace(attempt, others=used() if self._earlier is None else self._earlier)
            finding = self.run.beside.judge(attempt.finding, attempt.others) if self.spec.timed else attempt.finding
            attempt = msgspec.structs.replace(attempt, finding=finding)
            self.record.write("attempt", **{name: getattr(attempt, name) for name in Attempt.__struct_fields__})
            if finding.verdict != "inconclusive":
                break
        self.finding = finding
        if finding.verdict != "passed":
            pytest.fail(f"{finding.verdict}: {finding.observed}", pytrace=False)
        return finding

    def _judged(self, number: int, taken: Facts | Finding) -> Attempt:
        """A try and what it comes to, by the judge that re-scoring uses, and of the facts as the record has them."""
        judge = self.run.judges.get(self.spec.id)
        if isinstance(taken, Finding):
            if judge is not None:
                raise HarnessError(
                    f"the check {self.spec.id!r} has a judge, and measured a finding of its own; "
                    "return facts, or take its judge away"
                )
            return Attempt(check=self.spec.id, attempt=number, finding=taken)
        if judge is None:
            raise HarnessError(
                f"the check {self.spec.id!r} measured facts, and {self.run.lab.folder} declares no judge of it; "
                f"add it to JUDGES in <topic>_lab/{judging.MODULE}.py"
            )
        read = judge.read(encoded(taken))
        asked, facts = Asked(self._look), msgspec.json.encode(self.record.clean(read))
        return Attempt(
            check=self.spec.id,
            attempt=number,
            finding=judge.judge(facts, asked),
            format=judge.format,
            facts=msgspec.Raw(facts),
            measured_with=self._asked.numbers,
            judged_by=asked.numbers,
        )

    def _look(self, name: str) -> float:
        facts = self.run.facts()
        if facts is None:
            raise HarnessError(
                f"the threshold {name!r} depends on the cluster's level, but no cluster was started; "
                "let the test ask for the cluster's fixture"
            )
        return self.run.lab.threshold(facts.level, name)

    def _refuse_loose_ends(self, finding: Finding) -> None:
        judging.refuse_unknown_hint(self.spec, finding)
        if missing := [name for name in finding.evidence if not self.record.has(name)]:
            raise HarnessError(
                f"the check {self.spec.id!r} names the evidence {missing[0]!r}, which was not kept; keep it first"
            )
