"""A loop that only waits and reads, in Python: what an event costs before a client has done anything with it.

    python -m benchmarks.peers.bare PLAN

Place: load_generator.py puts it beside our client in every round, against a stub of its own. It reads a closed loop's
Plan (JSON) from a file and says a Reading (JSON). Limits: no time-outs, no diagnosis, nothing kept of which answer a
read belongs to; a server that closes a connection, or has no request left to answer, ends it with an error.
"""

import gc
import select
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from graders.plan import Plan, encode_request
from graders.process import Child
from graders.watch import hurry

END = b"\r\n0\r\n\r\n"
"""The last bytes of a chunked answer."""
EVENT = b"data: {"


class Reading(msgspec.Struct, frozen=True):
    """Events with JSON that were read in the window, and the seconds of processor time that it took."""

    events: int
    cpu: float

    @property
    def cost(self) -> float:
        """Microseconds of processor time per event."""
        return 1e6 * self.cpu / self.events


def measure(plan: Plan, folder: Path) -> Reading:
    """Runs the loop in a process of its own; raises RuntimeError with its last words when it said nothing."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file, log = Path(place) / "plan.json", Path(place) / "log"
        file.write_bytes(msgspec.json.encode(plan))
        with Child([sys.executable, "-m", "benchmarks.peers.bare", str(file)], log=log) as child:
            said = child.hear(60 + plan.window_end)
            if said is None:
                raise RuntimeError(f"the bare reader said nothing; it logged: {child.last_words()}")
            return msgspec.json.decode(said, type=Reading)


def read(plan: Plan) -> Reading:
    """Keeps the plan's closed loop going over its ramp and window."""
    asked = (encode_request(plan.target, each, f"bare-{index}") for index, each in enumerate(plan.requests))
    target, sockets = (plan.target.host, plan.target.port), {}
    waiting = select.epoll()
    for _ in range(plan.schedule.streams or 1):
        connection = socket.create_connection(target)
        connection.setblocking(False)
        waiting.register(connection.fileno(), select.EPOLLIN)
        sockets[connection.fileno()] = connection
    for connection in sockets.values():
        connection.sendall(next(asked))
    t0 = time.monotonic()
    hurry()  # and no collection of garbage, both as in a worker of ours
    gc.disable()
    _keep(waiting, sockets, asked, t0 + plan.ramp)
    begun = time.process_time()
    pieces = _keep(waiting, sockets, asked, t0 + plan.window_end)
    cpu = time.process_time() - begun
    return Reading(events=sum(each.count(EVENT) for each in pieces), cpu=cpu)


def _keep(
    waiting: select.epoll, sockets: Mapping[int, socket.socket], asked: Iterator[bytes], end: float
) -> list[bytes]:
    """What came until then; each answer's end sends the next request."""
    clock, pieces, times = time.monotonic, [], []
    while clock() < end:
        for number, _ in waiting.poll(0.1):
            piece = sockets[number].recv(65536)
            times.append(clock())
            pieces.append(piece)
            if piece.endswith(END):
                sockets[number].sendall(next(asked))
            elif not piece:
                raise ConnectionError("the server closed a connection")
    return pieces


if __name__ == "__main__":
    found = read(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan))
    print(msgspec.json.encode(found).decode(), flush=True)
