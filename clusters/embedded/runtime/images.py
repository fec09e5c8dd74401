"""Images of the embedded cluster: names for environments of this machine.

Place: the runtime of each node finds an image's environment here when the kubelet asks for it; `prepare.py` writes the
list. Limits: nothing is downloaded and nothing is built here; a container's root is always the machine's own system,
read-only, to which an image adds folders, variables and a program.
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
    """One image: `digest` is of the recipe it was made by, `size` in bytes is that of its own folder."""

    reference: str
    digest: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    binds: tuple[Bind, ...] = ()
    size: int = 0


class Entry(msgspec.Struct, frozen=True):
    """References, with `*` for any text, that stand for one image; `image` is None until it has been prepared."""

    references: tuple[str, ...]
    image: Image | None = None


class Images:
    """The list in a file; read again when the file has changed, so that a running cluster learns of new images."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
                self._entries = msgspec.json.decode(self._path.read_bytes(), type=tuple[Entry, ...])
                self._seen = seen
        except OSError as error:
            raise SpecError(f"the list of images {self._path} cannot be read: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise SpecError(f"{self._path} is no list of images: {error}") from error


def load(path: Path) -> Images:
    """The images that the file lists.

    Raises:
        SpecError: it is not there, or not a list of images.
    """
    return Images(path)


def normal(reference: str) -> str:
    """A reference without Docker Hub's prefixes and with its tag, as in "busybox:latest"; digests are left as given."""
    name = _DEFAULT_PREFIX.sub("", reference)
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def matches(reference: str, patterns: tuple[str, ...]) -> bool:
    """Whether a normal reference is one of those that the patterns stand for."""
    return any(fnmatch.fnmatchcase(reference, pattern) for pattern in patterns)
