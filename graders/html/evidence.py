"""A run's folder read for a report: its verdict, its facts, and its evidence reduced to what is shown.

Place: `page` shows what this reads. Limits: it reads one file after the other and keeps little of each; a file that
cannot be read is named, and the report goes on without it.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from graders import samples, scrape
from graders.errors import GraderError, HarnessError
from graders.html.counters import Counters, counters_of
from graders.html.loads import Load, loads_of
from graders.record import tampered
from graders.rubric import CheckResult, Verdict, read_verdict

LOADS, SCRAPES = (name.rpartition("/")[0] for name in (samples.FORMAT, scrape.FORMAT))
EVENTS = "gpulab/events"
"""What files of each kind say in their first line, before the version."""
ENDINGS = (".jsonl.gz", ".jsonl")
MOST_BYTES = 512 * 2**20
"""A file that holds more is not read: no run of a lab writes so much."""


class ClusterEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of Kubernetes: when it came first and last, and how often; what it is about, and what it says."""

    first: datetime
    last: datetime
    count: int = 1
    type: str | None = None
    reason: str | None = None
    kind: str | None = None
    name: str | None = None
    message: str | None = None


class Unread(msgspec.Struct, frozen=True):
    """A file of evidence that is not shown, and why."""

    name: str
    why: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that a report is made of.

    Attributes:
        run: the name of the run, which is its folder's.
        place: its folder.
        verdict: what was judged.
        facts: the lines of run.jsonl, but for its format.
        loads: load runs by the name of their file in the folder.
        counters: what servers told, by the name of their file.
        events: of Kubernetes, in the run's namespace.
        files: names of all evidence, sorted.
        unread: what could not be read.
        seal: whether the files are as they were when the run was sealed, a sentence.
    """

    run: str
    place: Path
    verdict: Verdict
    facts: tuple[Mapping[str, Any], ...]
    loads: Mapping[str, tuple[Load, ...]]
    counters: Mapping[str, Counters]
    events: tuple[ClusterEvent, ...]
    files: tuple[str, ...]
    unread: tuple[Unread, ...]
    seal: str

    def evidence_of(self, check: CheckResult) -> list[str]:
        """Names of the files that a check's result rests on, as they are called here: some are compressed."""
        kept = frozenset(self.files)
        return [each for name in check.evidence for each in (name, f"{name}.gz") if each in kept]


def read(folder: Path) -> Evidence:
    """Reads a run's folder; raises HarnessError when it holds no verdict that can be read."""
    verdict = read_verdict(folder / "verdict.json")
    loads: dict[str, tuple[Load, ...]] = {}
    counters: dict[str, Counters] = {}
    events: list[ClusterEvent] = []
    unread: list[Unread] = []
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("evidence/**/*") if path.is_file())
    for name in names:
        stem = _stem(name)
        if stem is None:
            continue
        try:
            content = _content(folder / name)
            kind = _format(content)
            if kind == LOADS:
                loads[name] = loads_of(stem, samples.Run.decode(content))
            elif kind == SCRAPES:
                counters[name] = counters_of(stem, scrape.Scrapes.decode(content))
            elif kind == EVENTS:
                events += msgspec.json.Decoder(ClusterEvent).decode_lines(content.partition(b"\n")[2])
        except (OSError, EOFError, zlib.error, GraderError, msgspec.MsgspecError) as error:
            unread.append(Unread(name, str(error)))
    return Evidence(
        run=folder.resolve().name,
        place=folder,
        verdict=verdict,
        facts=tuple(_facts(folder / "run.jsonl")),
        loads=loads,
        counters=counters,
        events=tuple(events),
        files=tuple(names),
        unread=tuple(unread),
        seal=_seal(folder),
    )


def _stem(name: str) -> str | None:
    """The last part of a name without its ending; None where the ending is not that of lines."""
    last = name.rpartition("/")[2]
    return next((last.removesuffix(ending) for ending in ENDINGS if last.endswith(ending)), None)


def _content(path: Path) -> bytes:
    with path.open("rb") as stored, gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise HarnessError(f"it holds more than {MOST_BYTES >> 20} MiB")
    return content


def _format(content: bytes) -> str | None:
    """What the first line says it is, without its version; None where it says nothing."""
    try:
        header = msgspec.json.decode(content.partition(b"\n")[0], type=dict[str, Any])
    except msgspec.MsgspecError:
        return None
    return str(header.get("format")).rpartition("/")[0] or None


def _facts(path: Path) -> Iterator[Mapping[str, Any]]:
    """Facts up to the first line that cannot be read, as a run that was killed may leave a part of one."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines[1:]:
        try:
            yield msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            return


def _seal(folder: Path) -> str:
    try:
        changed = tampered(folder)
    except HarnessError:
        return "The run was not sealed, as it did not end: nothing shows whether its files were changed since."
    if changed:
        return f"Changed since the run was sealed: {', '.join(changed)}."
    return "All files are as they were when the run was sealed: their SHA-256 sums are those of its manifest."
