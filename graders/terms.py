"""On what terms a run is graded: whose it is, and with which numbers.

Place: conftest.py makes them from the command line for each lab, `gpulab` asks for them before it starts pytest, the
plugin grades by them. Limits: it decides nothing about points.
"""

import argparse

import msgspec

from graders import variants
from graders.lab import Lab
from graders.variants import Variant, WrongVariant


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """`student` is None for a run that is nobody's; `variant` for one with the lab's own numbers."""

    student: str | None = None
    variant: Variant | None = None


def terms_of(lab: Lab, options: argparse.Namespace, secret: bytes | None) -> Terms:
    """What the command line (graders/flags.py) and the course's secret say for a lab.

    Raises:
        WrongVariant: a student's numbers cannot be told from them.
    """
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
