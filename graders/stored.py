"""A run that was kept: the files of its folder, or of the one file it was packed as, and what was changed since.

Place: `gpulab check`, `pack` and whatever reads evidence again. Limits: it only reads, follows no link, and says
nothing of what the files mean.

    with StoredRun(place) as run:
        if not run.tampered():
            load = samples.Run.decode(run.read("evidence/objective-1-1-submission.jsonl.gz"))
"""

import hashlib
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from graders import packed
from graders.packed import MOST_FILE_BYTES, SUFFIX, Packed, RunUnreadable, is_plain
from graders.record import FORMAT, MANIFEST, SIGNATURE

MARKS = (MANIFEST, "run.jsonl", "verdict.json")
"""A folder that holds one of these is a run's."""
PROVEN = "kept.json"
"""Beside a verdict that `gpulab verify` keeps, without its run: it proves a lab, and nobody's submission."""
VARIANCE = "variance-"
"""How the names of the reports of `--repeat` begin, which are kept beside the runs."""
PAGE = ".html"
"""How the names of the pages of `gpulab report` end, which are kept there as well."""


UNDECODABLE = (ValueError, RecursionError)
"""What msgspec raises for JSON that is none, of another shape, not UTF-8, or nested without end."""
STRANGE = "is a link, no regular file, or called as no file of a run is"


class Manifest(msgspec.Struct, frozen=True):
    """What manifest.json says: SHA-256 (hex) and bytes of every file, and the run's name; old ones have sums only."""

    format: str
    sha256: dict[str, str]
    bytes: dict[str, int] = {}
    run: str | None = None


@dataclass(frozen=True)
class Change:
    """A file that is not as it was sealed: what became of it, its name, and a sentence on it."""

    kind: Literal["added", "changed", "link", "missing", "renamed", "swapped", "truncated", "damaged"]
    name: str
    said: str


