"""Whether a stored run proves its verdict: nothing in it was changed, the verdict is what the records say, who signed.

Place: `gpulab check` prints what comes out; re-scoring looks at signatures by `signature`. Limits: it measures nothing
anew and applies no threshold, which is what re-scoring is for; whoever may write the folder can make everything agree
again, and only a signature tells that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from graders import signing
from graders.packed import MOST_FILE_BYTES, RunUnreadable
from graders.record import FORMAT, MANIFEST, SIGNATURE
from graders.rubric import AT_END, SCHEMA, CheckResult, Finding, RunHeader, Verdict, decide, final_points, lacking
from graders.stored import UNDECODABLE, StoredRun
from graders.submission import digest

SUBMISSION = "submission/"
RECORDS = "run.jsonl"
VERDICT = "verdict.json"
ALWAYS_AT_END = ("status", "ended")
"""What the end of every run says; the rest of AT_END is missing in old ones, and not compared there."""


@dataclass(frozen=True)
class Flaw:
    """Why a run proves nothing: a name for the kind, and a sentence without its full stop."""

    name: str
    said: str


@dataclass(frozen=True)
class Audit:
    """What an examination of a run found; `verdict` is None where none can be read, `signer` a fingerprint."""

    place: Path
    verdict: Verdict | None
    files: int
    bytes: int
    signer: str | None
    flaws: tuple[Flaw, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the run."""
        return not self.flaws

    def text(self) -> str:
        """One line on the run, and below it one for each flaw."""
        if self.verdict is None or not self.holds:
            count = f"{len(self.flaws)} finding{'s' if len(self.flaws) > 1 else ''}"
            return "\n".join([f"{self.place}: does not hold, {count}", *(f"  {e.name}: {e.said}" for e in self.flaws)])
        signed = f"signed by {self.signer}" if self.signer else "not signed"
        return (
            f"{self.place}: holds; {self.verdict.points}/{self.verdict.max_points} {self.verdict.status}; "
            f"{self.files} files, {self.bytes / 1e6:.1f} MB; {signed}"
        )


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of run.jsonl that a verdict rests on."""

    header: RunHeader
    results: dict[str, CheckResult]
    findings: dict[str, Finding]
    redacted: dict[str, int]
    ended: dict[str, Any] | None


def audit(place: Path, key: Ed25519PublicKey | None = None) -> Audit:
    """Examines a stored run; with `key`, only a run that this key signed holds."""
    try:
        with StoredRun(place) as run:
            return _examine(run, key)
    except (RunUnreadable, OSError) as error:
        said = str(error) if isinstance(error, RunUnreadable) else f"{error.filename} cannot be read: {error.strerror}"
        return Audit(place, None, 0, 0, None, (Flaw("unreadable", said),))


def _examine(run: StoredRun, key: Ed25519PublicKey | None) -> Audit:
    flaws: list[Flaw] = []
    try:
        flaws += [Flaw(change.kind, change.said) for change in run.tampered()]
    except RunUnreadable as error:
        flaws.append(Flaw("unfinished" if not run.has(MANIFEST) else "manifest", str(error)))
    signer, said = signature(run, key)
    flaws += said
    verdict: Verdict | None = None
    try:
        verdict = _verdict(run)
        flaws += disagreements(verdict, _facts(run), _submission(run), frozenset(run.names))
    except RunUnreadable as error:
        flaws.append(Flaw("unreadable", str(error)))
    return Audit(run.place, verdict, len(run.names), run.bytes, signer, tuple(flaws))


def disagreements(
    verdict: Verdict, facts: Facts, submission: dict[str, bytes], names: frozenset[str]
) -> Iterator[Flaw]:
    """Where a verdict is not what its records say.

    Args:
        verdict: of the run.
        facts: its records.
        submission: its copy of what was handed in, by name.
        names: of all its files.
    """
    for field in RunHeader.__struct_fields__:
        told, known = getattr(verdict, field), getattr(facts.header, field)
        if told != known:
            yield Flaw("header", f"{VERDICT} says {field} {_show(told)}, and {RECORDS} {_show(known)}")
    yield from _checks(verdict, facts, names)
    points = sum(check.points for check in verdict.checks)
    for name, told, counted, what in (
        ("points", verdict.points, points, "checks"),
        ("max_points", verdict.max_points, sum(check.max_points for check in verdict.checks), "checks"),
        ("status", verdict.status, "error" if verdict.reason else decide(verdict.checks), "checks"),
        ("final_points", verdict.final_points, final_points(points, verdict.late), "checks and lateness"),
    ):
        if told != counted:
            yield Flaw(name, f"{VERDICT} says {name} {_show(told)}, and its {what} come to {_show(counted)}")
    yield from _at_end(verdict, facts.ended)
    yield from _handed_in(verdict, facts, submission)


def _checks(verdict: Verdict, facts: Facts, names: frozenset[str]) -> Iterator[Flaw]:
    listed = [check.id for check in verdict.checks]
    for name in sorted({each for each in listed if listed.count(each) > 1}):
        yield Flaw("check", f"{VERDICT} lists the check {name!r} more than once")
    for name in sorted(facts.results.keys() - set(listed)):
        yield Flaw("check", f"{RECORDS} has a result of the check {name!r}, which {VERDICT} does not list")
    missing = lacking(verdict.checks)
    for check in verdict.checks:
        known, finding = facts.results.get(check.id), facts.findings.get(check.id)
        if known is not None and missing is not None:  # its points were those of a check by itself
            known = msgspec.structs.replace(known, points=check.points)
        if known is None and (check.status != "error" or check.points):
            yield Flaw("check", f"{VERDICT} says that {check.id!r} {_ended(check)}, and {RECORDS} has no result of it")
        elif known is not None and known != check:
            differs = [each for each in CheckResult.__struct_fields__ if getattr(check, each) != getattr(known, each)]
            said = "; ".join(
                f"{field} {_show(getattr(check, field))} in {VERDICT}, {_show(getattr(known, field))} in {RECORDS}"
                for field in differs
            )
            yield Flaw("check", f"the check {check.id!r} has {said}")
        yield from _earned(check, finding, missing)
        for name in check.evidence:
            if name not in names:
                yield Flaw("evidence", f"the check {check.id!r} rests on {name}, which is missing")


def _earned(check: CheckResult, finding: Finding | None, missing: CheckResult | None) -> Iterator[Flaw]:
    """What a check's status and points are not by its last measurement, and by the essential check that is missing."""
    if check.status == "passed" and (finding is None or finding.verdict != "passed"):
        found = f"was {finding.verdict}" if finding else "was never taken"
        yield Flaw("check", f"the check {check.id!r} passed, though its last measurement {found}")
    if check.points != (check.max_points if check.status == "passed" and missing is None else 0):
        but = f", and nothing is earned without {missing.title!r}" if missing else ""
        yield Flaw("points", f"the check {check.id!r} {_ended(check)} of {check.max_points}{but}")


