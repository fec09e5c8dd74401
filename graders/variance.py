"""How much gradings of one submission differ: what passes how often, how values spread, how often one fails falsely.

Place: `gpulab grade --repeat` and `gpulab variance` print and keep it. Limits: it reads verdicts of runs that have
ended. Only runs of the same submission by the same checks on machines of one kind are put together; whether one that
failed did so falsely is for the reader to know, who knows what was graded.
"""

import hashlib
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from graders import stats
from graders.errors import GraderError
from graders.machine import Machine
from graders.rubric import CheckResult, Status, Verdict
from graders.told import plain

FORMAT = "gpulab/variance/v1"
MEASURED = ("passed", "failed", "inconclusive")
GIB = 2**30
COLUMNS: Mapping[Status, int] = {"passed": 8, "failed": 8, "inconclusive": 14, "skipped": 9, "error": 7}
"""Of the table of checks, with their widths."""


class NothingToCompare(GraderError):
    """No run was given that has ended."""


class Spread(msgspec.Struct, frozen=True):
    """Of some numbers: mean, standard deviation (None for fewer than two), lowest, highest."""

    mean: float
    deviation: float | None
    lowest: float
    highest: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread | None":
        """None where there are no numbers."""
        if not numbers:
            return None
        deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
        return cls(statistics.fmean(numbers), deviation, min(numbers), max(numbers))


class CheckVariance(msgspec.Struct, frozen=True, kw_only=True):
    """One check over all runs.

    `passed` is the share of the runs that measured it; `again` in how many runs it was measured more than once;
    `values` spread what it measured, in its unit; `missed` names the runs in which it did not pass.
    """

    id: str
    title: str
    statuses: Mapping[Status, int]
    passed: stats.Estimate
    again: int
    unit: str | None
    values: Spread | None
    missed: tuple[str, ...]


