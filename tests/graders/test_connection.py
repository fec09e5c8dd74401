"""The hot path without a socket: an answer in any pieces ends with its last byte and is read the same, over TLS too."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders.connection import Connection, Flight
from graders.floor import certificate
from graders.plan import Tls
from graders.streaming import parse
from graders.tls import TlsTransport, client_context

quick = settings(derandomize=True, max_examples=60, deadline=None)
CUTS = st.lists(st.integers(0, 5000), max_size=14)
TEXTS = ["größe", " 模型", "", "a\\r\\n0\\r\\n\\r\\n"]
EVENTS = [
    *(
        b'data: {"choices":[{"text":"%s","token_ids":[%d]}]}\r\n\r\n' % (text.encode(), number)
        for number, text in enumerate(TEXTS, 1)
    ),
    b"data: [DONE]\r\n\r\n",
]


class Socket:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written, self.closed = b"", False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        return self.closed


class Owner:
    """A client of one connection; its clock says how often it was asked."""

    def __init__(self) -> None:
        self.now = 0
        self.clock: Callable[[], float] = self.tick
        self.encoded = {0: b"POST", 1: b"POST"}
        self.flying: set[Connection] = set()
        self.idle: list[Connection] = []
        self.finished: list[tuple[Flight, float, str | None]] = []

    def tick(self) -> float:
        self.now += 1
        return float(self.now)

    def dispatch(self, flight: Flight, *, fresh: bool = False) -> None:
        raise AssertionError

    def finish(self, flight: Flight, now: float, failure: str | None = None, **_: Any) -> None:
        self.finished.append((flight, now, failure))

    def forget(self, connection: Connection) -> None:
        pass


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def answer(framing: str, frames: list[int]) -> bytes:
    body = b"".join(EVENTS)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    if framing == "counted":
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    pieces = [b"%x\r\n%s\r\n" % (len(each), each) for each in split(body, frames)]
    return head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(pieces) + b"0\r\n\r\n"


@quick
@given(st.sampled_from(["chunked", "counted"]), CUTS, CUTS)
def test_an_answer_in_any_pieces_frees_the_connection_with_its_last_byte(
    framing: str, frames: list[int], cuts: list[int]
) -> None:
    owner, socket = Owner(), Socket()
    connection = Connection(owner)
    connection.connection_made(socket)
    pieces = split(answer(framing, frames), cuts)
    for turn in (0, 1):
        flight = Flight(turn, 0.0, 0.0, None)
        connection.send(flight)
        for number, piece in enumerate(pieces, 1):
            assert len(owner.finished) == turn
            connection.data_received(piece)
            assert flight.pieces == pieces[:number]
        assert [(each, failure) for each, _, failure in owner.finished[turn:]] == [(flight, None)]
        assert owner.idle == [connection] * (turn + 1)
        assert flight.times == sorted(set(flight.times))
        stream = parse(list(zip(flight.times, flight.pieces, strict=True)))
        assert [chunk.ids for chunk in stream.chunks] == [(1,), (2,), (3,), (4,)]
        assert (stream.done, stream.faults) == (True, ())


def test_the_hot_path_leaves_the_goal_of_ten_microseconds_to_the_kernel() -> None:
    pieces, spent = [b"fa\r\n" + b"x" * 250 + b"\r\n" for _ in range(10_000)], []
    for _ in range(5):
        owner = Owner()
        owner.clock = time.monotonic
        connection = Connection(owner)
        connection.connection_made(Socket())
        connection.send(Flight(0, 0.0, 0.0, None))
        connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        begun = time.process_time()
        for piece in pieces:
            connection.data_received(piece)
        spent.append((time.process_time() - begun) / len(pieces))
    assert min(spent) < 3e-6  # 0.3 µs where this was written


@quick
@given(CUTS, CUTS)
def test_each_event_has_the_time_of_the_read_that_completed_it(frames: list[int], cuts: list[int]) -> None:
    whole = answer("chunked", frames)
    alone = parse([(float(place), whole[place : place + 1]) for place in range(len(whole))])
    pieces = split(whole, cuts)
    ends = [sum(map(len, pieces[: number + 1])) for number in range(len(pieces))]
    stream = parse([(float(end), piece) for end, piece in zip(ends, pieces, strict=True)])
    assert [chunk.time for chunk in stream.chunks] == [
        min(end for end in ends if end > chunk.time) for chunk in alone.chunks
    ]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


class Secured:
    """A TLS transport after its handshake with a server, both in memory."""

    def __init__(self, pem: Path, above: Any, clock: Any, tls: Tls) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.to_server, self.from_server, self.socket = ssl.MemoryBIO(), ssl.MemoryBIO(), Socket()
        self.server = context.wrap_bio(self.to_server, self.from_server, server_side=True)
        loop = asyncio.new_event_loop()
        established: asyncio.Future[None] = loop.create_future()
        loop.close()
        self.layer = TlsTransport(above, client_context(tls), "127.0.0.1", clock, established)
        self.layer.connection_made(self.socket)  # type: ignore[arg-type]
        while not established.done():
            self.shake()
        self.shake()
        established.result()

    def shake(self) -> None:
        """Goes on with the handshake on the server's side."""
        self.hear()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.server.do_handshake()
        self.layer.data_received(self.from_server.read())

    def hear(self) -> None:
        """Hands the server what was written."""
        self.to_server.write(self.socket.written)
        self.socket.written = b""


@settings(quick, max_examples=20)
@given(st.sampled_from(["chunked", "counted"]), CUTS, CUTS, st.booleans())
def test_tls_in_any_pieces_is_the_same_answer_with_the_times_of_its_reads(
    pem: Path, framing: str, records: list[int], cuts: list[int], bare: bool
) -> None:
    owner, now = Owner(), [0.0]
    owner.clock = lambda: now[0]
    connection = Connection(owner)
    tls = Tls(verify=False) if bare else Tls(authority=pem.read_text()[pem.read_text().index("-----BEGIN CERT") :])
    secured = Secured(pem, connection, owner.clock, tls)
    connection.send(Flight(0, 0.0, 0.0, None))
    secured.hear()
    assert secured.server.read(100) == b"POST"
    ends, sealed = [], b""
    for record in split(answer(framing, []), records):
        secured.server.write(record)
        sealed += secured.from_server.read()
        ends.append(len(sealed))
    for piece in split(sealed, cuts):
        now[0] += len(piece)
        secured.layer.data_received(piece)
    ((flight, _, failure),) = owner.finished
    assert (failure, b"".join(flight.pieces)) == (None, answer(framing, []))
    reads = [sum(map(len, split(sealed, cuts)[: number + 1])) for number in range(len(split(sealed, cuts)))]
    assert flight.times == sorted({float(min(read for read in reads if read >= end)) for end in ends})


def test_a_tls_server_that_says_goodbye_or_breaks_the_protocol_is_left(pem: Path) -> None:
    for last in (b"\x15\x03\x03\x00\x01\x00", None):
        owner = Owner()
        connection = Connection(owner)
        secured = Secured(pem, connection, owner.clock, Tls(verify=False))
        flight = Flight(0, 0.0, 0.0, None)
        connection.send(flight)
        secured.server.write(b"HTTP/1.1 200 OK\r\n")
        if last is None:
            with contextlib.suppress(ssl.SSLWantReadError):
                secured.server.unwrap()
        secured.layer.data_received(secured.from_server.read() + (last or b""))
        assert secured.socket.closed
        secured.layer.connection_lost(None)
        assert [(each, failure) for each, _, failure in owner.finished] == [(flight, "connection closed")]
