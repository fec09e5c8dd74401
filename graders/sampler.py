"""Fetches what servers say at /metrics, in a process of its own that stands in the cluster's network.

Place: `scrape.Scraper` starts it as `python -m graders.sampler FILE`, tells it what to do in lines and reads the file
of scrapes it writes: `all` fetches once and answers `done`; `begin SECONDS` also fetches again and again, after pauses
drawn from an exponential distribution of that mean; `stop` ends that. Limits: plain HTTP; one server after the other.

Moments that are drawn like that see time averages (Wolff 1982, "Poisson arrivals see time averages"), and no server
knows when the next one is due.
"""

import http.client
import os
import random
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from graders.process import die_with_parent

MOST_BYTES = 16 * 2**20
"""An answer longer than this is no answer."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replica serves its metrics; `host` is an IP address."""

    host: str
    port: int
    path: str = "/metrics"


class Scrape(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica said once, raw.

    Attributes:
        replica: its name.
        round: number of the round; all replicas are asked in each.
        asked: when it was asked, in seconds on the machine's monotonic clock.
        answered: when its answer had come.
        status: HTTP status, None when none came.
        text: the answer; of a round between `begin` and `stop`, only the lines of the metrics named in the job.
        failure: why there is no answer, None when there is one.
    """

    replica: str
    round: int
    asked: float
    answered: float
    status: int | None = None
    text: str = ""
    failure: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a sampler is started for: replicas, the metrics kept of rounds in passing, its file, its seed, patience."""

    places: dict[str, Place]
    brief: tuple[str, ...]
    out: str
    seed: int
    seconds: float


def fetch(replica: str, place: Place, number: int, *, seconds: float, clock: Callable[[], float]) -> Scrape:
    """One GET; whatever goes wrong is a fact in the scrape, never an exception."""
    asked = clock()
    try:
        connection = http.client.HTTPConnection(place.host, place.port, timeout=seconds)
        try:
            connection.request("GET", place.path, headers={"Accept": "text/plain;version=0.0.4;q=1"})
            answer = connection.getresponse()
            data = answer.read(MOST_BYTES + 1)
            status, failure = answer.status, None
        finally:
            connection.close()
        text = data.decode()
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        return Scrape(replica=replica, round=number, asked=asked, answered=clock(), failure=_words(error))
    if status != 200:
        failure = f"HTTP {status}"
    elif len(data) > MOST_BYTES:
        failure = f"more than {MOST_BYTES} bytes"
    return Scrape(
        replica=replica,
        round=number,
        asked=asked,
        answered=clock(),
        status=status,
        text="" if failure else text,
        failure=failure,
    )


def brief(text: str, names: frozenset[str]) -> str:
    """Only the samples of those names, one a line."""
    kept = (line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] in names)
    return "".join(f"{line}\n" for line in kept)


class Sampler:
    """Does rounds of scrapes and writes them down; `due` is when the next one in passing is."""

    def __init__(self, job: Job, out: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._job, self._out, self._clock = job, out, clock
        self._names = frozenset(job.brief)
        self._draw = random.Random(job.seed)  # noqa: S311
        self._pause: float | None = None
        self._encoder = msgspec.json.Encoder()
        self._round = 0
        self.due: float | None = None

    def obey(self, line: str) -> None:
        """Does what a line from the parent says; raises ValueError for one that says nothing known."""
        verb, _, rest = line.partition(" ")
        if verb == "all":
            self._go(whole=True)
        elif verb == "begin":
            self._pause = float(rest)
            self._plan()
        elif verb == "stop":
            self._pause = self.due = None
        else:
            raise ValueError(f"a sampler was told {line!r}; it knows all, begin and stop")

    def pass_by(self) -> None:
        """A round in passing, and the time of the next."""
        self._go(whole=False)
        self._plan()

    def _plan(self) -> None:
        if self._pause is not None:
            self.due = self._clock() + self._draw.expovariate(1.0 / self._pause)

    def _go(self, *, whole: bool) -> None:
        for replica, place in self._job.places.items():
            found = fetch(replica, place, self._round, seconds=self._job.seconds, clock=self._clock)
            if not whole:
                found = msgspec.structs.replace(found, text=brief(found.text, self._names))
            self._out.write(self._encoder.encode(found) + b"\n")
        self._out.flush()
        self._round += 1


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _listen(sampler: Sampler) -> None:
    """Obeys lines from standard input until it ends."""
    buffer = b""
    while True:
        wait = None if sampler.due is None else max(0.0, sampler.due - time.monotonic())
        if not select.select([sys.stdin.fileno()], [], [], wait)[0]:
            sampler.pass_by()
            continue
        if not (data := os.read(sys.stdin.fileno(), 4096)):
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            sampler.obey(line.decode())
            _say("done")


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main() -> None:
    """Reads the job that the first argument names, then listens."""
    die_with_parent()
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    with Path(job.out).open("ab") as out:
        _say("ready")
        _listen(Sampler(job, out))


if __name__ == "__main__":
    main()
