"""On what terms a run is graded: whose it is, with which numbers, which attempt it is and how late.

Place: conftest.py makes them from the command line for each lab, `gpulab` asks for them before it starts pytest, the
plugin grades by them. Limits: what is late is decided in `lateness`, which attempts count in
`attempts`.
"""

import argparse
from datetime import datetime
from pathlib import Path

import msgspec

from graders import variants
from graders.attempts import WrongRules, counted, number_of_attempt, read_rules
from graders.errors import HarnessError
from graders.lab import Lab, known_labs
from graders.lateness import Lateness, lateness
from graders.rubric import Verdict, read_verdicts
from graders.variants import Variant, WrongVariant


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """As the fields of those names in a verdict."""

    student: str | None = None
    variant: Variant | None = None
    submitted: datetime | None = None
    attempt: int | None = None
    late: Lateness | None = None


def terms_of(lab: Lab, options: argparse.Namespace, secret: bytes | None, *, now: datetime, results: Path) -> Terms:
    """What the command line (graders/flags.py) and the course's secret say for a lab.

    Args:
        lab: its own folder is among all labs.
        options: the command line.
        secret: the course's, if there is one.
        now: when it was submitted, where the command line says nothing else.
        results: where earlier verdicts are.

    Raises:
        WrongVariant: a student's numbers cannot be told from them.
        WrongRules: the course's rules cannot be kept.
        NoAttemptLeft: the student has had all attempts.
    """
    terms = _numbers(lab, options, secret)
    terms = msgspec.structs.replace(terms, submitted=options.submitted)
    if options.attempts is None:
        return terms
    rules = read_rules(options.attempts, lab.name, known_labs(lab.folder.parent))
    at = options.submitted or now
    late = lateness(rules.deadline, at) if rules.deadline else None
    if rules.attempts is None:
        return msgspec.structs.replace(terms, late=late)
    if terms.student is None:
        raise WrongRules(f"{options.attempts} limits attempts, which are a student's; say whose this is: --student ID")
    earlier = counted(_kept(results / lab.name, terms.student), terms.student)
    number = number_of_attempt(rules.attempts, earlier, at, terms.student, lab.name)
    return msgspec.structs.replace(terms, late=late, attempt=number)


def _kept(results: Path, student: str) -> list[Verdict]:
    try:
        return [verdict for _, verdict in read_verdicts(results)]
    except HarnessError as error:
        raise WrongRules(
            f"{student!r} may have had all attempts, which are counted from the verdicts in {results}: {error}, or "
            "take its folder away if it shall not count"
        ) from error


def _numbers(lab: Lab, options: argparse.Namespace, secret: bytes | None) -> Terms:
    student = options.student
    if options.variant:
        variant = _given(lab, options, secret)
        return Terms(student=variant.student, variant=variant)
    if student is None and options.course_secret_file:
        raise WrongVariant("asked to draw numbers with a course's secret, but for nobody; name a student: --student ID")
    if student is None or options.no_variants or not lab.variants:
        return Terms(student=student)
    if secret is None:
        raise WrongVariant(
            f"{lab.name} has other numbers for each student, and those of {student!r} need the course's secret; give "
            f"--course-secret-file FILE, set {variants.VARIABLE}, give the numbers themselves (--variant FILE), or ask "
            "for the lab's own (--no-variants)"
        )
    return Terms(student=student, variant=variants.draw(lab, student, secret))


def _given(lab: Lab, options: argparse.Namespace, secret: bytes | None) -> Variant:
    variant = variants.read(options.variant)
    student = variants.checked_id(variant.student)
    if options.student not in (None, student):
        raise WrongVariant(f"{options.variant} holds the numbers of {student!r}, not of {options.student!r}; name one")
    if options.no_variants:
        raise WrongVariant("asked for a student's numbers (--variant) and for the lab's own (--no-variants); give one")
    variants.applied(lab, variant)
    if secret is not None and variant != variants.draw(lab, student, secret):
        raise WrongVariant(
            f"{options.variant} does not hold what the course's secret draws for {student!r}; draw the numbers anew"
        )
    return variant
