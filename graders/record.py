"""The folder of one run: facts as JSON lines, copies of evidence, and at the end a manifest of SHA-256 sums.

Place: the plugin opens one per graded run, and checks keep their evidence in it. Limits: it appends and copies; nothing
that was written is changed, but for `verdict.json`, which is replaced whole. Secrets are redacted before they are
written, but not in measured data, whose names end in .gz: that is what servers answered, byte for byte.

Everything has a bound. What is larger is kept up to it and marked as cut in run.jsonl, whose last line says how much
the run keeps of what.
"""

import contextlib
import gzip
import hashlib
import io
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from graders.errors import HarnessError, InfrastructureError
from graders.lines import FILE_BYTES, Lines, Write, encodable, write_all
from graders.lines import FORMAT as FORMAT
from graders.packed import is_plain
from graders.redact import Redactor

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
"""Of the manifest; the one file besides it that it does not list."""
RUN_BYTES = 256 << 20
"""Of all files of a run as they are stored."""
FACT_CHARACTERS = 16_384
"""Of each text in run.jsonl and verdict.json, some of which quote logs."""
_CUT = re.compile(r" \[cut: \d{1,12} more characters\]")
LEVEL = 4
"""Of gzip: of the 75 MB of a large run it leaves 11 in 0.6 s; level 1 leaves 14 in 0.4 s, level 6 10.5 in 1.8 s."""

Kept = TypeVar("Kept", bound=msgspec.Struct)


class NotWritten(InfrastructureError):
    """The run's folder cannot be written, as when its disk is full."""


