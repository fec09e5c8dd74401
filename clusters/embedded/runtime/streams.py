"""What goes in and out of one container: its pipes or its terminal, its log, and the clients attached to them.

Place: `container.py` makes one per container and starts the program with it; `streaming.py` brings clients. Limits: a
terminal has one stream, which is logged and shown as stdout.
"""

import asyncio
import contextlib
import os
from typing import Literal

import msgspec

from clusters.embedded.runtime.attached import Audience
from clusters.embedded.runtime.logs import LogFile, Pump
from clusters.embedded.runtime.spawn import Running, reading, writing
from clusters.embedded.runtime.terminal import Terminal

Name = Literal["stdin", "stdout", "stderr", "resize"]
"""A stream that a client can attach to; "resize" carries a `Size` per line."""


class Size(msgspec.Struct, frozen=True):
    """Columns and rows of a terminal."""

    width: int
    height: int


class Streams:
    """The streams of one container, as its config's stdin, stdin_once and tty ask."""

    def __init__(self, log: LogFile, *, stdin: bool, once: bool, tty: bool) -> None:
        """`once`: the end of the first client that sends something is the end of the container's input."""
        self._asks_input, self._once, self._tty = stdin, once, tty
        self._audiences: dict[str, Audience] = {name: Audience() for name in ("stdout", "stderr")}
        self._pumps = {name: Pump(log, name, audience) for name, audience in self._audiences.items()}
        self._terminal: Terminal | None = None
        self._input: asyncio.StreamWriter | None = None

    @property
    def last(self) -> bytes:
        """The newest line of the stream on which programs complain."""
        return self._pumps["stdout" if self._tty else "stderr"].last.rstrip(b"\r")

    async def join(self, process: Running, terminal: Terminal | None) -> None:
        """Carries what a process prints from now on; `terminal` is the one it was started with."""
        if self._asks_input:
            file = os.fdopen(os.dup(terminal.outer), "wb", buffering=0) if terminal else process.input
            self._input = await writing(file)
        if terminal is None:
            sources = await process.read(self._pumps["stdout"], self._pumps["stderr"])
            for audience, source in zip(self._audiences.values(), sources, strict=True):
                audience.follow(source)
        else:
            terminal.release()
            self._terminal = terminal
            self._pumps["stderr"].connection_lost(None)
            source = await reading(self._pumps["stdout"], os.fdopen(os.dup(terminal.outer), "rb", buffering=0))
            self._audiences["stdout"].follow(source)

    async def finish(self) -> None:
        """Waits until all that was printed is in the log, and closes what is left; for a process that ended."""
        for pump in self._pumps.values():
            await pump.ended.wait()
        self._close_input()
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None

    async def serve(self, name: Name, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves a client that attached to the stream `name`, until the end of either."""
        if name == "stdin":
            await self._take_input(reader)
        elif name == "resize":
            while (line := await reader.readline()) and self._terminal is not None:
                size = msgspec.json.decode(line, type=Size)
                self._terminal.resize(size.width, size.height)
        else:
            await self._audiences[name].admit(reader, writer)

    async def _take_input(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while (data := await reader.read(65536)) and self._input is not None:
                self._input.write(data)
                await self._input.drain()
        if self._once and not self._tty:  # who leaves a terminal has not typed the end of input into it
            self._close_input()

    def _close_input(self) -> None:
        if self._input is not None:
            self._input.close()
            self._input = None
