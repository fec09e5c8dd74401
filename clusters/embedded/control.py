"""Commands to the holder of a running cluster, on a unix socket in the cluster's state folder.

Place: backend.py asks (`ask`), from any process of the user who started the cluster; holder.py answers (`serve`), each
on a thread of its own. Limits: one request and one answer per connection, a line of JSON each.
"""

import contextlib
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from clusters import api
from clusters.api import ClusterError, NodeSpec
from clusters.sockets import short

SOCKET = "control"


class AddNode(msgspec.Struct, frozen=True, tag="add-node"):
    """A new node joins."""

    node: NodeSpec


class Lose(msgspec.Struct, frozen=True, tag="lose"):
    """A node is gone, with all that runs on it, without a word."""

    node: str


class SpotNotice(msgspec.Struct, frozen=True, tag="spot-notice"):
    """A node is told that it will be lost in so many seconds."""

    node: str
    seconds: float


class Heal(msgspec.Struct, frozen=True, tag="heal"):
    """A node is whole again, as a new machine if it was lost."""

    node: str


Request = AddNode | Lose | SpotNotice | Heal
"""What a holder can be asked to do."""


class Answer(msgspec.Struct, frozen=True):
    """It is done, or an error of that class says why not."""

    error: str | None = None
    kind: str = "ClusterError"


def ask(folder: Path, request: Request, seconds: float = 90.0) -> None:
    """Lets the holder of the cluster with that state folder do what is asked, and returns when it is done.

    Raises:
        ClusterError: it cannot be done, or the holder does not answer within `seconds`.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection, short(folder / SOCKET) as path:
            connection.settimeout(seconds)
            connection.connect(path)
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as stream:
                answer = msgspec.json.decode(stream.readline(), type=Answer)
    except (OSError, msgspec.MsgspecError) as error:
        raise ClusterError(
            f"the cluster of {folder} did not answer the command {type(request).__struct_config__.tag!r} "
            f"({error or 'no answer'}); look at `gpulab status`, and start it again if it hangs"
        ) from error
    if answer.error is not None:
        kind = getattr(api, answer.kind, ClusterError)
        raise kind(answer.error)


def serve(folder: Path, handle: Callable[[Request], None]) -> None:
    """Answers from now on, on threads that end with the process; `handle` may raise any ClusterError."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):  # who asked is gone
                self.wfile.write(msgspec.json.encode(_answer(self.rfile.readline(), handle)) + b"\n")

    with short(folder / SOCKET) as path:
        server = _Server(path, Handler)
        os.chmod(path, 0o600)  # noqa: PTH101 - resolving the path would make it long again
    threading.Thread(target=server.serve_forever, daemon=True).start()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def _answer(line: bytes, handle: Callable[[Request], None]) -> Answer:
    try:
        handle(msgspec.json.decode(line, type=Request))
    except msgspec.MsgspecError as error:
        return Answer(f"the cluster does not know this command, as another version started it: {error}")
    except (ClusterError, OSError) as error:
        known = [each.__name__ for each in type(error).__mro__ if getattr(api, each.__name__, None) is each]
        return Answer(str(error), known[0] if known else "ClusterError")
    return Answer()
