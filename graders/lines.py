"""JSON lines on their way to the disk, each there once it was written, whole, or not at all; and back from it.

Place: `record` keeps facts and evidence in such files. Limits: what would make a file larger than it may be is left
out.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from graders.errors import HarnessError

FORMAT = "gpulab/record/v1"
EVENTS_FORMAT = "gpulab/events/v1"
"""Of Kubernetes' events, which `cluster_evidence` keeps and reports read."""
FILE_BYTES = 32 << 20
"""Of one file's content; the largest load run so far has 12 MB."""

Write = Callable[[int, bytes | memoryview], int]
H = TypeVar("H")
T = TypeVar("T")


class Lines:
    """A JSON lines file; its first line says its format, and each line is on its way to the disk once written.

    A number that is infinite or not a number is written as null, as JSON has neither, and text as `encodable` has it.
    Lines that would make the file larger than `most` bytes are left out; `left_out` is how many bytes they have.

    Args:
        path: of the new file.
        most: bytes that it may have.
        form: its format, with a version.
        clean: what is made of a line's content before it is written.
        refused: makes the error to raise of one of the system's.
        write: as os.write.
    """

    def __init__(
        self,
        path: Path,
        *,
        most: int = FILE_BYTES,
        form: str = FORMAT,
        clean: Callable[[object], object] = lambda line: line,
        refused: Callable[[OSError], Exception] = lambda error: error,
        write: Write = os.write,
    ) -> None:
        self.bytes = self.left_out = 0
        self._most, self._clean, self._refused, self._write = most, clean, refused, write
        self._file = path.open("xb", buffering=0)
        self.write({"format": form})

    def write(self, line: object) -> None:
        """Appends one object: anything msgspec encodes."""
        plain = msgspec.json.decode(encoded(line))  # as only JSON takes msgspec.Raw
        text = msgspec.json.encode(self._clean(plain)) + b"\n"
        if self.bytes + len(text) > self._most:
            self.left_out += len(text)
            return
        try:
            write_all(self._file.fileno(), text, self._write)
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line would make all of the file unreadable
                os.ftruncate(self._file.fileno(), self.bytes)
                os.lseek(self._file.fileno(), self.bytes, os.SEEK_SET)
            raise self._refused(error) from error
        self.bytes += len(text)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._file.closed

    def close(self) -> None:
        """Ends the file, with its content on the disk; a second call does nothing."""
        if not self.closed:
            with self._file:
                os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def encoded(value: object) -> bytes:
    """JSON of anything msgspec encodes, whatever text is in it; see `encodable`."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(encodable(msgspec.to_builtins(value, enc_hook=_decoded)))


def encodable(value: object) -> object:
    """The same of dictionaries, lists and text in them, with the number of each character that UTF-8 cannot encode.

    Such are names of files that are not UTF-8, as Python has them, and halves of a surrogate pair in YAML and JSON.
    """
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, list | tuple):
        return [encodable(each) for each in value]
    if isinstance(value, dict):
        return {encodable(key): encodable(each) for key, each in value.items()}
    return value


def _decoded(value: object) -> object:
    """What msgspec makes no builtins of by itself."""
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def write_all(handle: int, content: bytes, write: Write) -> None:
    """Writes all of it, as the system may take it in pieces."""
    left = memoryview(content)
    while left:
        left = left[write(handle, left) :]


def headed(content: bytes, head: type[H], item: type[T], *, what: str, remedy: str) -> tuple[H, list[T]]:
    """A header's line and the others after it.

    Args:
        content: the lines.
        head: type of the first.
        item: type of each other one.
        what: these lines are said to be.
        remedy: what to do when they are not.

    Raises:
        HarnessError: they are something else.
    """
    first, _, rest = content.partition(b"\n")
    try:
        return msgspec.json.decode(first, type=head), msgspec.json.Decoder(item).decode_lines(rest)
    except msgspec.DecodeError as error:
        raise HarnessError(f"these lines are no {what} that can be read: {error}; {remedy}") from error


def refuse_format(found: str, form: str) -> None:
    """Raises HarnessError for lines of another format than this one."""
    if found != form:
        raise HarnessError(f"these lines are of format {found!r}; this program reads {form!r}")