class StoredRun:
    """A stored run; `place` is its folder, or the file it was packed as.

    `names` are those of its files, relative to its folder and sorted.

    Raises:
        RunUnreadable: there is nothing of the kind, or a packed file that no run can have become.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._files = _Folder(place) if place.is_dir() else Packed(place)
        self.names = self._files.names
        self._there = frozenset(self.names)

    def has(self, name: str) -> bool:
        """Whether it holds a file of that name."""
        return name in self._there

    def raw(self, name: str) -> bytes:
        """A file's bytes as they are stored.

        Raises:
            RunUnreadable: it is not there, too large, or damaged.
        """
        self._refuse_strange(name)
        return self._files.raw(name)

    def sum(self, name: str) -> str:
        """SHA-256 (hex) of a file's bytes, of which little is in memory at once; raises as `raw`."""
        self._refuse_strange(name)
        return self._files.sum(name)

    def size(self, name: str) -> int:
        """Bytes of a file that it holds, as stored."""
        return self._files.size(name)

    def read(self, name: str) -> bytes:
        """What a file says: as `raw`, but what is compressed (.gz) is unpacked."""
        return unpacked(name, self.raw(name))

    @property
    def bytes(self) -> int:
        """How much all its files take."""
        return sum(map(self._files.size, self.names))

    @property
    def manifest(self) -> Manifest:
        """What it was sealed with.

        Raises:
            RunUnreadable: it has no manifest that can be read.
        """
        if not self.has(MANIFEST):
            raise RunUnreadable(f"{self.place} has no {MANIFEST}: its run did not end, so it proves nothing")
        try:
            found = msgspec.json.decode(self.raw(MANIFEST), type=Manifest)
        except UNDECODABLE as error:
            raise RunUnreadable(f"{MANIFEST} in {self.place} cannot be read: {error}; it proves nothing") from error
        if found.format != FORMAT:
            raise RunUnreadable(
                f"{MANIFEST} in {self.place} has the format {found.format!r}; this program reads {FORMAT!r}"
            )
        if strange := sorted(name for name in found.sha256 if not is_plain(name)):
            raise RunUnreadable(f"{MANIFEST} in {self.place} lists {strange[0]!r}, which no file of a run is called")
        return found

    def tampered(self) -> tuple[Change, ...]:
        """Everything that is not as it was sealed, by name; nothing when the run is whole.

        Raises:
            RunUnreadable: it has no manifest that can be read.
        """
        sealed, now, broken = self.manifest, dict[str, str](), list[Change]()
        for name in self.names:
            if name in (MANIFEST, SIGNATURE):
                continue
            try:
                now[name] = self.sum(name)
            except RunUnreadable as error:
                now[name] = ""
                broken.append(Change("damaged", name, str(error)))
        strangers = [Change("link", name, f"{name} {STRANGE}") for name in self._files.strangers]
        told = {change.name for change in [*broken, *strangers]}
        found = [change for change in self._changes(sealed, now) if change.name not in told]
        return tuple(sorted([*broken, *strangers, *found], key=lambda change: change.name))

    def _refuse_strange(self, name: str) -> None:
        if name not in self._there:
            raise RunUnreadable(f"{self.place} holds no file {name!r}; its run did not keep one, or it was taken away")
        if (size := self._files.size(name)) > MOST_FILE_BYTES:
            raise RunUnreadable(
                f"{name} in {self.place} has {size} bytes, and no file of a run has more than {MOST_FILE_BYTES}; "
                "take the run from where it was graded again"
            )

    def _changes(self, sealed: Manifest, now: dict[str, str]) -> Iterator[Change]:
        was = sealed.sha256
        added = {now[name]: name for name in sorted(now, reverse=True) if name not in was}
        changed = {name: now[name] for name in now if name in was and now[name] != was[name]}
        held = {was[name]: name for name in changed}
        renamed = set()
        for name in was.keys() - now.keys():
            if moved := added.get(was[name]):
                renamed.add(moved)
                yield Change("renamed", name, f"{name} is called {moved} now")
            else:
                yield Change("missing", name, f"{name} is missing")
        for name, digest in changed.items():
            other, size, length = held.get(digest), self._files.size(name), sealed.bytes.get(name)
            if other and changed[other] == was[name]:
                yield Change("swapped", name, f"{name} holds what {other} held")
            elif length is not None and size < length:
                yield Change("truncated", name, f"{name} has {size} bytes, where the run wrote {length}")
            else:
                yield Change("changed", name, f"{name} is not what the run wrote")
        for name in now.keys() - was.keys() - renamed:
            yield Change("added", name, f"{name} was added after the run")

    def close(self) -> None:
        """Closes what it is read from."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Folder:
    """The files of a run's folder; links, devices and names that cannot be shown are strangers, and never read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        names, strangers = [], []
        for place, folders, files in os.walk(folder):
            for path in (Path(place, name) for name in [*folders, *files]):
                mode, name = path.lstat().st_mode, path.relative_to(folder).as_posix()
                if stat.S_ISREG(mode) and is_plain(name):
                    names.append(name)
                elif not stat.S_ISDIR(mode):
                    strangers.append(repr(name))
        self.names, self.strangers = tuple(sorted(names)), tuple(sorted(strangers))

    def size(self, name: str) -> int:
        return (self._folder / name).lstat().st_size

    def raw(self, name: str) -> bytes:
        with self._opened(name) as file:
            return file.read()

    def sum(self, name: str) -> str:
        with self._opened(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def close(self) -> None:
        """There is nothing to close."""

    def _opened(self, name: str) -> BufferedReader:
        return os.fdopen(os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def unpacked(name: str, stored: bytes) -> bytes:
    """What a stored file says: one whose name ends in .gz is unpacked, as far as a run's can be large.

    Raises:
        RunUnreadable: it is damaged, or unpacks to more.
    """
    if not name.endswith(".gz"):
        return stored
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(stored, MOST_FILE_BYTES)
    except zlib.error as error:
        raise RunUnreadable(f"{name} is damaged: {error}") from error
    if stream.unconsumed_tail:
        raise RunUnreadable(f"{name} unpacks to more than {MOST_FILE_BYTES} bytes, which no file of a run has")
    if not stream.eof or stream.unused_data:
        raise RunUnreadable(f"{name} is damaged: it does not end where its content does")
    return content


def runs_among(places: Sequence[Path]) -> list[Path]:
    """These places without what reports on runs and lies beside them, which a shell finds by results/LAB/* as well.

    Raises:
        RunUnreadable: there is nothing but such reports.
    """
    left = [place for place in places if not (_is_report(place.name) and place.is_file())]
    if places and not left:
        raise RunUnreadable(f"{places[0]} reports on runs, and is none; name a run's folder")
    return left


def _is_report(name: str) -> bool:
    return name.startswith(VARIANCE) or name.endswith(PAGE)


def find(places: Sequence[Path]) -> list[Path]:
    """The runs in these places, each a run's folder, a packed run, or a folder that holds some, however deep.

    Raises:
        RunUnreadable: a place is not there, or holds no run.
    """
    found: list[Path] = []
    for place in runs_among(places):
        here = list(_runs_below(place)) if place.is_dir() else [place] if place.exists() else []
        if not here:
            why = "holds no run" if place.is_dir() else "is not there"
            raise RunUnreadable(f"{place} {why}; name a run's folder, a packed run, or a folder of runs, as results/")
        found += here
    return found


def _runs_below(folder: Path) -> Iterator[Path]:
    if (folder / PROVEN).exists():
        return
    if any((folder / mark).exists() for mark in MARKS):
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _runs_below(path)
        elif path.name.endswith(SUFFIX):
            yield path


def pack(folder: Path, out: Path) -> tuple[int, int]:
    """Packs a run's folder as one new file; returns how many files it holds, and its bytes.

    Raises:
        RunUnreadable: it is no run's folder, holds what no run holds, or `out` is there already.
    """
    if not any((folder / mark).is_file() for mark in MARKS):
        raise RunUnreadable(f"{folder} is no run's folder; name one, as in results/")
    files = _Folder(folder)
    if files.strangers:
        raise RunUnreadable(f"{folder} cannot be packed: {files.strangers[0]} {STRANGE}; take it away")
    packed.pack(out, files.names, files.raw)
    return len(files.names), out.stat().st_size