def _at_end(verdict: Verdict, ended: dict[str, Any] | None) -> Iterator[Flaw]:
    if ended is None:
        yield Flaw("unfinished", f"{RECORDS} does not say that the run ended")
        return
    told = msgspec.json.decode(msgspec.json.encode(verdict), type=dict[str, Any])  # as JSON has it: no tuples
    for field in AT_END:
        if field not in ended and field not in ALWAYS_AT_END:
            continue
        if told[field] != ended.get(field):
            known = _show(ended.get(field))
            yield Flaw(field, f"{VERDICT} says {field} {_show(told[field])}, and the end of {RECORDS} {known}")


def _handed_in(verdict: Verdict, facts: Facts, submission: dict[str, bytes]) -> Iterator[Flaw]:
    """The digest is of what was handed in, so a copy in which secrets were redacted has another."""
    redacted = any(facts.redacted.get(f"{SUBMISSION}{name}") for name in submission)
    found = digest(submission) if submission else None
    if verdict.submission != found and not (redacted and verdict.submission and found):
        yield Flaw(
            "submission",
            f"{VERDICT} is on a submission of digest {_show(verdict.submission)}, and the copy kept has {_show(found)}",
        )


def signature(run: StoredRun, key: Ed25519PublicKey | None) -> tuple[str | None, list[Flaw]]:
    """The fingerprint of the key that signed the manifest, and what is wrong with it; `key` is as in `audit`."""
    wanted = signing.fingerprint(key) if key else None
    if not run.has(SIGNATURE):
        said = f"the run has no {SIGNATURE}, and it is to be signed by {wanted}"
        return None, [Flaw("unsigned", said)] if wanted else []
    try:
        found = signing.Signature.decode(run.raw(SIGNATURE))
    except (*UNDECODABLE, RunUnreadable) as error:
        return None, [Flaw("signature", f"{SIGNATURE} is no signature that can be read: {error}")]
    if not run.has(MANIFEST) or not found.fits(run.raw(MANIFEST)):
        said = f"{SIGNATURE} does not fit {MANIFEST}: one of them was changed after the run was signed"
        return found.fingerprint, [Flaw("signature", said)]
    if wanted and found.fingerprint != wanted:
        said = f"the run is signed by {found.fingerprint}, and it is to be signed by {wanted}"
        return found.fingerprint, [Flaw("signer", said)]
    return found.fingerprint, []


