"""Scrapes of a server's metrics around and during a measurement, taken from inside the cluster's network.

Place: lab checks hold a `Scraper` around their load; `crosscheck` judges what it brings. Limits: those of `sampler`,
which does the fetching; a scrape that failed is a fact, not an exception.

    with Scraper(places, enter=cluster.enter, folder=folder, brief=VLLM.brief, seed=seed) as scraper:
        with scraper.around(VLLM) as window:
            run = load.run(plan, enter=cluster.enter, folder=folder)
    record.keep("scrapes.jsonl", window.scrapes.encode())
    found = crosscheck.compare(VLLM, window.scrapes, ledger([run]))
"""

import contextlib
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from graders.errors import HarnessError, InfrastructureError
from graders.lines import headed, refuse_format
from graders.metrics import Metrics, Names
from graders.process import Child
from graders.sampler import Job, Place, Scrape

FORMAT = "gpulab/scrapes/v1"
START_SECONDS = 30.0
"""A sampler imports Python within this time."""
FETCH_SECONDS = 10.0
"""A replica that takes longer for its metrics has none."""
PAUSE_SECONDS = 0.1
"""Between two looks at whether a server is idle."""

Round = tuple[Scrape, ...]
"""One scrape of each replica, taken one after the other."""


class _Header(msgspec.Struct, frozen=True):
    format: str
    before: int
    after: int


class Scrapes(msgspec.Struct, frozen=True, kw_only=True):
    """A round from before a load, one from after it, and those in passing in between, in order."""

    before: Round
    during: tuple[Round, ...] = ()
    after: Round

    def encode(self) -> bytes:
        """Everything as JSON lines for the record: a header that names the format, then a scrape each."""
        header = _Header(FORMAT, self.before[0].round if self.before else 0, self.after[0].round if self.after else 0)
        return msgspec.json.Encoder().encode_lines([header, *itertools.chain(self.before, *self.during, self.after)])

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """What `encode` gave these lines; raises HarnessError for any others."""
        header, scrapes = headed(text, _Header, Scrape, what="scrapes", remedy="measure again")
        refuse_format(header.format, FORMAT)
        return cls.of(scrapes, before=header.before, after=header.after)

    @classmethod
    def of(cls, scrapes: Iterable[Scrape], *, before: int, after: int) -> Self:
        """Those from the round with one number to the round with the other."""
        rounds = {number: tuple(group) for number, group in itertools.groupby(scrapes, lambda each: each.round)}
        during = tuple(rounds[number] for number in sorted(rounds) if before < number < after)
        return cls(before=rounds.get(before, ()), during=during, after=rounds.get(after, ()))


@dataclass
class Window:
    """What was scraped around and during a load; complete once `Scraper.around` has ended."""

    scrapes: Scrapes = field(default_factory=lambda: Scrapes(before=(), after=()))


