"""Stored runs judged again by today's lab.toml and judges, without a cluster. Pure apart from reading.

Place: `gpulab rescore` and `benchmarks/rescore.py`. Limits: it judges what was measured; what was not, or under other
conditions than lab.toml asks for now, is inconclusive. Every file must be as it was sealed; whether the verdict is what
the facts say is for `gpulab check`, and facts are not derived from the evidence again.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from graders.audit import signature
from graders.beside import Beside
from graders.errors import GraderError, HarnessError
from graders.judging import Asked, Attempt, Judge, Judges, refuse_unknown_hint
from graders.lab import CheckSpec, Lab
from graders.packed import RunUnreadable
from graders.rubric import (
    CheckResult,
    ClusterFacts,
    RunHeader,
    Verdict,
    judge,
    lacking,
    result_of,
    root_cause,
    skipped_for,
    unjudged,
    verdict_of,
)
from graders.stored import UNDECODABLE, StoredRun
from graders.variants import applied

READ = ("run.jsonl", "verdict.json")
AGAIN = "grade the submission again"


class Refused(GraderError):
    """A stored run that cannot be judged again; the message names it, and says why and what to do."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it was kept: its verdict, and the last try of each check that was measured, by the check's id."""

    place: Path
    verdict: Verdict
    tries: Mapping[str, Attempt]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a check.

    `then` is how it ended, None where it was no check, `now` how it ends, None where it is none; `why` says in what the
    lab differs.
    """

    check: str
    then: CheckResult | None
    now: CheckResult | None
    why: tuple[str, ...]

    @property
    def counts(self) -> bool:
        """Whether status or points differ, and not only words."""
        then, now = ((each.status, each.points, each.max_points) if each else None for each in (self.then, self.now))
        return then != now


class Rescored(msgspec.Struct, frozen=True, kw_only=True):
    """A run judged again: the verdict that it had, the one that it has now, and every check that is not as it was."""

    then: Verdict
    now: Verdict
    changes: tuple[Change, ...]

    @property
    def counts(self) -> bool:
        """Whether status or points of any check differ."""
        return any(change.counts for change in self.changes)


class _Line(msgspec.Struct):
    kind: str = ""


def read_run(place: Path, key: Ed25519PublicKey | None = None) -> Stored:
    """Reads a run, from its folder or packed; with `key`, only one that this key signed.

    Raises:
        Refused: it is incomplete, was changed, is not signed as asked, is of another format, or did not finish.
        HarnessError: its verdict is of another format.
    """
    try:
        with StoredRun(place) as run:
            records, said = _as_sealed(run, key)
    except RunUnreadable as error:
        raise Refused(f"{error}; {AGAIN}") from error
    except OSError as error:
        what = error.filename or place
        raise Refused(f"{what} cannot be read: {error.strerror}; make it readable, or {AGAIN}") from error
    verdict = verdict_of(said, f"{place}/verdict.json")
    try:
        attempts = [
            msgspec.json.decode(line, type=Attempt)
            for line in records.splitlines()
            if msgspec.json.decode(line, type=_Line).kind == "attempt"
        ]
    except UNDECODABLE as error:
        raise Refused(f"{place}/run.jsonl cannot be read: {error}; {AGAIN}") from error
    if verdict.reason is not None:
        raise Refused(f"the run in {place} did not finish: {verdict.reason}; {AGAIN}")
    return Stored(place=place, verdict=verdict, tries={each.check: each for each in attempts})


def _as_sealed(run: StoredRun, key: Ed25519PublicKey | None) -> list[bytes]:
    """The files in READ, once every file is as it was sealed."""
    place, sealed = run.place, run.manifest.sha256
    if missing := [name for name in (*READ, *sealed) if not run.has(name)]:
        raise Refused(f"{place} is incomplete: {missing[0]} is missing; get it back, or {AGAIN}")
    _, flaws = signature(run, key)
    if flaws:
        remedy = "name another key" if flaws[0].name == "signer" else "get it back"
        raise Refused(f"{place} proves nothing: {flaws[0].said}; {remedy}, or {AGAIN}")
    contents = [run.raw(name) for name in READ]
    for name, content in zip(READ, contents, strict=True):
        if hashlib.sha256(content).hexdigest() != sealed.get(name):
            raise Refused(f"{place} was changed: {name} is not what its manifest says; get it back, or {AGAIN}")
    if changes := run.tampered():
        first = changes[0]
        if first.kind == "damaged":  # its sentence names the run itself, and what to do
            raise Refused(f"{first.said}; {AGAIN}")
        raise Refused(f"{place} was changed: {first.said}; get it back, or {AGAIN}")
    return contents


def rescore(run: Stored, lab: Lab, judges: Judges) -> Rescored:
    """Judges a run by this lab, its checks in the order of lab.toml.

    Raises:
        Refused: the run is of another lab, or it kept no facts that these judges read.
        WrongVariant: it was graded with numbers of a student's own that the lab does not offer any more.
        HarnessError: a judge asks for a threshold that lab.toml does not have, or the hint of a finding is not there.
    """
    then = run.verdict
    if then.lab != lab.name:
        raise Refused(f"{run.place} is a run of the lab {then.lab!r}, and {lab.folder} holds the lab {lab.name!r}")
    if then.variant:
        lab = applied(lab, then.variant)
    before = {check.id: check for check in then.checks}
    finished: dict[str, CheckResult] = {}
    why: dict[str, tuple[str, ...]] = {}
    for spec in lab.checks:
        old = before.get(spec.id)
        new, why[spec.id] = _settled(run, lab, spec, judges.get(spec.id), old, finished)
        finished[spec.id] = msgspec.structs.replace(new, seconds=old.seconds) if old else new
    header = RunHeader(**{**{name: getattr(then, name) for name in RunHeader.__struct_fields__}, "title": lab.title})
    now = judge(
        lab, header, finished, cluster=_cluster(then), absent=AGAIN, reason=None, ended=then.ended, left=then.left
    )
    after = {check.id: check for check in now.checks}
    lacked, lacks = lacking(then.checks), lacking(now.checks)
    if (essential := lacked or lacks) and not (lacked and lacks):  # all that passed earns its points now, or did then
        for name in before.keys() & after.keys():
            if before[name].status == after[name].status == "passed":
                why[name] += (f"nothing is earned without {essential.title!r}",)
    changes = [
        Change(check=name, then=before.get(name), now=after.get(name), why=why.get(name, ()))
        for name in [*after, *(name for name in before if name not in after)]
        if before.get(name) != after.get(name)
    ]
    return Rescored(then=then, now=now, changes=tuple(changes))


def _settled(
    run: Stored,
    lab: Lab,
    spec: CheckSpec,
    judge: Judge[Any] | None,
    old: CheckResult | None,
    finished: Mapping[str, CheckResult],
) -> tuple[CheckResult, tuple[str, ...]]:
    """How a check ends now, by the rules of the plugin, and in what the lab differs."""
    if old is None:
        return unjudged(spec, f"this was no check when the run was measured; {AGAIN}"), ()
    worth = (f"points {old.max_points} -> {spec.points}",) if spec.points != old.max_points else ()
    kept = msgspec.structs.replace(
        old, title=spec.title, max_points=spec.points, hidden=spec.hidden, essential=spec.essential
    )
    if old.status == "error":
        return kept, worth
    if root := root_cause(lab, spec, finished):
        return skipped_for(spec, root, why=old.why), worth
    if old.status == "skipped":
        return unjudged(spec, f"{old.observed} then, and would be measured now; {AGAIN}", why=old.why), worth
    if old.expected is None:  # no finding but an exception ended it, as where Helm refuses a submission
        return kept, worth
    result, differs = _rejudged(run, lab, spec, judge, old)
    return result, worth + differs


def _rejudged(
    run: Stored, lab: Lab, spec: CheckSpec, judge: Judge[Any] | None, old: CheckResult
) -> tuple[CheckResult, tuple[str, ...]]:
    """What the last try of a check comes to now."""
    attempt = _readable(run, lab, spec, judge)
    finding, asked = attempt.finding, Asked(lambda name: _threshold(run.verdict, lab, name))
    if judge is None and finding.verdict != "passed":  # one that passed shows no hint
        refuse_unknown_hint(spec, finding)
    if judge is not None:
        finding = judge.judge(bytes(attempt.facts), asked)
        refuse_unknown_hint(spec, finding)
        if spec.timed:
            finding = Beside(lambda: None, run.verdict.machine.cores or 1).judge(finding, attempt.others)
        numbers = lab.thresholds.get(run.verdict.level, {}) if run.verdict.level else {}
        conditions = attempt.measured_with.keys() - asked.numbers.keys() - set(judge.effort)
        if others := [name for name in sorted(conditions) if numbers.get(name) != attempt.measured_with[name]]:
            said = ", ".join(_differs(name, attempt.measured_with, numbers) for name in others)
            return unjudged(spec, f"it was measured under other conditions: {said}; {AGAIN}", why=old.why), ()
    differs = tuple(
        _differs(name, attempt.judged_by, asked.numbers)
        for name in asked.numbers
        if attempt.judged_by.get(name) != asked.numbers[name]
    )
    if not differs and finding.verdict != attempt.finding.verdict:
        differs = ("no number differs; the lab judges otherwise",)
    return result_of(spec, finding, why=old.why, attempts=old.attempts, tiers=run.verdict.hint_tiers), differs


def _readable(run: Stored, lab: Lab, spec: CheckSpec, judge: Judge[Any] | None) -> Attempt:
    """The last try of a check, whose facts this judge reads; Refused when there are none."""
    attempt = run.tries.get(spec.id)
    if attempt is None:
        raise Refused(f"{run.place} is incomplete: run.jsonl holds no try of the check {spec.id!r}; {AGAIN}")
    wanted = judge.format if judge else None
    if attempt.format is None and wanted is not None:
        raise Refused(f"{run.place} was made before facts were kept of the check {spec.id!r}; {AGAIN}")
    if attempt.format != wanted:
        raise Refused(
            f"{run.place} has facts of the check {spec.id!r} in the format {attempt.format!r}, and {lab.folder} "
            f"judges {'none' if wanted is None else repr(wanted)}; {AGAIN}"
        )
    return attempt


def _threshold(verdict: Verdict, lab: Lab, name: str) -> float:
    if verdict.level is None:
        raise HarnessError(f"the threshold {name!r} depends on the cluster's level, and the run saw none; {AGAIN}")
    return lab.threshold(verdict.level, name)


def _differs(name: str, then: Mapping[str, float], now: Mapping[str, float]) -> str:
    before, after = (f"{numbers[name]:g}" if name in numbers else "none" for numbers in (then, now))
    return f"{name} {before} -> {after}"


def _cluster(verdict: Verdict) -> ClusterFacts | None:
    if verdict.level is None or verdict.simulated is None or verdict.traits is None:
        return None
    return ClusterFacts(verdict.level, verdict.simulated, verdict.traits)
