"""The worker process that sends requests and keeps what comes back: `python -m graders.client JOB`.

Place: `load` starts it, inside the cluster's network, and merges its file. It says `ready` once connected, is told t0
on its standard input, says `done` when its file is written, and ends when that input closes. Limits: one thread.

While it measures it does no more than it must: requests are encoded, connections of a closed loop open and the garbage
collector off before t0, and answers are read after the end.
"""

import asyncio
import contextlib
import gc
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from graders.arrivals import shard
from graders.connection import Connection, Flight
from graders.plan import Plan, encode_request
from graders.process import die_with_parent
from graders.samples import Sample
from graders.tls import TlsTransport, client_context
from graders.watch import Watch, hurry

RETRY_SECONDS = 0.1
"""A closed loop waits so long after a failure, or a server that refuses would be asked thousands of times a second."""
IDLE_SECONDS = 4.0
"""A connection idle for longer is not used again: uvicorn, vLLM's server, closes it after 5 s."""
SPIN_SECONDS = 0.0005
"""Timers have a resolution of 1 ms; the rest of it is spent waiting for the planned time."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to do: its number among `workers`, the plan, and the file for its samples."""

    plan: Plan
    worker: int
    workers: int
    out: str


class Client:
    """All requests of one worker, from t0 to the end of the drain."""

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan, self.loop, self.clock = job.plan, loop, clock
        self.mine = shard(job.plan.schedule, job.workers)[job.worker]
        self.limit = len(range(job.worker, job.plan.connections, job.workers))
        self.encoded = {index: self._encode(index) for index in self._indices()}
        self._finished: list[tuple[Flight, float, str | None, bool, str | None]] = []
        self.idle: list[Connection] = []
        self.flying: set[Connection] = set()
        self.opening: set[asyncio.Task[None]] = set()
        self.opened = 0
        self.tls = client_context(job.plan.target.tls) if job.plan.target.tls else None
        self.over = asyncio.Event()
        self.t0 = 0.0
        self.watch = Watch(job.plan, job.worker, loop, clock, self.sweep)
        self._planned: Iterator[int] = iter(self.mine)
        self._upcoming: int | None = None
        self._running = 0
        self._all_sent = self._ended = False

    async def prepare(self) -> None:
        """Opens a connection for each stream; what cannot be opened now is tried again when it is needed."""
        if self.plan.schedule.streams is not None:
            await asyncio.gather(*(self._prepare() for _ in self.mine))

    def start(self, t0: float) -> None:
        """Begins at `t0` on the clock."""
        self.t0 = t0
        self.watch.start(t0)
        self.loop.call_later(max(0.0, t0 + self.plan.end - self.clock()), self._end)
        if self.plan.schedule.streams is None:
            self._upcoming = next(self._planned, None)
            self._send_due()
        else:
            self.loop.call_later(max(0.0, t0 - self.clock()), self._begin_streams)

    def dispatch(self, flight: Flight, *, fresh: bool = False) -> None:
        """Sends a request on an idle connection, or on a new one if the limit allows."""
        now = self.clock()
        while self.idle and not fresh:
            connection = self.idle.pop()
            if not connection.transport.is_closing() and now - connection.freed < IDLE_SECONDS:
                connection.send(flight)
                return
            connection.drop()
        if self.opened >= self.limit:
            self.finish(flight, now, "connection limit")
            return
        self._count()
        task = self.loop.create_task(self._open(flight))
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    def finish(
        self, flight: Flight, now: float, failure: str | None = None, *, closed: bool = False, detail: str | None = None
    ) -> None:
        """Keeps the sample of a request that has ended, and lets its stream go on."""
        self._finished.append((flight, now, failure, closed, detail))
        if flight.stream is None or self._ended:
            self._running -= 1
            self._settle()
        elif failure:
            self.loop.call_later(RETRY_SECONDS, self._next, flight.stream, flight.index, None)
        else:
            self._next(flight.stream, flight.index, now)

    def samples(self) -> list[Sample]:
        """A sample of each request that has ended."""
        return [_sample(self.t0, *each) for each in self._finished]

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self.opened -= 1
        self.flying.discard(connection)
        with contextlib.suppress(ValueError):
            self.idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Gives up requests that passed a time-out."""
        limits = self.plan.timeouts
        for connection in tuple(self.flying):
            flight = connection.flight
            if flight is None or flight.sent is None:
                continue
            if now - flight.sent > limits.total:
                connection.fail(now, f"not complete after {limits.total:g} s")
            elif not flight.times and now - flight.sent > limits.first_byte:
                connection.fail(now, f"no byte after {limits.first_byte:g} s")
            elif flight.times and now - flight.times[-1] > limits.between_reads:
                connection.fail(now, f"nothing more for {limits.between_reads:g} s")
            else:
                connection.look_closer(now)

    def _indices(self) -> list[int]:
        """Requests that this worker may send."""
        streams = self.plan.schedule.streams
        if streams is None:
            return list(self.mine)
        return [index for stream in self.mine for index in range(stream, len(self.plan.requests), streams)]

    def _encode(self, index: int) -> bytes:
        return encode_request(self.plan.target, self.plan.requests[index], f"{self.plan.seed}-{index}")

    def _count(self) -> None:
        """A connection more."""
        self.opened += 1
        self.watch.connections = max(self.watch.connections, self.opened)

    async def _prepare(self) -> None:
        with contextlib.suppress(OSError):
            connection = await self._connect()
            self._count()
            self.idle.append(connection)

    async def _connect(self) -> Connection:
        target, connection = self.plan.target, Connection(self)
        async with asyncio.timeout(self.plan.timeouts.connect):
            if target.tls is None or self.tls is None:
                await self.loop.create_connection(lambda: connection, target.host, target.port)
                return connection
            name = target.tls.name or target.host
            layer = TlsTransport(connection, self.tls, name, self.clock, self.loop.create_future())
            await self.loop.create_connection(lambda: layer, target.host, target.port)
            try:
                await layer.established
            except BaseException:
                layer.abort()
                raise
        return connection

    async def _open(self, flight: Flight) -> None:
        try:
            connection = await self._connect()
        except TimeoutError:
            self.opened -= 1
            self.finish(flight, self.clock(), f"not connected after {self.plan.timeouts.connect:g} s")
        except ssl.SSLError as error:
            self.opened -= 1
            why = getattr(error, "verify_message", None) or error.reason
            self.finish(flight, self.clock(), "TLS handshake failed", detail=why)
        except OSError as error:
            self.opened -= 1
            refused = isinstance(error, ConnectionRefusedError)
            detail = None if refused else error.strerror
            self.finish(flight, self.clock(), "connection refused" if refused else "cannot connect", detail=detail)
        except asyncio.CancelledError:
            self.finish(flight, self.clock(), "unfinished when the drain ended")
        else:
            flight.connected = self.clock()
            connection.send(flight)

    def _send_due(self) -> None:
        """Sends each request at its planned time, never before, and sleeps till the next."""
        while self._upcoming is not None and not self._ended:
            planned = self.plan.schedule.times[self._upcoming]
            left = self.t0 + planned - self.clock()
            if left > SPIN_SECONDS:
                self.loop.call_later(left, self._send_due)
                return
            while self.clock() < self.t0 + planned:
                pass
            self._running += 1
            self.dispatch(Flight(self._upcoming, planned, self.clock() - self.t0, None))
            self._upcoming = next(self._planned, None)
        self._all_sent = True
        self._settle()

    def _begin_streams(self) -> None:
        self._running, self._all_sent = len(self.mine), True
        for stream in self.mine:
            self._go(stream, stream, self.t0)

    def _next(self, stream: int, before: int, now: float | None) -> None:
        """Goes on with a stream: at once, or from the present time after a pause."""
        index = before + (self.plan.schedule.streams or 1)
        now = self.clock() if now is None else now
        if now - self.t0 >= self.plan.window_end or self._ended or index not in self.encoded:
            self.watch.ran_out += now - self.t0 < self.plan.window_end
            self._running -= 1
            self._settle()
        else:
            self._go(stream, index, now)

    def _go(self, stream: int, index: int, now: float) -> None:
        self.dispatch(Flight(index, now - self.t0, self.clock() - self.t0, stream))

    def _settle(self) -> None:
        """Ends the run once nothing is on its way and nothing more will be sent."""
        if self._running == 0 and (self._all_sent or self._ended):
            self.over.set()

    def _end(self) -> None:
        """The drain is over: what has not ended is unfinished."""
        self._ended = True
        now = self.clock()
        for task in tuple(self.opening):
            task.cancel()
        for connection in tuple(self.flying):
            connection.fail(now, "unfinished when the drain ended")
        self._settle()


def _sample(t0: float, flight: Flight, now: float, failure: str | None, closed: bool, detail: str | None) -> Sample:
    return Sample(
        index=flight.index,
        planned=flight.planned,
        started=flight.started,
        connected=None if flight.connected is None else flight.connected - t0,
        sent=None if flight.sent is None else flight.sent - t0,
        times=tuple(each - t0 for each in flight.times),
        sizes=tuple(len(piece) for piece in flight.pieces),
        data=b"".join(flight.pieces),
        end=now - t0,
        failure=failure,
        detail=detail,
        resent=flight.resent,
        closed=closed,
    )


def main() -> None:
    """Carries out the job named on the command line."""
    die_with_parent()
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_work(job, uvloop=False))
    else:
        uvloop.run(_work(job, uvloop=True))


async def _work(job: Job, *, uvloop: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_break_off)
    client = Client(job, loop)
    await client.prepare()
    told: asyncio.Future[float] = loop.create_future()
    loop.add_reader(sys.stdin.fileno(), _listen, told)
    _say("ready")
    t0 = await told
    gc.collect()
    gc.freeze()
    gc.disable()
    scheduling = hurry()
    client.start(t0)
    await client.over.wait()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    lines = [client.watch.health(uvloop=uvloop, scheduling=scheduling), *client.samples()]
    Path(job.out).write_bytes(msgspec.json.Encoder().encode_lines(lines))
    _say("done")


def _listen(told: "asyncio.Future[float]") -> None:
    """Hears t0; ends this process when the parent is gone."""
    line = os.read(sys.stdin.fileno(), 4096)
    if not line:
        os._exit(1)
    if not told.done():
        told.set_result(float(line))


def _break_off(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error of ours in a callback: says it in the log and ends at once, as the samples would not be whole."""
    loop.default_exception_handler(context)
    os._exit(1)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
