"""Follows the framing of one HTTP/1.1 answer as its bytes come in: where its body is and where it ends (RFC 9112).

Place: the load client learns from it when a connection is free again; `streaming` feeds it all reads afterwards.
Limits: answers only, no trailers kept, no upgrade, no HTTP/2.
"""

from typing import Literal

Part = Literal["head", "length", "size", "chunk", "trailer", "close", "end"]

_LONGEST_LINE = 65536
_EMPTY_STATUS = (204, 304)


class Framer:
    """The state of one answer. After `feed` and `close` its fields say what is known.

    Attributes:
        status: status code, None until the head is complete.
        headers: by name in small letters; a repeated one is joined by ", ".
        ended: whether the answer is complete, by its own framing.
        fault: what breaks the protocol; nothing is read after it.
    """

    __slots__ = ("_left", "_line", "_part", "ended", "fault", "headers", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.ended = False
        self.fault: str | None = None
        self._part: Part = "head"
        self._line = b""
        self._left = 0

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request after this answer."""
        return self.fault is None and "close" not in self.headers.get("connection", "").lower()

    @property
    def chunked(self) -> bool:
        """Whether more of a chunked body is to come."""
        return self._part in ("size", "chunk", "trailer") and not self.ended

    def feed(self, data: bytes) -> bytes:
        """Takes bytes as they came from the socket; returns those of them that belong to the body."""
        if self._part == "size" and (chunk := self._whole_chunk(data)):
            return chunk
        if self._part == "head":
            data = self._head(data)
        if self.chunked:
            return self._chunked(data)
        if self._part == "length":
            return self._counted(data)
        if self._part == "close":
            return data
        if data and self.ended and self.fault is None:
            self.fault = "bytes came after the end of the answer"
        return b""

    def close(self) -> None:
        """The connection was closed: that ends an answer without a length, and breaks off any other."""
        if self._part == "close":
            self.ended = True
        elif not self.ended and self.fault is None:
            where = {"head": "inside the head", "length": f"{self._left} bytes early"}
            self.fault = f"the connection closed {where.get(self._part, 'before the last chunk of the body')}"

    def _counted(self, data: bytes) -> bytes:
        body = data[: self._left]
        self._left -= len(body)
        if not self._left:
            self._finish(data[len(body) :])
        return body

    def _chunked(self, data: bytes) -> bytes:
        if self._line:
            data, self._line = self._line + data, b""
        body: list[bytes] = []
        place, size = 0, len(data)
        while place < size and self.fault is None and not self.ended:
            if self._part == "chunk":
                place = self._chunk(data, place, body)
                continue
            stop = data.find(b"\n", place)
            if stop < 0:
                self._keep(data[place:])
                break
            line, place = data[place:stop], stop + 1
            if self._part == "size":
                self._size(line)
            elif not line.rstrip(b"\r"):
                self._finish(data[place:])
        return body[0] if len(body) == 1 else b"".join(body)

    def _whole_chunk(self, data: bytes) -> bytes:
        """The body in a read that is one chunk, as most reads of a stream are; empty for any other."""
        start = data.find(b"\n") + 1
        if self._line or not data.endswith(b"\r\n") or _size_in(data[:start]) != len(data) - start - 2:
            return b""
        return data[start:-2]

    def _chunk(self, data: bytes, place: int, body: list[bytes]) -> int:
        """Takes what is there of a chunk and of the line end behind it; `_left` counts both. Returns the next place."""
        inside = self._left - 2
        if inside > 0:
            piece = data[place : place + inside]
            body.append(piece)
            self._left -= len(piece)
            place += len(piece)
        if self._left <= 2:
            end = data[place : place + self._left]
            if not b"\r\n"[2 - self._left :].startswith(end):
                self.fault = "a chunk is longer than its size line says"
            self._left -= len(end)
            place += len(end)
        if not self._left:
            self._part = "size"
        return place

    def _size(self, line: bytes) -> None:
        size = _size_in(line)
        if size < 0:
            self.fault = f"a chunk starts with {line[:40]!r} instead of its size"
        elif size:
            self._part, self._left = "chunk", size + 2
        else:
            self._part = "trailer"

    def _keep(self, line: bytes) -> None:
        self._line = line
        if len(line) > _LONGEST_LINE:
            self.fault = f"a line of the answer is longer than {_LONGEST_LINE} bytes"

    def _finish(self, rest: bytes) -> None:
        self.ended, self._part = True, "end"
        if rest:
            self.fault = "bytes came after the end of the answer"

    def _head(self, data: bytes) -> bytes:
        """Takes bytes of the head; returns what follows once it is complete. Interim answers (1xx) are skipped."""
        data, self._line = self._line + data, b""
        while self._part == "head" and self.fault is None:
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end:
                self._keep(data)
                return b""
            self._read_head(head.decode("latin-1").split("\r\n"))
            data = rest
        return data

    def _read_head(self, lines: list[str]) -> None:
        version, _, rest = lines[0].partition(" ")
        code = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdecimal() and len(code) == 3):
            self.fault = f"the answer starts with {lines[0][:40]!r}, which is no HTTP/1.1 status line"
            return
        if code.startswith("1"):
            return
        self.status = int(code)
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip() or not name:
                self.fault = f"the head of the answer holds {line[:40]!r}, which is no header"
                return
            key = name.lower()
            self.headers[key] = f"{self.headers[key]}, {value.strip()}" if key in self.headers else value.strip()
        if version == "HTTP/1.0":
            self.headers.setdefault("connection", "close")
        self._choose_body()

    def _choose_body(self) -> None:
        """How the body is framed (RFC 9112, section 6.3)."""
        length = self.headers.get("content-length")
        if self.status in _EMPTY_STATUS:
            self.ended, self._part = True, "end"
        elif "transfer-encoding" in self.headers:
            if self.headers["transfer-encoding"].lower() != "chunked":
                self.fault = f"the transfer encoding is {self.headers['transfer-encoding']!r}; only chunked is known"
            self._part = "size"
        elif length is not None:
            if not (length.isascii() and length.isdecimal()):
                self.fault = f"the content length is {length[:40]!r}, which is no number"
                return
            self._left = int(length)
            self.ended = not self._left
            self._part = "end" if self.ended else "length"
        else:
            self._part = "close"


def _size_in(line: bytes) -> int:
    """The size that a chunk's first line gives; -1 when it gives none."""
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        return -1
