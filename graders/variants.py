"""The same lab with other numbers for each student, drawn from a course's secret and the student's id.

Place: the plugin grades by the numbers that `draw` gives, `gpulab variant` writes them down for a student, the verdict
keeps them. Limits: of the lab's own choices only, so two students may draw the same; who knows the secret knows all
draws. The secret itself is never written anywhere: a fingerprint tells whether two runs had the same one.

For each group of choices: the number HMAC-SHA256(secret, "gpulab/variant/v1", lab, level, group, student), its parts
joined by NUL, modulo how many choices there are (RFC 2104; the remainder's bias is below 2**-240).
"""

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from graders.errors import GraderError
from graders.lab import Lab, Level
from graders.record import pretty, write_whole

FORMAT = "gpulab/variant/v1"
VARIABLE = "GPULAB_COURSE_SECRET"
SHORTEST = 16
LONGEST_ID = 200


class WrongVariant(GraderError):
    """A student's numbers cannot be told from what was given."""


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A student's numbers for a lab, by level and name; `fingerprint` is of the secret that drew them."""

    format: str = FORMAT
    lab: str
    student: str
    fingerprint: str
    numbers: Mapping[Level, Mapping[str, float]]


def draw(lab: Lab, student: str, secret: bytes) -> Variant:
    """The numbers of a student; always the same for the same lab, id and secret."""
    numbers: dict[Level, dict[str, float]] = {}
    for level, groups in lab.variants.items():
        numbers[level] = {}
        for group, choices in groups.items():
            message = "\0".join((FORMAT, lab.name, level, group, student)).encode()
            numbers[level] |= choices[int.from_bytes(hmac.digest(secret, message, "sha256")) % len(choices)]
    return Variant(lab=lab.name, student=student, fingerprint=fingerprint(secret), numbers=numbers)


def fingerprint(secret: bytes) -> str:
    """Sixteen digits that tell secrets apart and nothing about them, as a secret is too long to be tried."""
    return hmac.digest(secret, b"gpulab/course-secret/v1", "sha256").hex()[:16]


def applied(lab: Lab, variant: Variant) -> Lab:
    """The lab with a student's numbers.

    Raises:
        WrongVariant: they are for another lab, or numbers that this lab does not offer.
    """
    if variant.lab != lab.name:
        raise WrongVariant(f"these numbers of {variant.student!r} are for {variant.lab}, not for {lab.name}; draw anew")
    if variant.numbers.keys() != lab.variants.keys():
        raise WrongVariant(_not_offered(lab, variant, "for the levels " + (", ".join(variant.numbers) or "none")))
    for level, groups in lab.variants.items():
        left = dict(variant.numbers[level])
        for choices in groups.values():
            chosen = {name: left.pop(name, None) for name in choices[0]}
            if chosen not in choices:
                raise WrongVariant(_not_offered(lab, variant, _words(chosen)))
        if left:
            raise WrongVariant(_not_offered(lab, variant, _words(left)))
    thresholds = {level: {**own, **variant.numbers.get(level, {})} for level, own in lab.thresholds.items()}
    return msgspec.structs.replace(lab, thresholds=thresholds)


def changes(lab: Lab, variant: Variant, level: Level) -> list[str]:
    """A line for each number of a student that is not the lab's own."""
    own = lab.thresholds.get(level, {})
    return [
        f"{name} = {number:g}, where the lab's own is {own[name]:g}"
        for name, number in variant.numbers.get(level, {}).items()
        if number != own[name]
    ]


def secret_from(file: Path | None, env: Mapping[str, str]) -> bytes | None:
    """The course's secret: what is in the file, else in the environment variable, else None.

    Raises:
        WrongVariant: the file cannot be read, or the secret is so short that it could be found by trying.
    """
    if file is None and VARIABLE not in env:
        return None
    try:
        secret = env[VARIABLE].encode() if file is None else file.read_bytes()
    except OSError as error:
        raise WrongVariant(
            f"the course's secret in {file} cannot be read ({error.strerror}); name a file that holds it"
        ) from error
    secret, where = secret.strip(), str(file or VARIABLE)
    if len(secret) < SHORTEST:
        raise WrongVariant(
            f"the course's secret in {where} has {len(secret)} bytes, where {SHORTEST} are the fewest; make one with: "
            "openssl rand -hex 32"
        )
    return secret


def checked_id(student: str) -> str:
    """A student's id as it is; raises WrongVariant for one that could be mistaken for another."""
    if not student or not student.isprintable() or student != student.strip() or len(student) > LONGEST_ID:
        raise WrongVariant(
            f"{student!r} is no id of a student: it has to be printable, without a space at either end, and of at most "
            f"{LONGEST_ID} characters; give such a one"
        )
    return student


def read(file: Path) -> Variant:
    """Reads what `write` wrote; raises WrongVariant when it is not that."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Variant)
    except OSError as error:
        raise WrongVariant(f"the numbers in {file} cannot be read ({error.strerror}); name another file") from error
    except msgspec.DecodeError as error:
        raise WrongVariant(
            f"{file} does not hold a student's numbers: {error}; let `gpulab variant` write it"
        ) from error
    if found.format != FORMAT:
        raise WrongVariant(f"{file} has the format {found.format!r}, this program reads {FORMAT!r}; draw anew")
    return found


def write(variant: Variant, file: Path) -> None:
    """Writes a student's numbers at once and whole; raises WrongVariant where it cannot."""
    try:
        write_whole(file, text_of(variant).encode())
    except OSError as error:
        raise WrongVariant(f"the numbers cannot be written to {file} ({error.strerror}); name another file") from error


def text_of(variant: Variant) -> str:
    """A student's numbers as `write` writes them."""
    return pretty(variant).decode() + "\n"


def _not_offered(lab: Lab, variant: Variant, what: str) -> str:
    return f"the numbers of {variant.student!r} are {what}, which {lab.name} does not offer; draw them anew"


def _words(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {number:g}" if number is not None else f"no {name}" for name, number in numbers.items())
