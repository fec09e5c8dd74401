"""How stub servers stand on the network: HTTP/1.1 on plain sockets, with true times of what came and went.

Place: `stub_server` and `liars` serve their answers on it. Limits: loopback; one request of a connection after the
other; bodies with a content length.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

SO_TIMESTAMPNS = 35  # asm-generic/socket.h

Truth = dict[str, Any]


class Served(Protocol):
    """What stands behind a port."""

    wire: "type[Wire]"
    truth: dict[str, Truth]

    def get(self, wire: "Wire", path: str) -> None:
        """Answers a GET."""

    def post(self, wire: "Wire", path: str, name: str, body: bytes, received: float) -> None:
        """Answers a POST that came to the kernel at that time."""


class Wire:
    """One connection; requests on it come one after the other.

    A plain socket, because a transport may write later than it is told to, and because only `recvmsg` tells when the
    kernel had a request, however late this loop reads it.
    """

    def __init__(self, stub: Served, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        self.stub, self.loop, self.socket = stub, loop, connection
        self.buffer, self.backlog = b"", b""
        self.used = 0
        self.closed = False
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        loop.add_reader(connection, self.readable)

    def readable(self) -> None:
        try:
            data, notes, _, _ = self.socket.recvmsg(65536, 64)
        except OSError:
            data, notes = b"", []
        if data:
            self.read(data, CLOCKS.arrival(notes))
        else:
            self.close()

    def read(self, data: bytes, received: float) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        verb, path, _ = first.split(" ", 2)
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(body) < int(fields.get("content-length", 0)):
            return
        self.buffer = b""
        if verb == "GET":
            self.stub.get(self, path)
            return
        self.stub.post(self, path, fields.get("x-request-id", ""), body, received)

    def write(self, data: bytes) -> None:
        """Hands the bytes to the kernel before it returns, unless the client reads too slowly."""
        if self.closed:
            return
        if not self.backlog:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
        if data:
            self.loop.add_writer(self.socket, self.writable)
            self.backlog += data

    def writable(self) -> None:
        self.loop.remove_writer(self.socket)
        backlog, self.backlog = self.backlog, b""
        self.write(backlog)

    def whole(self, data: bytes) -> None:
        """Sends an answer at once."""
        self.write(data)
        self.free()

    def free(self) -> None:
        """An answer has ended on it."""
        self.used += 1

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.loop.remove_reader(self.socket)
            self.loop.remove_writer(self.socket)
            self.socket.close()


class Clocks:
    """By how much the wall clock, in which the kernel tells times, is ahead of the monotonic one.

    Looked at anew for each time, as the wall clock is slewed, unless this process was held up while it looked.
    """

    def __init__(self) -> None:
        self.ahead, self.held_up = 0.0, float("inf")
        while self.held_up > HELD_UP_SECONDS:
            self.look()

    def look(self) -> None:
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        self.held_up = after - before
        if self.held_up <= HELD_UP_SECONDS:
            self.ahead = wall - (before + after) / 2

    def arrival(self, notes: Sequence[tuple[int, int, bytes]]) -> float:
        """When the kernel had what was read, on the monotonic clock; now, where it does not say."""
        for level, kind, value in notes:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                self.look()
                seconds, nanoseconds = struct.unpack("ll", value)
                return float(seconds) - self.ahead + float(nanoseconds) * 1e-9
        return time.monotonic()


HELD_UP_SECONDS = 0.00002
CLOCKS = Clocks()


async def serve(stubs: Mapping[str, Served], say: Callable[[dict[str, int]], str]) -> None:
    """Serves each of them on a port of its own until standard input closes; `say` words their ports."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        ports: dict[str, int] = {}
        for name, stub in stubs.items():
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
            listener.setblocking(False)
            loop.add_reader(listener, accept, loop, listener, stub)
            ports[name] = listener.getsockname()[1]
        told: asyncio.Future[None] = loop.create_future()
        loop.add_reader(sys.stdin.fileno(), listen, stubs, told)
        sys.stdout.write(say(ports) + "\n")
        sys.stdout.flush()
        await told


def accept(loop: asyncio.AbstractEventLoop, listener: socket.socket, stub: Served) -> None:
    with contextlib.suppress(OSError):
        while True:
            stub.wire(stub, loop, listener.accept()[0])


def listen(stubs: Mapping[str, Served], told: "asyncio.Future[None]") -> None:
    line = os.read(sys.stdin.fileno(), 4096)
    if line.strip() == b"truth":
        sys.stdout.write(json.dumps({name: each for stub in stubs.values() for name, each in stub.truth.items()}))
        sys.stdout.write("\n")
        sys.stdout.flush()
    elif not line and not told.done():
        told.set_result(None)


def start(stubs: Mapping[str, Served], say: Callable[[dict[str, int]], str]) -> None:
    """Serves them, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(stubs, say))
    else:
        uvloop.run(serve(stubs, say))
