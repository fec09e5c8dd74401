"""The door of a cluster: connections on the host's 127.0.0.1 go on to the API server inside.

Place: a thread of the holder, which inherited the listening socket. Limits: plain bytes; TLS is between the ends.
"""

import asyncio
import contextlib
import socket

from clusters.embedded import network


def keep(door: int) -> None:
    """Carries each connection on the host's listening socket to the API server."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", network.API_PORT)
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
            inner_writer.close()
        writer.close()

    async def serve() -> None:
        listener = socket.socket(fileno=door)
        listener.setblocking(False)
        server = await asyncio.start_server(carry, sock=listener)
        await server.serve_forever()

    asyncio.run(serve())


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
