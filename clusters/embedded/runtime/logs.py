"""Container output in the CRI's log format: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`.

Place: `container.py` connects a process's pipes to it; `kubectl logs` reads the files through the kubelet. Limits: the
kubelet rotates the files and asks for `reopen`.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from clusters.embedded.runtime.attached import Audience

LONGEST = 16 * 1024
"""Bytes of one log entry at most, as in containerd; a longer line is split, all parts but the last tagged P."""


class Lines:
    """Cuts a stream of bytes into log entries."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The entries that are complete now: tag ("F" ends a line, "P" does not) and text without the newline."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        entries = [entry for line in whole for entry in _split(line)]
        while len(self._rest) > LONGEST:
            entries.append(("P", self._rest[:LONGEST]))
            self._rest = self._rest[LONGEST:]
        return entries

    def end(self) -> list[tuple[str, bytes]]:
        """What is left when the stream ends without a newline, which is not added: a termination message has none."""
        rest, self._rest = self._rest, b""
        return [("P", rest)] if rest else []


def _split(line: bytes) -> list[tuple[str, bytes]]:
    parts = [line[start : start + LONGEST] for start in range(0, len(line), LONGEST)] or [b""]
    return [("P", part) for part in parts[:-1]] + [("F", parts[-1])]


def timestamp(nanoseconds: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 in UTC with nine digits."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class LogFile:
    """The log of one container; both streams write to it. Without a path nothing is kept."""

    def __init__(self, path: Path | None, now: Callable[[], int]) -> None:
        """Args: the file, appended to; and nanoseconds since 1970."""
        self._path, self._now = path, now
        self._file: IO[bytes] | None = None

    def reopen(self) -> None:
        """Goes on in a new file at the same path; the old one was moved away."""
        self.close()
        if self._path is not None:
            self._file = self._path.open("ab", buffering=0)

    def write(self, stream: str, entries: list[tuple[str, bytes]]) -> None:
        """Appends entries of one stream."""
        if self._file is not None and entries:
            when = timestamp(self._now())
            self._file.write(b"".join(f"{when} {stream} {tag} ".encode() + text + b"\n" for tag, text in entries))

    def close(self) -> None:
        """Ends the file; entries that come later are dropped."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Pump(asyncio.Protocol):
    """Carries one stream of a process into its log and to an audience, until the last holder of the pipe closes it."""

    def __init__(self, log: LogFile, stream: str, audience: Audience) -> None:
        self._log, self._stream, self._audience, self._lines = log, stream, audience, Lines()
        self.ended = asyncio.Event()
        self.last = b""

    def data_received(self, data: bytes) -> None:
        """Writes what is complete; `last` is the text of the newest entry."""
        self._audience.feed(data)
        self._write(self._lines.feed(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Writes the rest."""
        del exc
        self._write(self._lines.end())
        self._audience.end()
        self.ended.set()

    def _write(self, entries: list[tuple[str, bytes]]) -> None:
        if entries:
            self.last = entries[-1][1]
        self._log.write(self._stream, entries)