def _verdict(run: StoredRun) -> Verdict:
    try:
        verdict = msgspec.json.decode(run.raw(VERDICT), type=Verdict)
    except UNDECODABLE as error:
        raise RunUnreadable(f"{VERDICT} is no verdict that can be read: {error}") from error
    if verdict.schema != SCHEMA:
        raise RunUnreadable(f"{VERDICT} has the schema {verdict.schema!r}; this program reads {SCHEMA!r}")
    return verdict


def _facts(run: StoredRun) -> Facts:
    """Reads run.jsonl; of several results of a check the last counts, as in the run itself."""
    header: RunHeader | None = None
    results, findings, redacted = dict[str, CheckResult](), dict[str, Finding](), dict[str, int]()
    ended: dict[str, Any] | None = None
    number = 0
    try:
        for number, text in enumerate(run.raw(RECORDS).splitlines(), 1):
            line = msgspec.json.decode(text, type=dict[str, Any])
            if number == 1 and line != {"format": FORMAT}:
                raise RunUnreadable(f"{RECORDS} begins with {_show(line)}; this program reads the format {FORMAT!r}")
            match line.get("kind"):
                case "start":
                    header = msgspec.convert(line["header"], RunHeader)
                case "check":
                    result = msgspec.convert(line["result"], CheckResult)
                    results[result.id] = result
                case "attempt":
                    findings[line["check"]] = msgspec.convert(line["finding"], Finding)
                case "kept":
                    redacted = msgspec.convert(line["redacted"], dict[str, int])
                case "end":
                    ended = line
    except (*UNDECODABLE, KeyError) as error:
        raise RunUnreadable(f"line {number} of {RECORDS} is no fact of a run: {error}") from error
    if header is None:
        raise RunUnreadable(f"{RECORDS} does not say how the run began")
    return Facts(header=header, results=results, findings=findings, redacted=redacted, ended=ended)


def _submission(run: StoredRun) -> dict[str, bytes]:
    names = [name for name in run.names if name.startswith(SUBMISSION)]
    if (size := sum(map(run.size, names))) > MOST_FILE_BYTES:
        raise RunUnreadable(f"{SUBMISSION} has {size} bytes, and none has more than {MOST_FILE_BYTES}")
    return {name.removeprefix(SUBMISSION): run.raw(name) for name in names}


def _ended(check: CheckResult) -> str:
    return f"is {check.status} with {check.points} points"


def _show(value: object) -> str:
    """A value as JSON has it, as much of it as fits a line."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else f"{text[:97]}..."
