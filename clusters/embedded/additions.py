"""Reads the images that a user adds: a TOML file that maps references to a root folder or to programs of this machine.

Place: `clusters.backends` reads them before a cluster starts; `backend.start` copies what they say into the cluster's
state. Limits: folders and files stay where they are and are not copied, so they must stay as they are while a cluster
uses them.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from clusters.api import SpecError
from clusters.embedded.catalogue import text_digest
from clusters.embedded.runtime.images import Bind, Entry, Image, matches, normal, pattern

_USER = re.compile(r"[^:\s]+(:[^:\s]+)?")
_UNFIT = frozenset(":,\\\n")  # what separates the options of an overlay mount


class Addition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image; paths of this machine are relative to the file's folder, `binds` maps a container's path to one."""

    references: tuple[str, ...]
    root: str = ""
    binds: dict[str, str] = {}
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    user: str = ""
    working_dir: str = "/"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    images: tuple[Addition, ...]


def read(files: Iterable[Path]) -> tuple[Entry, ...]:
    """The images in some files, those of the first file first.

    Raises:
        SpecError: a file cannot be read, or says what cannot be; names the file and the image.
    """
    return tuple(_entry(file, each) for file in files for each in _decode(file).images)


def in_folder(folder: Path) -> list[Path]:
    """The files of images in a folder, by name; none when it is not there."""
    return sorted(folder.glob("*.toml"))


def others(references: Iterable[str], added: Iterable[Entry]) -> list[str]:
    """Which of these references no added image answers to."""
    known = list(added)
    return [name for name in references if not any(matches(normal(name), each.references) for each in known)]


def places(added: Iterable[Entry]) -> list[str]:
    """The folders and files of this machine that added images need."""
    images = [each.image for each in added if each.image]
    return [path for image in images for path in (image.root, *(bind.source for bind in image.binds)) if path]


def _decode(file: Path) -> _File:
    try:
        return msgspec.toml.decode(file.read_bytes(), type=_File)
    except OSError as error:
        raise SpecError(f"the file of images {file} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise SpecError(f"the file of images {file} is wrong: {error}") from error


def _entry(file: Path, asked: Addition) -> Entry:
    if wrong := _wrong(asked):
        name = asked.references[0] if asked.references else "an image"
        raise SpecError(f"the file of images {file} is wrong: {name}: {wrong}")
    here = file.absolute().parent
    root = _there(file, asked, here / asked.root, folder=True) if asked.root else ""
    binds = tuple(Bind(_there(file, asked, here / source), target) for target, source in asked.binds.items())
    if root and _UNFIT & set(root):
        raise SpecError(
            f"the file of images {file} is wrong: {asked.references[0]}: the root folder {root} has a colon, a comma, "
            "a backslash or a line break in its path, which no overlay mount takes; move it"
        )
    image = Image(
        reference=normal(asked.references[0].rstrip("*").removesuffix(":")),
        digest="",
        entrypoint=asked.entrypoint,
        command=asked.command,
        env=asked.env,
        binds=binds,
        root=root,
        user=asked.user,
        working_dir=asked.working_dir,
    )
    digest = f"sha256:{text_digest(msgspec.json.encode(image).decode())}"
    return Entry(tuple(map(pattern, asked.references)), msgspec.structs.replace(image, digest=digest))


def _wrong(asked: Addition) -> str:
    """What an image cannot be, as a sentence; "" when nothing is wrong."""
    if not asked.references or not all(asked.references):
        return 'it has no references; give it some, as in references = ["team/server:v1"]'
    for path in (asked.working_dir, *asked.binds):
        if not path.startswith("/"):
            return f"the container's path {path!r} does not start with /"
    if asked.user and not _USER.fullmatch(asked.user):
        return f"the user {asked.user!r} is neither NAME, NUMBER, nor one of these with :GROUP"
    return _wrong_name(asked.env)


def _wrong_name(env: Mapping[str, str]) -> str:
    wrong = [name for name, text in env.items() if not name or "=" in name or "\0" in name + text]
    return f"the variable {wrong[0]!r} has no name, or a = in it, or a NUL character" if wrong else ""


def _there(file: Path, asked: Addition, path: Path, *, folder: bool = False) -> str:
    found = path.resolve()
    if found == Path("/") or not (found.is_dir() if folder else found.exists()):
        kind = "folder" if folder else "file or folder"
        why = "the whole machine" if found == Path("/") else "not there" if not found.exists() else "no folder"
        raise SpecError(
            f"the file of images {file} is wrong: {asked.references[0]}: {path} is {why}; name a {kind} below / that "
            f"is there, absolute or relative to {file.absolute().parent}"
        )
    return str(found)
