"""The measured gate: what a grading of each case must come to, judged from its verdict. Pure.

Place: `gpulab verify` hands in what was graded. Limits: it believes verdicts, and proves by what they say of faults and
cheats whether they are right to be believed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from graders.gates.gate import Gate
from graders.gates.proof import Case, Cheat, Fault, Kind, Proof
from graders.lab import CheckSpec, Lab
from graders.rubric import CheckResult, Verdict

_LONGEST = 160


class Graded(msgspec.Struct, frozen=True):
    """One case and its verdict; `run` counts where a case is graded more than once."""

    case: Case
    run: int
    verdict: Verdict
    seconds: float
    reused: bool = False

    @property
    def label(self) -> str:
        """What it is called in a sentence."""
        return f"{self.case.label} (run {self.run})" if self.run > 1 else self.case.label


def measured(proof: Proof, graded: Sequence[Graded], *, whole: bool = True) -> list[Gate]:
    """A gate for each kind of case; unless it is to be the `whole` proof, only for kinds of which one was graded."""
    kinds = {kind: [each for each in graded if each.case.kind == kind] for kind in _CLAIMS}
    return [_gate(proof, kind, found) for kind, found in kinds.items() if found or whole]


_CLAIMS: Mapping[Kind, str] = {
    "reference": "full marks each time",
    "starter": "nothing but what it is handed out with",
    "fault": "each named by its check with its hint, and by no unrelated one",
    "cheat": "each refused in the words for it, and worth nothing where it attacks",
}


def _gate(proof: Proof, kind: Kind, graded: Sequence[Graded]) -> Gate:
    return Gate.over(
        f"{kind}s" if kind in ("fault", "cheat") else kind,
        f"{len(graded)} graded, {_CLAIMS[kind]}",
        len(graded),
        [mistake for each in graded for mistake in mistakes(proof.lab, each)],
        nothing=f"no {kind} of {proof.lab.name} was graded, so nothing is proven of it",
    )


def mistakes(lab: Lab, graded: Graded) -> list[str]:
    """What a grading did not come to, a sentence each."""
    verdict, name = graded.verdict, graded.label
    results = {result.id: result for result in verdict.checks}
    broken = [
        f"the {name} could not be graded at {result.id!r}: {_said(result)}; look at its log, and grade it again"
        for result in verdict.checks
        if result.status == "error"
    ]
    if broken or verdict.reason:
        return broken or [f"the {name} was not graded whole: {verdict.reason}; grade it again"]
    expected = graded.case.expected
    if expected and (strange := [each for each in expected.checks if each not in results]):
        return [f"the {name} names {strange[0]!r}, which is no check of lab.toml; correct its table"]
    if isinstance(expected, Fault):
        return list(_of_fault(lab, name, expected, results))
    if isinstance(expected, Cheat):
        return list(_of_cheat(lab, name, expected, results))
    if graded.case.kind == "reference":
        return list(_of_reference(name, verdict))
    return list(_of_starter(lab, name, results))


def shown_hint(check: CheckSpec, result: CheckResult) -> str | None:
    """The key of the hint that a result shows, None where it shows none that lab.toml has."""
    shown = result.hint or ""
    return next((key for key, tiers in check.hints.items() if shown.startswith(tiers[0])), None)


def _of_reference(name: str, verdict: Verdict) -> Iterator[str]:
    for result in verdict.checks:
        if result.status in ("failed", "inconclusive"):
            yield (
                f"the {name} gets {verdict.points} of {verdict.max_points} points, as {result.id!r} {_ended(result)}; "
                f"{_next(result, 'correct it, or what the check asks')}"
            )


def _of_starter(lab: Lab, name: str, results: Mapping[str, CheckResult]) -> Iterator[str]:
    for check in lab.checks:
        result = results[check.id]
        if check.starter_passes:
            if result.status != "passed":
                told = f"lab.toml says that the {name} passes {check.id!r}, which {_ended(result)}"
                yield f"{told}; {_next(result, 'correct one of them')}"
        elif result.status == "passed":
            yield (
                f"the {name} gets the {check.points} points of {check.id!r} as it is handed out; ask for more there, "
                "or set starter_passes in lab.toml"
            )
        elif result.status == "inconclusive":
            yield f"the {name} must earn nothing at {check.id!r}, which {_ended(result)}; grade it again"
        elif result.status == "failed" and not (result.expected and result.observed and result.hint):
            yield f"the {name} fails {check.id!r} and is not told why; let the check say expected, observed and a hint"


def _of_fault(lab: Lab, name: str, expected: Fault, results: Mapping[str, CheckResult]) -> Iterator[str]:
    named = results[expected.check]
    check = lab.check(expected.check)
    if named.status != "failed":
        next_step = _next(named, "correct fault, table or check")
        yield f"the {name} must fail {expected.check!r}, which {_ended(named)}; {next_step}"
    elif check and (shown := shown_hint(check, named)) != expected.hint:
        due, seen = (repr(hint) if hint else "none" for hint in (expected.hint, shown))
        yield (
            f"the {name} must show the hint {due} at {expected.check!r}, and shows {seen}; correct its table, or when "
            "the check gives which"
        )
    allowed = {expected.check, *expected.also}
    for result in results.values():
        if result.status == "failed" and result.id not in allowed:
            yield (
                f"the {name} must fail {expected.check!r} alone, and {result.id!r} {_ended(result)}; if the cause is "
                f"the same, add {result.id!r} to `also` in its table, else correct that check"
            )


def _of_cheat(lab: Lab, name: str, expected: Cheat, results: Mapping[str, CheckResult]) -> Iterator[str]:
    named = results[expected.check]
    if named.status != "failed":
        next_step = _next(named, "let the check refuse it")
        yield f"the {name} must fail {expected.check!r}, which {_ended(named)}; {next_step}"
    elif not (named.observed or "").startswith(expected.words):
        yield f"the {name} must be told {expected.words!r} at {named.id!r}, which {_ended(named)}; correct its table"
    attacked = expected.on or tuple(check.id for check in lab.checks)
    if earned := [results[each] for each in attacked if results[each].points]:
        sums = ", ".join(f"{each.points} at {each.id!r}" for each in earned)
        yield f"the {name} must earn nothing there, and earns {sums}; let a check refuse it, or set `on` in its table"


def _ended(result: CheckResult) -> str:
    """How a check ended, as in "failed: 0.9 times"."""
    ended = {"inconclusive": "was inconclusive", "skipped": "was skipped"}.get(result.status, result.status)
    return ended if result.status == "passed" else f"{ended}: {_said(result)}"


def _next(result: CheckResult, otherwise: str) -> str:
    return "grade it again" if result.status == "inconclusive" else otherwise


def _said(result: CheckResult) -> str:
    words = " ".join((result.observed or "nothing was observed").split())
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 3]}..."


def seen_hints(lab: Lab, graded: Iterable[Graded]) -> set[tuple[str, str]]:
    """The hints that were shown, by check and key."""
    found = set()
    for each in graded:
        for result in each.verdict.checks:
            check = lab.check(result.id)
            if check and result.status == "failed" and (key := shown_hint(check, result)):
                found.add((check.id, key))
    return found
