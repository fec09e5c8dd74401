"""Reads the catalogue of images and the recipes of those that are environments of their own.

Place: `prepare.py` makes what is described here. Limits: TOML in images/; pure but for reading these files.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from clusters.api import SpecError
from clusters.embedded.runtime.images import Bind, Image, matches, normal

Kind = TypeVar("Kind")
FOLDER = Path(__file__).with_name("images")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FORMAT = b"1"  # of what prepare.py makes from a recipe; another number makes every environment again


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A script of the recipe, run with the environment's Python; its last line must be `prints` where that is given."""

    says: str
    script: str
    arguments: tuple[str, ...] = ()
    prints: str | None = None


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The packages for one kind of machine: a lock, and the disk space that the environment needs."""

    lock: str
    gigabytes: float


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an environment is made and entered.

    `{folder}` in the texts is the environment's folder; `binds` maps a container's path to one in that folder.
    """

    entrypoint: tuple[str, ...]
    variants: dict[str, Variant]
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    binds: dict[str, str] = {}
    steps: tuple[Step, ...] = ()


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image of the catalogue: the references it answers to, and its recipe or the machine's own programs."""

    references: tuple[str, ...]
    recipe: str = ""
    command: tuple[str, ...] = ()
    python: bool = False


class _Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    images: tuple[Listing, ...]


def listings(folder: Path = FOLDER) -> tuple[Listing, ...]:
    """The images of the catalogue in `folder`; SpecError when it cannot be read."""
    return _decode(folder / "catalogue.toml", _Catalogue).images


def recipe(folder: Path, name: str) -> Recipe:
    """The recipe called `name`; SpecError when it cannot be read."""
    return _decode(folder / name / "recipe.toml", Recipe)


def find(known: Sequence[Listing], reference: str) -> Listing:
    """The image that answers to a reference; SpecError when none does."""
    for listing in known:
        if matches(normal(reference), listing.references):
            return listing
    names = ", ".join(name for listing in known for name in listing.references)
    raise SpecError(
        f"asked for the image {reference!r}, which the embedded cluster has no recipe for; it has: {names}. "
        "Use one of these, or add a recipe to clusters/embedded/images/"
    )


def digest(folder: Path, *conditions: str) -> str:
    """SHA-256 (hex) of a recipe: names and contents of its files, and the conditions it is made under."""
    total = hashlib.sha256(_FORMAT)
    for condition in conditions:
        total.update(condition.encode() + b"\0")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            total.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return total.hexdigest()


def text_digest(*texts: str) -> str:
    """SHA-256 (hex) of some texts, in this order."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def environment_image(
    reference: str, made_by: Recipe, digest: str, folder: Path, interpreter: Sequence[Bind], size: int
) -> Image:
    """The image that an environment in `folder` is; `interpreter` is what its Python needs besides."""
    own = [Bind(str(folder), str(folder)), *(Bind(str(folder / source), to) for to, source in made_by.binds.items())]
    return Image(
        reference=reference,
        digest=f"sha256:{digest}",
        entrypoint=made_by.entrypoint,
        command=made_by.command,
        env={name: text.replace("{folder}", str(folder)) for name, text in made_by.env.items()},
        binds=(*own, *interpreter),
        size=size,
    )


def system_image(listing: Listing, prefix: Path | None) -> Image:
    """The image that is the machine's own programs; `prefix` is where its Python lies when not in the system."""
    own = prefix if listing.python else None
    return Image(
        reference=normal(listing.references[0].rstrip("*").removesuffix(":")),
        digest=f"sha256:{text_digest(*listing.references, *listing.command, str(own))}",
        command=listing.command,
        binds=(Bind(str(own.resolve()), str(own)),) if own else (),
        env={"PATH": f"{own}/bin:{_PATH}"} if own else {},
    )


def _decode(path: Path, kind: type[Kind]) -> Kind:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise SpecError(f"the catalogue of images cannot be read: {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise SpecError(f"the catalogue of images is wrong: {path}: {error}") from error
