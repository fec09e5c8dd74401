"""A stored run read for a report: its verdict, its facts, and its evidence reduced to what is shown.

Place: `page` shows what this reads. Limits: it reads one file after the other and keeps little of each; a file that
cannot be read is named, and the report goes on without it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from graders import gpu_telemetry, samples, scrape
from graders.audit import audit
from graders.errors import GraderError
from graders.html.counters import Counters, counters_of
from graders.html.devices import Device, devices_of
from graders.html.loads import Load, loads_of
from graders.lines import EVENTS_FORMAT
from graders.packed import SUFFIX, RunUnreadable
from graders.rubric import CheckResult, Verdict, verdict_of
from graders.stored import UNDECODABLE, StoredRun

VERDICT, FACTS, FOLDER = "verdict.json", "run.jsonl", "evidence/"
LOADS, SCRAPES, GPUS, EVENTS = (
    name.rpartition("/")[0] for name in (samples.FORMAT, scrape.FORMAT, gpu_telemetry.FORMAT, EVENTS_FORMAT)
)
"""What files of each kind say in their first line, before the version."""
ENDINGS = (".jsonl.gz", ".jsonl")


class ClusterEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of Kubernetes: when it came first and last, and how often; what it is about, and why it came."""

    first: datetime
    last: datetime
    count: int = 1
    type: str | None = None
    reason: str | None = None
    kind: str | None = None
    name: str | None = None


class Unread(msgspec.Struct, frozen=True):
    """A file of evidence that is not shown, and why."""

    name: str
    why: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that a report is made of.

    Attributes:
        run: the name of the run, which is that of its folder or of its packed file.
        place: its folder, or the file it was packed as.
        verdict: what was judged.
        facts: the lines of run.jsonl, but for its format.
        loads: load runs by the name of their file in the folder.
        counters: what servers told, by the name of their file.
        events: of Kubernetes, in the run's namespace.
        gpus: what each device did.
        files: names of all evidence, sorted.
        unread: what could not be read.
        holds: whether nothing speaks against the run, and what does, in sentences.
    """

    run: str
    place: Path
    verdict: Verdict
    facts: tuple[Mapping[str, Any], ...]
    loads: Mapping[str, tuple[Load, ...]]
    counters: Mapping[str, Counters]
    events: tuple[ClusterEvent, ...]
    gpus: tuple[Device, ...]
    files: tuple[str, ...]
    unread: tuple[Unread, ...]
    holds: str

    def loads_of(self, check: CheckResult) -> tuple[Load, ...]:
        """The load runs that a check's result rests on."""
        return tuple(load for name in check.evidence for load in self.loads.get(name, ()))

    def counters_of(self, check: CheckResult) -> tuple[Counters, ...]:
        """What servers told that a check's result rests on."""
        return tuple(self.counters[name] for name in check.evidence if name in self.counters)


def read(place: Path) -> Evidence:
    """Reads a stored run; raises GraderError when there is none, or its verdict cannot be read."""
    if not place.is_dir() and not place.is_file():
        raise RunUnreadable(f"there is no run {place}; name the folder of one, as in results/, or a packed one")
    if place.is_dir() and not (place / VERDICT).is_file():
        raise RunUnreadable(f"{place} holds no {VERDICT}, so it is no run; name the folder of one, as in results/")
    loads: dict[str, tuple[Load, ...]] = {}
    counters: dict[str, Counters] = {}
    events: list[ClusterEvent] = []
    gpus: list[Device] = []
    unread: list[Unread] = []
    with StoredRun(place) as run:
        verdict = verdict_of(run.raw(VERDICT), f"{place}/{VERDICT}")
        names = [name for name in run.names if name.startswith(FOLDER)]
        for name in names:
            stem = _stem(name)
            if stem is None:
                continue
            try:
                content = run.read(name)
                kind = _format(content)
                if kind == LOADS:
                    loads[name] = loads_of(stem, samples.Run.decode(content))
                elif kind == SCRAPES:
                    counters[name] = counters_of(stem, scrape.Scrapes.decode(content))
                elif kind == EVENTS:
                    events += msgspec.json.Decoder(ClusterEvent).decode_lines(content.partition(b"\n")[2])
                elif kind == GPUS:
                    gpus += devices_of(gpu_telemetry.decode(content))
            except (OSError, GraderError, *UNDECODABLE) as error:
                unread.append(Unread(name, str(error)))
        facts = tuple(_facts(run.raw(FACTS))) if run.has(FACTS) else ()
    return Evidence(
        run=name_of(place),
        place=place,
        verdict=verdict,
        facts=facts,
        loads=loads,
        counters=counters,
        events=tuple(events),
        gpus=tuple(gpus),
        files=tuple(names),
        unread=tuple(unread),
        holds=_holds(place),
    )


def name_of(place: Path) -> str:
    """The name of the run in a folder or a packed file."""
    return place.resolve().name.removesuffix(SUFFIX)


def _stem(name: str) -> str | None:
    """The last part of a name without its ending; None where the ending is not that of lines."""
    last = name.rpartition("/")[2]
    return next((last.removesuffix(ending) for ending in ENDINGS if last.endswith(ending)), None)


def _format(content: bytes) -> str | None:
    """What the first line says it is, without its version; None where it says nothing."""
    try:
        header = msgspec.json.decode(content.partition(b"\n")[0], type=dict[str, Any])
    except UNDECODABLE:
        return None
    return str(header.get("format")).rpartition("/")[0] or None


def _facts(content: bytes) -> Iterator[Mapping[str, Any]]:
    """Facts up to the first line that cannot be read, as a run that was killed may leave a part of one."""
    for line in content.splitlines()[1:]:
        try:
            yield msgspec.json.decode(line, type=dict[str, Any])
        except UNDECODABLE:
            return


def _holds(place: Path) -> str:
    """What `gpulab check` finds."""
    found = audit(place)
    if found.flaws:
        return f"It does not hold: {'; '.join(flaw.said for flaw in found.flaws)}."
    signed = f"signed by {found.signer}" if found.signer else "not signed"
    return f"It holds: all files are as they were sealed, and prove the verdict; {signed}."
