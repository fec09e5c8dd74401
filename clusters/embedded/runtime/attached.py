"""Clients attached to a container's output: each gets all of it while it keeps up, none can stop the container.

Place: `streams.py` feeds an `Audience` what a stream prints, `streaming.py` brings the clients. A client that falls
behind by more than `BEHIND` makes the container wait, as a terminal would, for `PATIENCE` at most; then the client is
stalled, and what it cannot take is left out, with a line that says how much, until it has taken what waits for it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

BEHIND = 1024 * 1024
"""Bytes that may wait for one client; twice that is the most that is ever kept for it."""
PATIENCE = 2.0
"""Seconds that a container waits for a client to take half of them."""


class Client:
    """Who reads one stream of a container."""

    def __init__(self, writer: asyncio.StreamWriter, relieved: Callable[[], None]) -> None:
        """`relieved` is called when it has taken enough that nobody need wait for it."""
        self._writer, self._relieved = writer, relieved
        self._waiting: deque[bytes] = deque()
        self._size = self._left_out = 0
        self._news = asyncio.Event()
        self._over = False
        self.stalled = False
        writer.transport.set_write_buffer_limits(high=0)  # drain() means that the kernel has it all

    @property
    def behind(self) -> int:
        """Bytes that wait for it; 0 once it is stalled, for then nobody waits."""
        return 0 if self.stalled else self._size

    def feed(self, data: bytes) -> None:
        """Takes what the container printed."""
        if self.stalled:
            self._left_out += len(data)
        else:
            self._put(data)

    def end(self) -> None:
        """Nothing more comes."""
        self._over = True
        self._news.set()

    async def carry(self) -> None:
        """Hands over what comes, until the end or until the client is gone."""
        with contextlib.suppress(OSError):
            while self._waiting or not self._over:
                if not self._waiting:
                    self._news.clear()
                    await self._news.wait()
                    continue
                piece = self._waiting.popleft()
                self._writer.write(piece)
                await self._writer.drain()
                self._size -= len(piece)
                self._recover()
                self._relieved()
        self.stalled = True
        self._relieved()

    def _put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        self._news.set()

    def _recover(self) -> None:
        if self.stalled and not self._size:
            self.stalled = False
            said = f"\r\n[{self._left_out} bytes left out: they came faster than they were read here]\r\n"
            self._left_out = 0
            self._put(said.encode())


class Audience:
    """All clients of one stream."""

    def __init__(self, behind: int = BEHIND, patience: float = PATIENCE) -> None:
        """`behind` and `patience` as the module's docstring tells."""
        self._behind, self._patience = behind, patience
        self._clients: set[Client] = set()
        self._source: asyncio.ReadTransport | None = None
        self._held: asyncio.TimerHandle | None = None
        self._over = False

    def follow(self, source: asyncio.ReadTransport) -> None:
        """Names what is paused while a client is behind."""
        self._source = source

    def feed(self, data: bytes) -> None:
        """Hands what the container printed to every client."""
        for client in self._clients:
            client.feed(data)
        if self._held is None and self._source is not None and self._most() > self._behind:
            self._source.pause_reading()
            self._held = asyncio.get_running_loop().call_later(self._patience, self._lose_patience)

    def end(self) -> None:
        """The stream is over; clients get what waits for them."""
        self._over = True
        self._source = None
        for client in self._clients:
            client.end()

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves a client from now on, until the stream's end or its own, which its `reader` tells."""
        if self._over:
            return
        client = Client(writer, self._relieved)
        self._clients.add(client)
        gone = asyncio.create_task(reader.read())
        carrying = asyncio.create_task(client.carry())
        try:
            await asyncio.wait({gone, carrying}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.discard(client)
            for task in (gone, carrying):
                task.cancel()
            self._relieved()

    def _most(self) -> int:
        return max((client.behind for client in self._clients), default=0)

    def _relieved(self) -> None:
        if self._held is not None and self._most() <= self._behind // 2:
            self._go_on()

    def _lose_patience(self) -> None:
        for client in self._clients:
            client.stalled = client.stalled or client.behind > self._behind // 2
        self._go_on()

    def _go_on(self) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None
        if self._source is not None:
            self._source.resume_reading()
