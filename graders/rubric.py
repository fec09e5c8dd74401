"""From findings to a verdict: what a check measured, how it ended, and what the run is worth. Pure, and fails closed.

Place: lab checks return a `Finding`; the plugin turns findings and exceptions into results with these functions and
writes the verdict after each; reports and exports only read it. Limits: a check's points are all or nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from graders import stats
from graders.errors import HarnessError, InfrastructureError, SubmissionError
from graders.lab import CheckSpec, Lab, Level
from graders.lateness import Lateness
from graders.machine import Machine
from graders.record import pretty, write_whole
from graders.variants import Variant

SCHEMA = "gpulab/verdict/v1"
UNFINISHED = "the run did not finish"
NOT_RUN = "not run"
"""What a check shows as observed that has no result in a run which ended by itself."""
AT_END = ("status", "ended", "reason", "level", "simulated", "traits", "left")
"""Fields of a verdict that neither header nor checks decide; the line that ends run.jsonl has them as well."""

Outcome = Literal["passed", "failed", "inconclusive"]
Status = Literal["passed", "failed", "inconclusive", "skipped", "error"]
ErrorClass = Literal["learner", "infrastructure", "harness"]
ErrorClasses = Mapping[type[BaseException], ErrorClass]

OWN_ERRORS: ErrorClasses = {SubmissionError: "learner", InfrastructureError: "infrastructure", HarnessError: "harness"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check measured once.

    Attributes:
        expected: the claim, in words and with its unit ("at least 2 times the starter's tokens/s").
        observed: what was seen instead or as well, in words and with its unit.
        verdict: whether the claim holds; inconclusive when the evidence is too thin or too noisy to say.
        unit: unit of `value` and `interval`.
        value: the measured number; None where there is none, infinity is written as null.
        n: how many samples it rests on.
        interval: its bounds at `confidence` (0 to 1).
        confidence: of the interval, or of the test that decided.
        hint: key of the hint in lab.toml that fits what was observed.
        bounds: what single requests were held to, in seconds by "ttft" and "tpot", for those who plot them.
        evidence: names of files in the run's folder that show it.
    """

    expected: str
    observed: str
    verdict: Outcome
    unit: str | None = None
    value: float | None = None
    n: int | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    hint: str | None = None
    bounds: Mapping[str, float] = {}
    evidence: tuple[str, ...] = ()

    @classmethod
    def of_estimate(
        cls,
        estimate: stats.Estimate,
        *,
        unit: str,
        expected: str,
        observed: str,
        verdict: Outcome,
        hint: str | None,
        evidence: tuple[str, ...] = (),
        bounds: Mapping[str, float] | None = None,
    ) -> Self:
        """A finding whose value is what an estimate says, with its interval."""
        return cls(
            expected=expected,
            observed=observed,
            verdict=verdict,
            unit=unit,
            value=estimate.value,
            n=estimate.n,
            interval=estimate.interval,
            confidence=estimate.confidence,
            hint=hint,
            bounds=bounds or {},
            evidence=evidence,
        )


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a check ended.

    `why` is the sentence a learner reads about it; `hint` the tiers shown, one a line, and `hint_tiers` how many they
    are; `attempts` how often it was measured; `error_class` whose fault a failure or an error is, None otherwise;
    `seconds` how long its test took, None where it has not ended; `hidden` whether lab.toml keeps it from learners
    where the course's system can; `essential` whether no check earns anything without it. The rest is as in `Finding`.
    """

    id: str
    title: str
    status: Status
    points: int
    max_points: int
    expected: str | None = None
    observed: str | None = None
    unit: str | None = None
    value: float | None = None
    n: int | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    hint: str | None = None
    bounds: Mapping[str, float] = {}
    evidence: tuple[str, ...] = ()
    why: str | None = None
    attempts: int = 0
    hint_tiers: int = 0
    error_class: ErrorClass | None = None
    seconds: float | None = None
    hidden: bool = False
    essential: bool = False


class ClusterFacts(msgspec.Struct, frozen=True):
    """What the verdict says of the cluster: its level, what on it is simulated ("GPUs"), and its traits as they are."""

    level: Level
    simulated: tuple[str, ...]
    traits: Mapping[str, Any]


class Left(msgspec.Struct, frozen=True):
    """What a run left on the cluster: its namespace, how a command on that begins, and the one that takes it away."""

    namespace: str
    kubectl: str
    remove: str


class RunHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run before its first check; see `Verdict`."""

    lab: str
    title: str
    machine: Machine
    grader_version: str
    submission: str | None
    started: datetime
    lab_digest: str | None = None
    hint_tiers: int = 1
    student: str | None = None
    variant: Variant | None = None
    submitted: datetime | None = None
    attempt: int | None = None
    late: Lateness | None = None
    flags: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A run's outcome, as verdict.json holds it.

    `simulated` names what is simulated, and is None, like `level` and `traits`, while no cluster was seen; `submission`
    is the digest, None when it was refused, `lab_digest` that of the lab's files; `reason` says why the run as a whole
    is an error; times are UTC; `hint_tiers` is how many tiers of each hint were asked for; `student` whose run it is,
    and `variant` with which numbers, where they are not the lab's own; `submitted` when it was handed in, where that
    was said; `attempt` which of the student's it is among those that count, where they are limited; `late` how late,
    where there is a deadline, and `final_points` what is left of `points` then; `left` what the run was asked to leave
    on the cluster; `flags` are those with which `gpulab grade` and pytest grade the same in the same way again.
    """

    schema: str = SCHEMA
    lab: str
    title: str
    level: Level | None
    simulated: tuple[str, ...] | None
    machine: Machine
    grader_version: str
    submission: str | None
    points: int
    max_points: int
    status: Status
    reason: str | None
    started: datetime
    ended: datetime | None
    traits: Mapping[str, Any] | None
    checks: tuple[CheckResult, ...]
    lab_digest: str | None = None
    hint_tiers: int = 1
    student: str | None = None
    variant: Variant | None = None
    submitted: datetime | None = None
    attempt: int | None = None
    late: Lateness | None = None
    final_points: float | None = None
    left: Left | None = None
    flags: tuple[str, ...] = ()

    @property
    def numbers(self) -> Mapping[str, float]:
        """A student's numbers at the level of the run; none where they are the lab's own."""
        return self.variant.numbers.get(self.level, {}) if self.variant and self.level else {}


def result_of(check: CheckSpec, finding: Finding, *, why: str | None, attempts: int, tiers: int) -> CheckResult:
    """The result that a finding stands for, with the first `tiers` tiers of its hint."""
    passed = finding.verdict == "passed"
    shown = () if passed or finding.hint is None else check.hints[finding.hint][:tiers]
    facts = {name: getattr(finding, name) for name in Finding.__struct_fields__ if name not in ("verdict", "hint")}
    return CheckResult(
        id=check.id,
        title=check.title,
        status=finding.verdict,
        points=check.points if passed else 0,
        max_points=check.points,
        hint="\n".join(shown) or None,
        why=why,
        attempts=attempts,
        hint_tiers=len(shown),
        error_class="learner" if finding.verdict == "failed" else None,
        hidden=check.hidden,
        essential=check.essential,
        **facts,
    )


def ended_by(
    check: CheckSpec, fault: ErrorClass, said: str, *, why: str | None = None, attempts: int = 0
) -> CheckResult:
    """The result of a check that an exception ended: the learner's mistake fails it, anything else is an error."""
    result = _without_finding(check, "failed" if fault == "learner" else "error", said, why)
    return msgspec.structs.replace(result, attempts=attempts, error_class=fault)


