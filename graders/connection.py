"""One HTTP/1.1 connection of the load client, with the hot path: `Connection.data_received`.

Place: `client` opens them and sends on them. Limits: the hot path takes one timestamp, keeps the read and compares its
end; that a chunked answer which looks complete is so, is found when it is read afterwards, and is a fault if not.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from graders.http1 import Framer

_END = b"\r\n0\r\n\r\n"
_TAIL = len(_END)
_QUIET = 0.1


class Owner(Protocol):
    """What a connection needs of its client."""

    clock: Callable[[], float]
    encoded: dict[int, bytes]
    flying: "set[Connection]"
    idle: "list[Connection]"

    def dispatch(self, flight: "Flight", *, fresh: bool = False) -> None:
        """Sends a request, if `fresh` on a new connection."""

    def finish(self, flight: "Flight", now: float, failure: str | None = None, *, closed: bool = False) -> None:
        """A request has ended."""

    def forget(self, connection: "Connection") -> None:
        """A connection is gone."""


class Wire(Protocol):
    """What a connection needs of its transport."""

    def write(self, data: bytes) -> None:
        """Sends bytes."""

    def abort(self) -> None:
        """Closes at once."""

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""


class Flight:
    """One request on its way; what `Sample` says, while it is not known yet."""

    __slots__ = ("connected", "index", "pieces", "planned", "resent", "sent", "started", "stream", "times")

    def __init__(self, index: int, planned: float, started: float, stream: int | None) -> None:
        self.index, self.planned, self.started, self.stream = index, planned, started, stream
        self.connected: float | None = None
        self.sent: float | None = None
        self.resent = False
        self.times: list[float] = []
        self.pieces: list[bytes] = []


class Connection(asyncio.Protocol):
    """One connection, which carries one request at a time."""

    __slots__ = (
        "chunked",
        "client",
        "clock",
        "dropped",
        "flight",
        "framer",
        "freed",
        "looked",
        "transport",
        "used",
    )

    def __init__(self, client: "Owner") -> None:
        self.client, self.clock = client, client.clock
        self.transport: Wire
        self.framer = Framer()
        self.flight: Flight | None = None
        self.used = self.dropped = self.chunked = False
        self.looked = 0
        self.freed = self.clock()

    def connection_made(self, transport: asyncio.BaseTransport | Wire) -> None:
        """The connection stands."""
        self.transport = cast(Wire, transport)  # uvloop's transports are of no asyncio class

    def send(self, flight: Flight) -> None:
        """Sends a request."""
        self.flight, self.framer, self.chunked, self.looked = flight, Framer(), False, 0
        self.client.flying.add(self)
        flight.sent = self.clock()
        self.transport.write(self.client.encoded[flight.index])

    def data_received(self, data: bytes, now: float | None = None) -> None:
        """Keeps a read with its time, which TLS took before; the last one of an answer frees the connection."""
        if now is None:
            now = self.clock()
        flight = self.flight
        if flight is None:
            self.drop()
            return
        flight.times.append(now)
        flight.pieces.append(data)
        if self.chunked:
            if data.endswith(_END) or (len(data) < _TAIL and b"".join(flight.pieces[-_TAIL:]).endswith(_END)):
                self._free(flight, now)
            return
        framer = self.framer
        framer.feed(data)
        self.chunked = framer.chunked
        if framer.ended or framer.fault:
            self._free(flight, now)

    def look_closer(self, now: float) -> None:
        """Finds the end of an answer that the hot path does not see, such as one with trailers, once it is quiet."""
        flight = self.flight
        if flight is None or not self.chunked or now - flight.times[-1] < _QUIET or self.looked == len(flight.times):
            return
        self.looked = len(flight.times)
        self.framer = framed(flight.pieces)
        if self.framer.ended or self.framer.fault:
            self._free(flight, flight.times[-1])

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; a request on it has ended, or is sent again where the server never saw it."""
        now, flight = self.clock(), self.flight
        self.drop()
        if flight is None:
            return
        self.flight = None
        if self.chunked:
            self.framer = framed(flight.pieces)
        self.framer.close()
        if self.framer.ended:
            self.client.finish(flight, now, closed=True)
        elif self.used and not flight.times and not flight.resent:
            flight.resent = True
            self.client.dispatch(flight, fresh=True)
        else:
            self.client.finish(flight, now, "connection reset" if exc else "connection closed", closed=True)

    def fail(self, now: float, failure: str) -> None:
        """Gives up the request on it, and the connection."""
        flight, self.flight = self.flight, None
        self.drop()
        if flight:
            self.client.finish(flight, now, failure)

    def _free(self, flight: Flight, now: float) -> None:
        self.flight, self.used, self.freed = None, True, now
        self.client.flying.discard(self)
        if self.framer.reusable:
            self.client.idle.append(self)
        else:
            self.drop()
        self.client.finish(flight, now)

    def drop(self) -> None:
        """Closes it, which makes room under the limit at once."""
        if not self.dropped:
            self.dropped = True
            self.transport.abort()
            self.client.forget(self)


def framed(pieces: Iterable[bytes]) -> Framer:
    """The state of an answer after these bytes."""
    framer = Framer()
    for piece in pieces:
        framer.feed(piece)
    return framer