class Record:
    """One run's folder.

    Args:
        folder: must not be there yet; its parents are made.
        secrets: values that are redacted wherever they stand.
        most: bytes that its files may have together.
        clock: seconds, for saying what compressing took.
        write: as os.write.
        now: the time that each fact gets.
    """

    def __init__(
        self,
        folder: Path,
        *,
        secrets: Iterable[str] = (),
        most: int = RUN_BYTES,
        clock: Callable[[], float] = time.perf_counter,
        write: Write = os.write,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self._now = folder, now
        self.broken: NotWritten | None = None
        """Why it can no longer be written, once that was seen."""
        self._secrets, self._most, self._clock, self._write = tuple(secrets), most, clock, write
        self._files, self._facts = Redactor(self._secrets, learns=True), Redactor(self._secrets)
        self._stored, self._redacted = Counter[str](), Counter[str]()
        self._cut: list[str] = []
        self._lines: dict[str, tuple[Lines, Redactor]] = {}
        self._plain = self._packed = 0
        self._seconds = 0.0
        self._run = self._open("run.jsonl", FILE_BYTES, lambda fact: _clipped(self._facts.value(fact)))

    def write(self, kind: str, **fact: object) -> None:
        """Appends one fact to run.jsonl."""
        self._run.write({"kind": kind, "at": self._now(), **fact})

    def clean(self, fact: Kept) -> Kept:
        """A fact as `write` writes it: encodable, without secrets, no text in it longer than FACT_CHARACTERS."""
        found = _clipped(Redactor(self._secrets).value(encodable(msgspec.to_builtins(fact))))
        return msgspec.convert(found, type(fact))

    def lines(self, name: str, *, most: int = FILE_BYTES, form: str = FORMAT) -> Lines:
        """A JSON lines file of its own under evidence/, of that format; the caller closes it."""
        name = f"evidence/{name}"
        own = Redactor(self._files.known, learns=True)  # of its own, as a thread of its own may write it
        lines = self._open(name, min(most, self._room), own.value, form)
        self._lines[name] = (lines, own)
        return lines

    def keep(self, name: str, content: bytes | str | Path, *, most: int = FILE_BYTES, end: bool = False) -> str:
        """Keeps evidence, given as content or as the file to copy; returns its name in the folder.

        Args:
            name: below evidence/; content of one that ends in .gz is measured data, which is compressed.
            content: of which secrets are redacted, unless it is measured data.
            most: bytes of it that are kept at most, before they are compressed.
            end: whether these are its last ones instead of its first ones.
        """
        return self.put(f"evidence/{name}", content, most=most, end=end)

    def put(self, name: str, content: bytes | str | Path, *, most: int = FILE_BYTES, end: bool = False) -> str:
        """As `keep`, but with a name relative to the run's folder."""
        place = self._place(name)
        if isinstance(content, Path):
            content = content.read_bytes()
        whole = content.encode(errors="backslashreplace") if isinstance(content, str) else content
        if name.endswith(".gz"):
            kept = _within(whole, most, end=end)
            stored = self._compressed(kept)
            if len(stored) > self._room:
                kept = _within(kept, self._room, end=end)
                stored = self._compressed(kept)
        else:
            whole = self._without_secrets(name, whole)
            kept = stored = _within(whole, min(most, self._room), end=end)
        self._write_new(place, stored)
        self._stored[name] = len(stored)
        if len(kept) < len(whole):
            self._cut.append(name)
            self.write("cut", name=name, bytes=len(whole), kept=len(kept), end=end)
        return name

    def has(self, name: str) -> bool:
        """Whether the folder holds a file of that name."""
        return (self.folder / name).is_file()

    def seal(self, sign: Callable[[bytes], bytes] | None = None) -> Path:
        """Says what is kept, closes run.jsonl and writes the manifest over everything else; returns its path.

        Args:
            sign: makes the content of the signature's file from the manifest.

        Raises:
            NotWritten: there is no room for it.
        """
        if not self._run.closed:
            self._say_what_is_kept()
        path = self.folder / MANIFEST
        try:
            self._run.close()
            found = sums(self.folder)
            sizes = {name: (self.folder / name).stat().st_size for name in found}
            manifest = pretty({"format": FORMAT, "run": self.folder.name, "sha256": found, "bytes": sizes})
            write_whole(path, manifest)
            if sign:
                write_whole(self.folder / SIGNATURE, sign(manifest))
        except OSError as error:
            raise self.failed(error) from error
        return path

    def close(self) -> None:
        """Ends a record that cannot be sealed."""
        for lines in (self._run, *(lines for lines, _ in self._lines.values())):
            with contextlib.suppress(OSError):
                lines.close()

    def failed(self, error: OSError) -> NotWritten:
        """The error to raise when the system refuses to write in the run's folder."""
        self.broken = self.broken or NotWritten(
            f"the run's folder {self.folder} cannot be written: {error.strerror}; make room there, or name another "
            "place with --out, and grade again"
        )
        return self.broken

    @property
    def _room(self) -> int:
        opened = list(self._lines.items())  # at once, as a thread may open one meanwhile
        growing = sum(lines.bytes for name, (lines, _) in opened if name not in self._stored)
        return max(0, self._most - self._stored.total() - growing)

    def _open(self, name: str, most: int, clean: Callable[[object], object], form: str = FORMAT) -> Lines:
        return Lines(self._place(name), most=most, form=form, clean=clean, refused=self.failed, write=self._write)

    def _say_what_is_kept(self) -> None:
        for name, (lines, redactor) in self._lines.items():
            lines.close()
            if redactor.count:
                self._redacted[name] = redactor.count
            if lines.left_out:
                self._cut.append(name)
                self.write("cut", name=name, bytes=lines.bytes + lines.left_out, kept=lines.bytes, end=False)
            self._stored[name] = lines.bytes
        folders = Counter[str]()
        for name, size in self._stored.items():
            folders[str(PurePosixPath(name).parent)] += size
        if self._facts.count:
            self._redacted["run.jsonl"] = self._facts.count
        self.write(
            "kept",
            files=len(self._stored),
            bytes=dict(folders),
            most=self._most,
            cut=self._cut,
            redacted=dict(self._redacted),
            compressed={"bytes": self._plain, "stored": self._packed, "seconds": round(self._seconds, 3)},
        )

    def _without_secrets(self, name: str, content: bytes) -> bytes:
        before = self._files.count
        text = content.decode(errors="surrogateescape")
        is_yaml = name.endswith((".yaml", ".yml"))
        clean = self._files.yaml(text) if is_yaml else self._files.text(text)
        if self._files.count > before:
            self._redacted[name] = self._files.count - before
        return clean.encode(errors="surrogateescape")

    def _compressed(self, content: bytes) -> bytes:
        begun = self._clock()
        stored = gzip.compress(content, LEVEL, mtime=0)  # a time in it would make unlike files of like content
        self._seconds += self._clock() - begun
        self._plain += len(content)
        self._packed += len(stored)
        return stored

    def _write_new(self, place: Path, content: bytes) -> None:
        """Writes a file that is whole whenever it is there, also when this process is killed meanwhile."""
        partial = place.with_name(f".{place.name}.partial")
        try:
            with partial.open("wb") as file:
                write_all(file.fileno(), content, self._write)
            partial.rename(place)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise self.failed(error) from error

    def _place(self, name: str) -> Path:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise HarnessError(f"evidence cannot be kept as {name!r}: that leaves the run's folder; use a plain name")
        if not is_plain(name):
            raise HarnessError(f"evidence cannot be kept as {name!r}: not every system has such names; use a plain one")
        target = self.folder / path
        if target.exists():
            raise HarnessError(
                f"evidence {name!r} is there already; what a run wrote is never changed, use another name"
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.failed(error) from error
        return target


def run_id(now: datetime, token: str) -> str:
    """Name of a run, which sorts by time: UTC to the second and `token`, a few random characters."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{token}"


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file under a folder but the manifest and its signature, by relative name, sorted."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (MANIFEST, SIGNATURE):
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def pretty(value: object) -> bytes:
    """JSON with an indented line for each value: of anything msgspec encodes."""
    return msgspec.json.format(msgspec.json.encode(value))


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file at once: whatever happens, `path` holds its old content or all of the new one."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        raise
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_over(path: Path, content: bytes, write: Write = os.write) -> None:
    """Writes a file where it stands, for a disk without room for another one beside it.

    Raises:
        OSError: it has no room there either, and holds again what it held.
    """
    with path.open("r+b", buffering=0) as file:
        before = file.read()
        try:
            _fill(file, content, write)
        except OSError:
            _fill(file, before, os.write)
            raise


def _fill(file: io.FileIO, content: bytes, write: Write) -> None:
    file.seek(0)
    write_all(file.fileno(), content, write)
    file.truncate(len(content))
    os.fsync(file.fileno())


def _within(content: bytes, most: int, *, end: bool) -> bytes:
    """As many of the first or last bytes, in whole lines where it has lines."""
    if len(content) <= most:
        return content
    piece = content[len(content) - most :] if end else content[:most]
    at = piece.find(b"\n") if end else piece.rfind(b"\n")
    if at < 0:
        return piece
    return piece[at + 1 :] if end else piece[: at + 1]


def _clipped(value: object) -> object:
    """Every text in it up to FACT_CHARACTERS, and how many more there were; what was cut so already stays as it is."""
    if isinstance(value, str) and len(value) > FACT_CHARACTERS and not _CUT.fullmatch(value, FACT_CHARACTERS):
        return f"{value[:FACT_CHARACTERS]} [cut: {len(value) - FACT_CHARACTERS} more characters]"
    if isinstance(value, list | tuple):
        return [_clipped(each) for each in value]
    if isinstance(value, dict):
        return {key: _clipped(each) for key, each in value.items()}
    return value