def skipped_for(check: CheckSpec, root: CheckSpec, *, why: str | None = None) -> CheckResult:
    """The result of a check that was not measured because `root` did not pass, which it names unless that is hidden."""
    needed = "another check" if root.hidden else repr(root.title)
    return _without_finding(check, "skipped", f"not measured, as {needed} did not pass", why)


def unjudged(check: CheckSpec, said: str, *, why: str | None = None) -> CheckResult:
    """The result of a check of which a stored run has nothing that it can be judged by."""
    return _without_finding(check, "inconclusive", said, why)


def _without_finding(check: CheckSpec, status: Status, said: str, why: str | None) -> CheckResult:
    return CheckResult(
        id=check.id,
        title=check.title,
        status=status,
        points=0,
        max_points=check.points,
        observed=said,
        why=why,
        hidden=check.hidden,
        essential=check.essential,
    )


def root_cause(lab: Lab, check: CheckSpec, finished: Mapping[str, CheckResult]) -> CheckSpec | None:
    """The check at the root of why `check` must be skipped, or None when nothing speaks against measuring it.

    A needed check that has not run speaks not against it: one check can be tried alone, and the verdict is an error.
    """
    for need in check.needs:
        needed, result = lab.check(need), finished.get(need)
        if needed is not None and result is not None and result.status != "passed":
            return (root_cause(lab, needed, finished) if result.status == "skipped" else None) or needed
    return None


