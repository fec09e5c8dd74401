"""The folder of one run: facts as JSON lines, copies of evidence, and at the end a manifest of SHA-256 sums.

Place: the plugin opens one per graded run, and checks keep their evidence in it. Limits: it appends and copies; nothing
that was written is changed, but for `verdict.json`, which is replaced whole.
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import msgspec

from graders.errors import HarnessError

FORMAT = "gpulab/record/v1"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
"""Of the manifest; the one file besides it that it does not list."""


class Lines:
    """A JSON lines file; its first line is `{"format": FORMAT}`, and each line is on its way to the disk once written.

    A number that is infinite or not a number is written as null, as JSON has neither.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self.write({"format": FORMAT})

    def write(self, line: object) -> None:
        """Appends one object: anything msgspec encodes."""
        self._file.write(msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Ends the file, with its content on the disk; a second call does nothing."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Record:
    """One run's folder. `folder` must not be there yet; its parents are made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._run = Lines(folder / "run.jsonl")

    def write(self, kind: str, **fact: object) -> None:
        """Appends one fact to run.jsonl."""
        self._run.write({"kind": kind, **fact})

    def lines(self, name: str) -> Lines:
        """A JSON lines file of its own under evidence/, for samples; the caller closes it."""
        return Lines(self._place(f"evidence/{name}"))

    def keep(self, name: str, content: bytes | str | Path) -> str:
        """Keeps evidence, given as content or as the file to copy; returns its name in the folder."""
        return self.put(f"evidence/{name}", content)

    def put(self, name: str, content: bytes | str | Path) -> str:
        """As `keep`, but with a name relative to the run's folder."""
        if isinstance(content, Path):
            content = content.read_bytes()
        with self._place(name).open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return name

    def has(self, name: str) -> bool:
        """Whether the folder holds a file of that name."""
        return (self.folder / name).is_file()

    def seal(self) -> Path:
        """Closes run.jsonl and writes the manifest over everything else in the folder; returns its path."""
        self._run.close()
        path = self.folder / MANIFEST
        write_whole(path, pretty({"format": FORMAT, "sha256": sums(self.folder)}))
        return path

    def _place(self, name: str) -> Path:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise HarnessError(f"evidence cannot be kept as {name!r}: that leaves the run's folder; use a plain name")
        target = self.folder / path
        if target.exists():
            raise HarnessError(
                f"evidence {name!r} is there already; what a run wrote is never changed, use another name"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def run_id(now: datetime, token: str) -> str:
    """Name of a run, which sorts by time: UTC to the second and `token`, a few random characters."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{token}"


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file under a folder but the manifest at its top, by relative name, sorted."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (MANIFEST, SIGNATURE):
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def tampered(folder: Path) -> tuple[str, ...]:
    """Names that are missing, added or changed against the manifest of a sealed run.

    Raises:
        HarnessError: the folder has no manifest that can be read.
    """
    try:
        sealed: Mapping[str, Any] = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Any])["sha256"]
    except (OSError, KeyError, msgspec.DecodeError) as error:
        raise HarnessError(
            f"{folder} has no manifest that can be read; its run did not end, so it proves nothing"
        ) from error
    now = sums(folder)
    return tuple(sorted(name for name in sealed.keys() | now.keys() if sealed.get(name) != now.get(name)))


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
