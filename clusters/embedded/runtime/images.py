"""Images of the embedded cluster: names for environments of this machine.

Place: the runtime of each node finds an image's environment here when the kubelet asks for it. `prepare.py` writes the
list of the catalogue's images, `additions.py` reads a user's own. Limits: nothing is downloaded and nothing is built
here. A container's root is the machine's own system, read-only, or the folder that its image names (`layer.py`); to it
an image adds folders, variables and a program.
"""

import fnmatch
import re
from pathlib import Path

import msgspec

from clusters.api import SpecError

_DEFAULT_PREFIX = re.compile(r"^(index\.)?docker\.io/(library/)?|^library/")


class Bind(msgspec.Struct, frozen=True):
    """A folder of this machine that containers see, read-only, at `target`."""

    source: str
    target: str


class Image(msgspec.Struct, frozen=True):
    """One image.

    Attributes:
        reference: its name.
        digest: of the recipe or description it was made by.
        entrypoint: program and arguments that every container has, unless its pod says otherwise.
        command: further arguments, unless its pod gives some.
        env: variables.
        binds: what of this machine containers see besides.
        size: of its own folder, in bytes.
        root: the folder of this machine that is the root of its containers; "" for the machine's own system.
        user: whom its containers run as, by name or number, with ":group" or without; "" for root.
        working_dir: where they start.
    """

    reference: str
    digest: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    binds: tuple[Bind, ...] = ()
    size: int = 0
    root: str = ""
    user: str = ""
    working_dir: str = "/"


class Entry(msgspec.Struct, frozen=True):
    """References, with `*` for any text, that stand for one image; `image` is None until it has been prepared."""

    references: tuple[str, ...]
    image: Image | None = None


class Images:
    """What a user added to the cluster, then the list in a file, which is read again when the file has changed."""

    def __init__(self, path: Path, added: tuple[Entry, ...] = ()) -> None:
        self._path, self._added = path, added
        self._seen: tuple[int, ...] = ()
        self._entries: tuple[Entry, ...] = ()
        self._refresh()

    def find(self, reference: str) -> Image | None:
        """The image for a reference or a digest, under the full name it was asked by, or None."""
        self._refresh()
        digest = reference.rpartition("@")[2]
        name = normal(reference)
        for image in self.all():
            if digest == image.digest:
                return image
        entry = self._entry(name)
        return msgspec.structs.replace(entry.image, reference=name) if entry and entry.image else None

    def missing(self, reference: str) -> str:
        """Why there is no such image and what to do: the message of a failed pull."""
        self._refresh()
        asked = f"there is no image {reference!r} on this node"
        if self._entry(normal(reference)):
            return (
                f"{asked} yet; it has to be prepared, which starting a cluster for a lab that needs it does, "
                "as in `gpulab up --lab LAB`"
            )
        known = ", ".join(name for entry in self._entries for name in entry.references)
        return (
            f"{asked}; the embedded cluster downloads none, its images are environments of this machine: {known}. "
            "Use one of these, or a cluster with a container runtime"
        )

    def all(self) -> list[Image]:
        """The images that have been prepared."""
        self._refresh()
        return [entry.image for entry in self._entries if entry.image]

    def _entry(self, name: str) -> Entry | None:
        return next((entry for entry in self._entries if matches(name, entry.references)), None)

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            seen = status.st_mtime_ns, status.st_ino, status.st_size
            if seen != self._seen:
                self._entries = self._added + entries(self._path)
                self._seen = seen
        except OSError as error:
            raise SpecError(f"the list of images {self._path} cannot be read: {error.strerror}") from error


def load(path: Path, added: Path | None = None) -> Images:
    """The images that the file lists, after those in the file `added`, which is read once.

    Raises:
        SpecError: one is not there, or not a list of images.
    """
    return Images(path, entries(added) if added else ())


def entries(path: Path) -> tuple[Entry, ...]:
    """What is in a list of images.

    Raises:
        SpecError: it is not there, or not such a list.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Entry, ...])
    except OSError as error:
        raise SpecError(f"the list of images {path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise SpecError(f"{path} is no list of images: {error}") from error


def normal(reference: str) -> str:
    """A reference without Docker Hub's prefixes and with its tag, as in "busybox:latest"; digests are left as given."""
    name = _DEFAULT_PREFIX.sub("", reference)
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def pattern(reference: str) -> str:
    """A reference as `matches` wants it: with `*` for any text it has no tag but its own."""
    name = _DEFAULT_PREFIX.sub("", reference)
    return name if "*" in name.rpartition("/")[2] else normal(name)


def matches(reference: str, patterns: tuple[str, ...]) -> bool:
    """Whether a normal reference is one of those that the patterns stand for."""
    return any(fnmatch.fnmatchcase(reference, pattern) for pattern in patterns)
