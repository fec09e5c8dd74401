"""TLS between a socket and a `Connection`, such that a read keeps the time at which its bytes left the socket.

Place: `client` puts it between the two for a target with TLS. Limits: a client's side, HTTP/1.1 by ALPN. An event
loop's own TLS would hand over bytes after decryption, with no time of the read; here decryption comes after the
timestamp. What TLS changes: bytes come in records, and the time of a byte is that of the read that ended its record.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol

from graders.plan import Tls

_MOST = 262144
"""Bytes taken from the session at once."""


class Above(Protocol):
    """What is told of the bytes: a `Connection`."""

    def connection_made(self, transport: "TlsTransport") -> None:
        """The session stands; `transport` carries what is written."""

    def data_received(self, data: bytes, now: float) -> None:
        """Bytes, decrypted, whose last record was complete at `now`."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""


def client_context(tls: Tls) -> ssl.SSLContext:
    """The context of a plan's TLS; raises ssl.SSLError when its authority is no PEM text."""
    context = ssl.create_default_context(cadata=tls.authority)
    context.set_alpn_protocols(["http/1.1"])
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TlsTransport(asyncio.Protocol):
    """A protocol to the socket below and a transport to the connection above.

    `established` is done once the handshake is: with an exception where the server or its certificate was refused.
    """

    def __init__(
        self,
        above: Above,
        context: ssl.SSLContext,
        name: str,
        clock: Callable[[], float],
        established: "asyncio.Future[None]",
    ) -> None:
        self.established = established
        self._above, self._clock, self._up = above, clock, False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._below: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected: begins the handshake."""
        self._below = transport  # type: ignore[assignment]  # uvloop's transports are of no asyncio class
        self._shake()

    def data_received(self, data: bytes) -> None:
        """Takes the time, then decrypts."""
        now = self._clock()
        self._incoming.write(data)
        if not self._up:
            self._shake()
        if self._up:
            self._decrypt(now)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if self._up:
            self._above.connection_lost(exc)
        elif not self.established.done():
            self.established.set_exception(exc or ConnectionResetError("the server closed during the TLS handshake"))

    def write(self, data: bytes) -> None:
        """Sends bytes, encrypted."""
        self._session.write(data)
        self._flush()

    def is_closing(self) -> bool:
        """Whether the socket is closed, or about to be."""
        return self._below.is_closing()

    def abort(self) -> None:
        """Closes the socket at once."""
        self._below.abort()

    def _shake(self) -> None:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the server why
            if not self.established.done():
                self.established.set_exception(error)
            self._below.close()
        else:
            self._flush()
            self._up = True
            self._above.connection_made(self)
            if not self.established.done():
                self.established.set_result(None)

    def _decrypt(self, now: float) -> None:
        pieces, over = [], False
        try:
            while piece := self._session.read(_MOST):
                pieces.append(piece)
            over = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            over = True
        self._flush()
        if pieces:
            self._above.data_received(b"".join(pieces), now)
        if over:
            self._below.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())
