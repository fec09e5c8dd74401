"""Splits the body of a server-sent event stream into its events (WHATWG HTML, section 9.2.6). Pure.

Place: `streaming` reads answers through it. Limits: the whole body at once; ids and retry times are ignored.
"""

import re
from collections.abc import Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_USUAL = b"data: "


def events(body: bytes) -> Iterator[tuple[int, str, bytes]]:
    """The events of a body: (offset of the byte that completed it, event type, data).

    Lines end in CRLF, LF or CR, a blank line completes an event, data lines are joined by
    LF, lines that start with a colon are comments. An event that the body breaks off has the offset -1.
    """
    kind, data, start = b"", list[bytes](), len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
    for offset, after in _line_ends(body, start):
        line, start = body[start:offset], after
        if not line:
            if data:
                yield offset, kind.decode(errors="replace"), data[0] if len(data) == 1 else b"\n".join(data)
                data = []
            kind = b""
        elif line.startswith(_USUAL):
            data.append(line[len(_USUAL) :])
        else:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                kind = value
    if data or body[start:].strip():
        yield -1, kind.decode(errors="replace"), b"\n".join([*data, body[start:]])


def _line_ends(body: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Where each line ends, and where the next begins."""
    if b"\r" in body:
        for found in _LINE_END.finditer(body, start):
            yield found.span()
        return
    while (offset := body.find(b"\n", start)) >= 0:  # ten times faster than to search for three line ends
        yield offset, (start := offset + 1)
