"""A server that does nothing, for the client to be measured against: `python -m graders.null_server GAP [PEM]`.

Place: `floor` starts it. It answers a completion at once and goes on every GAP seconds, over TLS with the key and
certificate in PEM; the text of each token is the time on the monotonic clock at which it was written. It says its port,
and ends with its standard input. Limits: one request at a time on a connection, POST with a content length.
"""

import asyncio
import itertools
import os
import ssl
import sys
import time
from typing import Any, cast

import msgspec

from graders.process import die_with_parent

SPREAD = 0.2
"""Part by which the gaps of an answer differ from GAP, or all streams would write at the same moments."""
_STEPS = 17
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_number = itertools.count()


class _Asked(msgspec.Struct):
    prompt: list[int]
    max_tokens: int
    model: str


def _framed(value: object) -> bytes:
    text = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return b"%x\r\ndata: %s\n\n\r\n" % (len(text) + 8, text)


class NullServer(asyncio.Protocol):
    """One connection."""

    def __init__(self, gap: float) -> None:
        self.gap, self.buffer, self.sent = gap, b"", 0
        self.asked: _Asked
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answers once a request is whole."""
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) >= int(length):
            self.asked, self.buffer, self.sent = msgspec.json.decode(body, type=_Asked), b"", 0
            self.pause = self.gap * (1 + SPREAD * (2 * (next(_number) % _STEPS) / (_STEPS - 1) - 1))
            self.token(_HEAD)

    def token(self, before: bytes = b"") -> None:
        """Writes the next token, and after the last one the end."""
        if self.transport.is_closing():
            return
        self.sent += 1
        last = self.sent == self.asked.max_tokens
        choice = {"index": 0, "token_ids": [self.sent], "finish_reason": "length" if last else None}
        after = self.ending() if last else b""
        text = f"{time.monotonic():.7f}"
        written = _framed({"model": self.asked.model, "choices": [{**choice, "text": text}]})
        self.transport.write(before + written + after)
        if not last:
            self.loop.call_later(self.pause, self.token)

    def ending(self) -> bytes:
        """Usage, [DONE] and the last chunk."""
        usage = {"prompt_tokens": len(self.asked.prompt), "completion_tokens": self.sent}
        told: dict[str, Any] = {"model": self.asked.model, "choices": [], "usage": usage}
        return _framed(told) + _framed(b"[DONE]") + b"0\r\n\r\n"


async def _serve(gap: float, pem: str | None) -> None:
    loop, context = asyncio.get_running_loop(), None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    server = await loop.create_server(lambda: NullServer(gap), "127.0.0.1", 0, backlog=1024, ssl=context)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 4096) else ended.set())
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await ended.wait()


def main() -> None:
    """Serves until its standard input ends."""
    die_with_parent()
    job = _serve(float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    try:
        import uvloop
    except ImportError:
        asyncio.run(job)
    else:
        uvloop.run(job)


if __name__ == "__main__":
    main()