def fault_of(error: BaseException, foreign: ErrorClasses) -> ErrorClass:
    """Whose fault an exception is: as its closest listed type says, else the harness's."""
    table = {**OWN_ERRORS, **foreign}
    return next((table[kind] for kind in type(error).__mro__ if kind in table), "harness")


def decide(checks: tuple[CheckResult, ...]) -> Status:
    """Status of a run: passed only when every check passed; of the rest, error outweighs failed, then inconclusive."""
    statuses = {check.status for check in checks}
    if statuses == {"passed"}:
        return "passed"
    ranked: tuple[Status, ...] = ("error", "failed", "inconclusive")
    return next((status for status in ranked if status in statuses), "error")


def lacking(checks: Iterable[CheckResult]) -> CheckResult | None:
    """The essential check without which nothing is earned, None where there is none or all of them passed."""
    return next((check for check in checks if check.essential and check.status != "passed"), None)


def counted(checks: tuple[CheckResult, ...]) -> tuple[CheckResult, ...]:
    """Checks with the points that count: none where an essential one did not pass."""
    return tuple(msgspec.structs.replace(check, points=0) for check in checks) if lacking(checks) else checks


def final_points(points: int, late: Lateness | None) -> float | None:
    """What is left of points; None where there is no deadline."""
    return late.left_of(points) if late else None


def exit_status(own: int, statuses: Iterable[Status], *, interrupted: bool) -> int:
    """Exit status of a session that graded: 3 for an error, 1 for a check not passed, else pytest's `own`."""
    found = set(statuses)
    if interrupted:
        return own or 3
    if "error" in found:
        return 3
    return own if found == {"passed"} else 1


def judge(
    lab: Lab,
    header: RunHeader,
    finished: Mapping[str, CheckResult],
    *,
    cluster: ClusterFacts | None,
    absent: str,
    reason: str | None,
    ended: datetime | None,
    left: Left | None = None,
) -> Verdict:
    """The verdict on what finished so far; pure.

    Args:
        lab: its checks are the ones that count, in its order.
        header: what was known at the start.
        finished: results by check id.
        cluster: facts of the cluster, if one was seen.
        absent: what a check that did not finish shows as observed.
        reason: why the run as a whole is an error whatever its checks say, or None.
        ended: when it ended, or None while it runs.
        left: what it leaves on the cluster.
    """
    checks = counted(tuple(finished.get(check.id) or ended_by(check, "harness", absent) for check in lab.checks))
    points = sum(check.points for check in checks)
    return Verdict(
        **{name: getattr(header, name) for name in RunHeader.__struct_fields__},
        level=cluster.level if cluster else None,
        simulated=cluster.simulated if cluster else None,
        traits=cluster.traits if cluster else None,
        points=points,
        final_points=final_points(points, header.late),
        max_points=sum(check.max_points for check in checks),
        status="error" if reason else decide(checks),
        reason=reason,
        ended=ended,
        checks=checks,
        left=left,
    )


def write_verdict(verdict: Verdict, path: Path) -> None:
    """Writes verdict.json at once and whole."""
    write_whole(path, pretty(verdict) + b"\n")


def read_verdict(path: Path) -> Verdict:
    """Reads what `write_verdict` wrote; raises HarnessError when it is not that."""
    try:
        return verdict_of(path.read_bytes(), str(path))
    except OSError as error:
        raise HarnessError(f"{path} is not a verdict that can be read: {error}; grade the submission again") from error


def read_verdicts(folder: Path) -> list[tuple[str, Verdict]]:
    """The verdicts in a lab's folder of results, each with its run's name; raises HarnessError as `read_verdict`."""
    return [(path.parent.name, read_verdict(path)) for path in sorted(folder.glob("*/verdict.json"))]


def readable_verdicts(folders: Iterable[Path], say: Callable[[str], None]) -> list[tuple[str, Verdict]]:
    """The verdicts of runs' folders, each with its run's name; of one that cannot be read it says why and goes on."""
    found = []
    for folder in folders:
        try:
            found.append((folder.name, read_verdict(folder / "verdict.json")))
        except HarnessError as error:
            say(f"left out: {error}")
    return found


def verdict_of(content: bytes, place: str) -> Verdict:
    """As `read_verdict`, of the bytes that were in this place."""
    try:
        verdict = msgspec.json.decode(content, type=Verdict)
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{place} is not a verdict that can be read: {error}; grade the submission again") from error
    if verdict.schema != SCHEMA:
        raise HarnessError(f"{place} has the schema {verdict.schema!r}, this program reads {SCHEMA!r}; grade it again")
    return verdict
