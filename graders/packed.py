"""A run packed as one file: a zip whose bytes depend on the run's files alone, and read as if an enemy had made it.

Place: `gpulab pack` writes one, `stored` reads it. Limits: nothing is ever unpacked to the disk; links, folders,
encryption, comments and zip64 are refused, and so is what is larger than a run can be.

Zip and not tar: one file is read without all that comes before it, and every size is said before anything is unpacked.
"""

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, cast

from graders.errors import HarnessError

SUFFIX = ".gpulab.zip"
"""How the names of packed runs end, so that they are found in a folder of other things."""
MOST_FILES = 10_000
MOST_INDEX_BYTES = 4 << 20
MOST_FILE_BYTES = 64 << 20
MOST_BYTES = 512 << 20
"""Of a packed run: its files, their index, each of them unpacked, and all of them; twice what a run keeps."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can say; the files' own times would make unlike packs of like runs."""
_END = struct.Struct("<4s4H2LH")
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error, ValueError)
"""What zipfile raises for a file that is not what it says; what it does not know is a RuntimeError."""


class RunUnreadable(HarnessError):
    """A stored run cannot be read, or is no run at all."""


def pack(path: Path, names: Iterable[str], raw: Callable[[str], bytes]) -> None:
    """Writes a new file that holds these files, in the order of their names.

    Raises:
        RunUnreadable: `path` is there already.
    """
    try:
        file = path.open("xb")
    except FileExistsError as error:
        raise RunUnreadable(f"{path} is there already; name another file") from error
    try:
        with file, zipfile.ZipFile(file, "w") as archive:
            for name in sorted(names):
                info = zipfile.ZipInfo(name, _EPOCH)
                info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                info.compress_type = zipfile.ZIP_STORED if name.endswith(".gz") else zipfile.ZIP_DEFLATED
                archive.writestr(info, raw(name), compresslevel=6)
    except BaseException:
        path.unlink()
        raise


class Packed:
    """The files of a packed run.

    Raises:
        RunUnreadable: it is no zip, or one that a run cannot have become.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                _refuse_large_index(path, file)
            self._archive = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise self._wrong(f"it is no zip that can be read ({error})") from error
        try:
            self._members = self._accepted()
        except BaseException:
            self._archive.close()
            raise
        self.names = tuple(sorted(self._members))
        self.strangers: tuple[str, ...] = ()

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._members[name].file_size

    def raw(self, name: str) -> bytes:
        """A file's bytes; raises RunUnreadable when they are not what the index says."""
        member = self._members[name]
        try:
            with self._archive.open(member) as file:
                return file.read(member.file_size + 1)  # without a bound all is unpacked, whatever the index says
        except (*_BROKEN, OSError) as error:
            raise self._wrong(f"{name} in it is damaged ({error})") from error

    def sum(self, name: str) -> str:
        """SHA-256 (hex) of a file's bytes; raises as `raw`."""
        try:
            with self._archive.open(self._members[name]) as file:
                return hashlib.file_digest(cast(zipfile.ZipExtFile, file), "sha256").hexdigest()
        except (*_BROKEN, OSError) as error:
            raise self._wrong(f"{name} in it is damaged ({error})") from error

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()

    def _accepted(self) -> dict[str, zipfile.ZipInfo]:
        members = self._archive.infolist()
        if len(members) > MOST_FILES:
            raise self._wrong(f"it holds {len(members)} files, and a run {MOST_FILES} at most")
        found: dict[str, zipfile.ZipInfo] = {}
        for each in members:
            if why := _refused(each):
                raise self._wrong(f"{each.orig_filename!r} in it {why}")
            if each.filename in found:
                raise self._wrong(f"it holds {each.filename!r} twice")
            found[each.filename] = each
        if (total := sum(each.file_size for each in members)) > MOST_BYTES:
            raise self._wrong(f"it unpacks to {total} bytes, and a run has {MOST_BYTES} at most")
        return found

    def _wrong(self, why: str) -> RunUnreadable:
        return RunUnreadable(f"{self._path} is no packed run: {why}; pack the run's folder again with `gpulab pack`")


def is_plain(name: str) -> bool:
    """Whether a name stays within the folder it is relative to, on every system, and can be shown as it is."""
    parts = name.split("/")
    return name.isprintable() and not set(name) & set('\\:*?"<>|') and not {"", ".", ".."} & set(parts)


def _refused(member: zipfile.ZipInfo) -> str | None:
    if member.orig_filename != member.filename or not is_plain(member.filename):
        return "has a name that no file of a run has"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return "is a link or no regular file"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that no run is"
    if member.file_size > MOST_FILE_BYTES:
        return f"unpacks to {member.file_size} bytes, and a file of a run has {MOST_FILE_BYTES} at most"
    return None


def _refuse_large_index(path: Path, file: BinaryIO) -> None:
    """Looks at the end of the file before zipfile makes an object of each entry of an index, however long."""
    length = path.stat().st_size
    file.seek(max(0, length - _END.size - 20))
    tail = file.read()
    mark, *_, index, _, comment = _END.unpack(tail[-_END.size :])
    if mark != b"PK\5\6" or comment:
        raise zipfile.BadZipFile("its end is not that of a zip without a comment")
    if tail.startswith(b"PK\6\7"):
        raise zipfile.BadZipFile("it is a zip64")
    if index > MOST_INDEX_BYTES:
        raise zipfile.BadZipFile(f"its index has {index} bytes, {MOST_INDEX_BYTES} at most")
