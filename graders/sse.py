"""Splits the body of a server-sent event stream into its events (WHATWG HTML, section 9.2.6). Pure.

Place: `streaming` reads answers through it. Limits: the whole body at once; ids and retry times are ignored.
"""

import re
from collections.abc import Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def events(body: bytes) -> Iterator[tuple[int, str, bytes]]:
    """The events of a body: (offset of the byte that completed it, event type, data).

    Lines end in CRLF, LF or CR, a blank line completes an event, data lines are joined by
    LF, lines that start with a colon are comments. An event that the body breaks off has the offset -1.
    """
    kind, data, start = b"", list[bytes](), len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
    while found := _LINE_END.search(body, start):
        line, offset, start = body[start : found.start()], found.start(), found.end()
        if not line:
            if data:
                yield offset, kind.decode(errors="replace"), b"\n".join(data)
            kind, data = b"", []
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    if data or body[start:].strip():
        yield -1, kind.decode(errors="replace"), b"\n".join([*data, body[start:]])