class Scraper:
    """Scrapes all replicas of a server when told, and at random moments in between; ends its process at its exit.

    Args:
        places: where each replica serves its metrics, by name.
        enter: turns an argument list into one that runs where these places answer.
        folder: for files in passing, which are removed again.
        brief: names of the samples that rounds in passing keep, see `Names.brief`.
        seed: what the moments in passing are drawn from.

    Raises:
        HarnessError: there is no replica.
        InfrastructureError: the sampler could not be started there.
    """

    def __init__(
        self,
        places: Mapping[str, Place],
        *,
        enter: Callable[[Sequence[str]], list[str]] = list,
        folder: Path,
        brief: Sequence[str],
        seed: int,
    ) -> None:
        if not places:
            raise HarnessError("no replica was named whose metrics to scrape; name those that take the load")
        with contextlib.ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scrapes-", dir=folder)))
            self._out = place / "scrapes.jsonl"
            job = Job(places=dict(places), brief=tuple(brief), out=str(self._out), seed=seed, seconds=FETCH_SECONDS)
            path = place / "job.json"
            path.write_bytes(msgspec.json.encode(job))
            argv = enter([sys.executable, "-m", "graders.sampler", str(path)])
            self._child = stack.enter_context(Child(argv, log=place / "sampler.log"))
            self._patience = START_SECONDS + 2 * FETCH_SECONDS * len(places)
            if self._child.hear(START_SECONDS) != "ready":
                raise InfrastructureError(
                    "the scrapes could not start in the cluster's network; the sampler's log ends: "
                    f"{self._child.last_words()}"
                )
            self._stack = stack.pop_all()

    def whole(self) -> Round:
        """One round, with all that the replicas say."""
        self._tell("all")
        scrapes = self.scrapes()
        return tuple(each for each in scrapes if each.round == scrapes[-1].round)

    def idle(
        self,
        names: Names,
        *,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Round:
        """Rounds until nothing runs or waits anywhere and no counter moved since the round before; the last of them.

        After `seconds` it is the last one all the same, and `crosscheck.compare` says that the server was not idle.
        """
        begun, previous = clock(), None
        while True:
            found = self.whole()
            state = [_activity(names, each) for each in found]
            at_rest = all(each is not None and each[0] == 0 for each in state)
            if (at_rest and state == previous) or clock() - begun > seconds:
                return found
            previous = state
            sleep(PAUSE_SECONDS)

    @contextlib.contextmanager
    def around(self, names: Names, *, every: float = 0.5, seconds: float = 30.0) -> Iterator[Window]:
        """Scrapes before what is inside, at random moments during it and after it, each end when the server is idle.

        Args:
            names: how the server calls its gauges and counters.
            every: mean of the pauses between rounds in passing.
            seconds: how long to wait at each end for the server to be idle.
        """
        window = Window()
        before = self.idle(names, seconds=seconds)
        with self.during(every=every):
            yield window
        after = self.idle(names, seconds=seconds)
        window.scrapes = Scrapes.of(self.scrapes(), before=before[0].round, after=after[0].round)

    @contextlib.contextmanager
    def during(self, *, every: float) -> Iterator[None]:
        """Adds rounds in passing inside, after random pauses of `every` seconds on average.

        Each costs the server some milliseconds to write its metrics out, in the process that also answers requests.
        """
        self._tell(f"begin {every!r}")
        try:
            yield
        finally:
            self._tell("stop")

    def scrapes(self) -> tuple[Scrape, ...]:
        """All that was scraped so far, in order."""
        lines, _, _ = self._out.read_bytes().rpartition(b"\n")  # the last one may still be written
        return tuple(msgspec.json.Decoder(Scrape).decode_lines(lines))

    def _tell(self, line: str) -> None:
        self._child.tell(line)
        if self._child.hear(self._patience) != "done":
            raise HarnessError(
                f"the sampler did not do {line!r} within {self._patience:g} s; its log ends: {self._child.last_words()}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def series(rounds: Iterable[Round], *names: str) -> list[tuple[float, dict[str, float]]]:
    """Gauges over time: of each round its moment on the monotonic clock, and the sum of these at each replica.

    Rounds in which a replica did not tell one of them are left out.
    """
    looks = []
    for scrapes in rounds:
        told = {scrape.replica: _sum(scrape, names) for scrape in scrapes}
        values = {replica: value for replica, value in told.items() if value is not None}
        if values and len(values) == len(told):
            moment = statistics.fmean((scrape.asked + scrape.answered) / 2 for scrape in scrapes)
            looks.append((moment, values))
    return looks


def _sum(scrape: Scrape, names: Sequence[str]) -> float | None:
    try:
        metrics = Metrics.parse(scrape.text)
    except ValueError:
        return None
    values = [metrics.total(name) for name in names]
    found = [value for value in values if value is not None and math.isfinite(value)]
    return sum(found) if len(found) == len(values) else None


def _activity(names: Names, scrape: Scrape) -> tuple[float, ...] | None:
    """Requests in the server, and what it has counted so far; None where it does not say."""
    state = [
        _sum(scrape, group) for group in ((names.running, names.waiting), (names.finished,), (names.generation_tokens,))
    ]
    return None if None in state else tuple(value for value in state if value is not None)