class Variance(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of one kind.

    `whole` is the share that passed, `failed` of those in which a check failed; neither counts a run that ended in an
    error without a failed check. `errors` are all that ended in one; `left_out` counts what was given and is of another
    kind or has not ended; `seconds` spreads how long a run took; `worst` names the runs with the fewest points.
    """

    format: str = FORMAT
    key: str
    lab: str
    submission: str | None
    grader_version: str
    level: str | None
    machine: Machine
    numbers: Mapping[str, float]
    runs: tuple[str, ...]
    first: datetime
    last: datetime
    left_out: int
    errors: int
    whole: stats.Estimate
    failed: stats.Estimate
    seconds: Spread | None
    worst: tuple[str, ...]
    fewest_points: int
    checks: tuple[CheckVariance, ...]


Runs = Sequence[tuple[str, Verdict]]


def kind_of(verdict: Verdict) -> str:
    """What two runs have to share to be put together, as sixteen digits.

    The submission, the lab's files, the checks and numbers, the grader's version, the level, and the machine's
    processor, cores and memory to the GiB. Kernel and libraries may differ: they are updated while a figure grows.
    """
    machine, memory = verdict.machine, verdict.machine.memory_bytes
    facts = (
        verdict.lab,
        verdict.submission,
        verdict.grader_version,
        verdict.lab_digest,
        verdict.level,
        verdict.simulated,
        machine.cpu_model,
        machine.cores,
        None if memory is None else round(memory / GIB),
        sorted(verdict.numbers.items()),
        [(check.id, check.max_points) for check in verdict.checks],
    )
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:16]


def variance_of(runs: Runs) -> Variance:
    """What differs between the runs, given as `(name, verdict)`, that are of the kind of the newest one.

    Raises:
        NothingToCompare: none has ended.
    """
    # One that was interrupted says nothing on how it would have ended.
    ended = [run for run in runs if run[1].ended is not None and run[1].reason is None]
    ended.sort(key=lambda run: run[1].started)
    if not ended:
        raise NothingToCompare(f"asked what differs between runs, but of {len(runs)} given none has ended; grade first")
    newest = next((verdict for _, verdict in reversed(ended) if verdict.level), ended[-1][1])
    same = [run for run in ended if kind_of(_seen(run[1], newest)) == kind_of(newest)]
    decided = [verdict for _, verdict in same if verdict.status != "error" or _has_failed(verdict)]
    whole = sum(verdict.status == "passed" for verdict in decided)
    failed = sum(map(_has_failed, decided))
    fewest = min(verdict.points for _, verdict in same)
    return Variance(
        key=kind_of(newest),
        lab=newest.lab,
        submission=newest.submission,
        grader_version=newest.grader_version,
        level=newest.level,
        machine=newest.machine,
        numbers=newest.numbers,
        runs=tuple(name for name, _ in same),
        first=same[0][1].started,
        last=same[-1][1].started,
        left_out=len(runs) - len(same),
        errors=sum(verdict.status == "error" for _, verdict in same),
        whole=stats.share(whole, len(decided)),
        failed=stats.share(failed, len(decided)),
        seconds=Spread.of([(each.ended - each.started).total_seconds() for _, each in same if each.ended]),
        worst=tuple(name for name, verdict in same if verdict.points == fewest < verdict.max_points),
        fewest_points=fewest,
        checks=tuple(_check(same, place) for place in range(len(newest.checks))),
    )


def _seen(verdict: Verdict, newest: Verdict) -> Verdict:
    """A run whose cluster did not even start, as one at the level that it was for."""
    return (
        verdict if verdict.level else msgspec.structs.replace(verdict, level=newest.level, simulated=newest.simulated)
    )


def _has_failed(verdict: Verdict) -> bool:
    return any(check.status == "failed" for check in verdict.checks)


def _check(runs: Runs, place: int) -> CheckVariance:
    found = [(name, verdict.checks[place]) for name, verdict in runs]
    last = found[-1][1]
    statuses = Counter(check.status for _, check in found)
    measured = [check for _, check in found if check.status in MEASURED]
    return CheckVariance(
        id=last.id,
        title=last.title,
        statuses=statuses,
        passed=stats.share(statuses["passed"], len(measured)),
        again=sum(check.attempts > 1 for _, check in found),
        unit=next((check.unit for _, check in reversed(found) if check.unit), None),
        values=Spread.of([check.value for check in measured if check.value is not None]),
        missed=tuple(f"{name}: {_why(check)}" for name, check in found if check.status != "passed"),
    )


def _why(check: CheckResult) -> str:
    return plain(" ".join(f"{check.status}, {check.observed or 'nothing observed'}".split()))


def render(found: Variance) -> str:
    """The report as text, 100 columns wide but for what was observed where a check did not pass."""
    lines = [
        f"{found.lab}, submission {(found.submission or 'refused')[:12]}: {_count(len(found.runs), 'grading')}, "
        f"{found.first:%Y-%m-%d %H:%M} to {found.last:%Y-%m-%d %H:%M} UTC",
        _where(found),
        "",
        f"full marks         {_share(found.whole)}",
        f"a check failed     {_share(found.failed)}",
        f"ended in an error  {found.errors}; one without a failed check counts neither way",
    ]
    if found.seconds:
        lines.append(f"took               {_spread(found.seconds)} s")
    head = "".join(f"{name:>{width}}" for name, width in COLUMNS.items())
    lines += ["", f"{'check':<26}{head}{'again':>7}  value"]
    lines += [_row(check) for check in found.checks]
    missed = [f"  {check.id}, {each}" for check in found.checks for each in check.missed]
    lines += ["", "where a check did not pass:", *missed] if missed else []
    if found.worst:
        lines += ["", f"the fewest points, {found.fewest_points}: {', '.join(found.worst)}"]
    if found.left_out:
        others = "another submission, machine, version or numbers"
        lines += ["", f"{_count(found.left_out, 'run')} left out, of {others}, or without an end"]
    return "\n".join(lines) + "\n"


def _where(found: Variance) -> str:
    machine, memory = found.machine, found.machine.memory_bytes
    room = "unknown memory" if memory is None else f"{memory / GIB:.0f} GiB"
    numbers = ", ".join(f"{name} = {number:g}" for name, number in found.numbers.items())
    return (
        f"on {machine.cores or 'unknown'} cores of {plain(machine.cpu_model or 'an unknown processor')}, {room}; level "
        f"{found.level}, grader {found.grader_version}" + (f"; numbers: {numbers}" if numbers else "")
    )


def _row(check: CheckVariance) -> str:
    shown = "".join(f"{check.statuses.get(status, 0):>{width}}" for status, width in COLUMNS.items())
    value = f"{_spread(check.values)} {check.unit or ''}".rstrip() if check.values else "none"
    return f"{check.id:<26}{shown}{check.again:>7}  {value}"


def _share(share: stats.Estimate) -> str:
    if share.value is None or share.interval is None:
        return "0 of 0"
    low, high = share.interval
    return (
        f"{round(share.value * share.n)} of {share.n}, {share.value:.1%} ({share.confidence:.0%} interval {low:.1%} to "
        f"{high:.1%})"
    )


def _spread(spread: Spread) -> str:
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.3g}"
    return f"{spread.mean:.4g}{deviation} [{spread.lowest:.4g}, {spread.highest:.4g}]"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
