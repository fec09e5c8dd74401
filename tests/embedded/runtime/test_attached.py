"""Clients of a container's output: who keeps up gets everything, who does not never stops the container."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from clusters.embedded.runtime.attached import Audience

Scenario = Callable[[Audience, "Source", socket.socket], Awaitable[None]]


class Source(asyncio.ReadTransport):
    """What is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def attached(scenario: Scenario, *, behind: int, patience: float) -> None:
    """Runs a scenario with one client, whose side of the connection it gets."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        audience, source = Audience(behind, patience), Source()
        audience.follow(source)
        serving = asyncio.create_task(audience.admit(reader, writer))
        await asyncio.sleep(0)
        with theirs:
            await asyncio.wait_for(scenario(audience, source, theirs), 10)
        await serving
        writer.close()
        with contextlib.suppress(BrokenPipeError):  # of a client that is gone
            await writer.wait_closed()

    asyncio.run(main())


async def read_to(end: bytes, theirs: socket.socket) -> bytes:
    data = b""
    while not data.endswith(end):
        data += await asyncio.get_running_loop().sock_recv(theirs, 65536)
    return data


def test_a_client_that_is_behind_holds_the_container_until_it_has_caught_up() -> None:
    async def scenario(audience: Audience, source: Source, theirs: socket.socket) -> None:
        for _ in range(8):
            audience.feed(b"x" * 50_000)
        assert source.paused
        audience.feed(b"END")
        assert await read_to(b"END", theirs) == b"x" * 400_000 + b"END"
        while source.paused:
            await asyncio.sleep(0)
        audience.end()

    attached(scenario, behind=200_000, patience=60)


def test_a_client_that_takes_nothing_loses_what_comes_later() -> None:
    async def scenario(audience: Audience, source: Source, theirs: socket.socket) -> None:
        audience.feed(b"x" * 400_000)
        while source.paused:
            await asyncio.sleep(0.001)
        audience.feed(b"lost" * 25)
        assert not source.paused
        audience.end()
        said = b"\r\n[100 bytes left out: they came faster than they were read here]\r\n"
        assert await read_to(b"here]\r\n", theirs) == b"x" * 400_000 + said

    attached(scenario, behind=200_000, patience=0.01)


def test_a_client_that_goes_lets_the_container_go_on() -> None:
    async def scenario(audience: Audience, source: Source, theirs: socket.socket) -> None:
        audience.feed(b"x" * 400_000)
        assert source.paused
        theirs.close()
        while source.paused:
            await asyncio.sleep(0.001)

    attached(scenario, behind=200_000, patience=60)


def test_who_comes_after_the_end_is_not_kept() -> None:
    async def main() -> None:
        audience = Audience()
        audience.end()
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        with theirs:
            await audience.admit(reader, writer)
            writer.close()
            await writer.wait_closed()
            assert theirs.recv(1) == b""

    asyncio.run(main())
