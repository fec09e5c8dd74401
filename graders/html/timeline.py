"""What happened when, as rows of bars and points on one scale, from the beginning of the run to its end. Pure.

Place: `page` shows it. Limits: it knows the times that were written down: of load runs always, of checks and events
where the record has them, and of what Kubernetes told.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from graders.html.evidence import ClusterEvent, Evidence
from graders.html.loads import Load
from graders.rubric import CheckResult

MOST_EVENTS = 60
MOST_OBJECTS = 40


class Mark(msgspec.Struct, frozen=True):
    """What is drawn on a row: "check", "load", "object", "event" or "warning"; start, length: percent of the run."""

    kind: str
    start: float
    length: float


class Row(msgspec.Struct, frozen=True):
    """A row: what it is, when in words, its marks, and the status that gives it a color, None where it has none."""

    what: str
    when: str
    marks: tuple[Mark, ...]
    status: str | None = None


class Timeline(msgspec.Struct, frozen=True):
    """Rows of what was done and of what Kubernetes told of its objects, and how many it warns of."""

    rows: tuple[Row, ...]
    objects: tuple[Row, ...]
    warned: int


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that began and ended, in seconds since the epoch; what only happened ends as it begins."""

    begin: float
    end: float
    kind: str
    what: str
    status: str | None = None
    loads: tuple[Load, ...] = ()
    points: tuple[tuple[str, float], ...] = ()


def timeline(found: Evidence) -> Timeline:
    """The rows in the order in which they began; of many objects those of which Kubernetes warns come first."""
    events = _by_time(_events(found.facts))
    done = _by_time([*_checks(found), *events[:MOST_EVENTS]])
    objects = sorted(_by_time(_objects(found.events)), key=lambda moment: moment.status is None)
    start = found.verdict.started.timestamp()
    ended = found.verdict.ended.timestamp() if found.verdict.ended else start
    end = max(ended, start + 1.0, *(moment.end for moment in [*done, *objects]), start)
    rows = [row(moment, start, end) for moment in done]
    if len(events) > MOST_EVENTS:
        rows.append(Row(f"{len(events) - MOST_EVENTS} more events are in the record", "", ()))
    told = [row(moment, start, end) for moment in _by_time(objects[:MOST_OBJECTS])]
    if len(objects) > MOST_OBJECTS:
        told.append(Row(f"{len(objects) - MOST_OBJECTS} more objects are in the evidence", "", ()))
    return Timeline(tuple(rows), tuple(told), sum(moment.status is not None for moment in objects))


def _by_time(moments: Iterable[Moment]) -> list[Moment]:
    return sorted(moments, key=lambda moment: moment.begin)


def row(moment: Moment, start: float, end: float) -> Row:
    """The row of a moment in a run from `start` to `end`."""

    def mark(kind: str, begin: float, until: float) -> Mark:
        begin, until = (min(max(each, start), end) for each in (begin, until))
        return Mark(kind, 100 * (begin - start) / (end - start), 100 * (until - begin) / (end - start))

    when = _clock(moment.begin - start)
    if moment.end > moment.begin:
        when = f"{when} to {_clock(moment.end - start)}"
    marks = [mark("load", load.started_at, load.started_at + load.end) for load in moment.loads]
    marks += [mark(kind, at, at) for kind, at in moment.points]
    return Row(moment.what, when, (mark(moment.kind, moment.begin, moment.end), *marks), moment.status)


def _checks(found: Evidence) -> Iterator[Moment]:
    """Each check whose times are known, by the record or else by its load runs; last, load runs of no check."""
    ends = {str(fact["result"].get("id")): at for fact, at in _timed(found.facts, "check") if "result" in fact}
    others = dict(found.loads)
    for check in found.verdict.checks:
        loads = found.loads_of(check)
        for name in check.evidence:
            others.pop(name, None)
        moment = _check(check, ends.get(check.id), loads)
        if moment is not None:
            yield moment
    if others:
        loads = tuple(load for several in others.values() for load in several)
        begin, end = min(load.started_at for load in loads), max(load.started_at + load.end for load in loads)
        yield Moment(begin=begin, end=end, kind="others", what="Other load runs", loads=loads)


def _check(check: CheckResult, end: float | None, loads: tuple[Load, ...]) -> Moment | None:
    spans = [(load.started_at, load.started_at + load.end) for load in loads]
    if end is not None and check.seconds is not None:
        spans.append((end - check.seconds, end))
    if not spans:
        return None
    begin, until = min(begin for begin, _ in spans), max(until for _, until in spans)
    return Moment(begin=begin, end=until, kind="check", what=check.title, status=check.status, loads=loads)


def _events(facts: tuple[Mapping[str, Any], ...]) -> Iterator[Moment]:
    for fact, at in _timed(facts, "event"):
        kind = "warning" if fact.get("warning") else "event"
        yield Moment(begin=at, end=at, kind=kind, what=str(fact.get("what")))


def _objects(events: Iterable[ClusterEvent]) -> Iterator[Moment]:
    """One row for each object that Kubernetes told of, with its reasons in the order in which they came first."""
    about: dict[tuple[str, str], list[ClusterEvent]] = {}
    for event in sorted(events, key=lambda event: event.first):
        about.setdefault((event.kind or "", event.name or ""), []).append(event)
    for (kind, name), told in about.items():
        counts: dict[str, int] = {}
        for event in told:
            counts[event.reason or "?"] = counts.get(event.reason or "?", 0) + event.count
        reasons = ", ".join(f"{reason} {count} times" if count > 1 else reason for reason, count in counts.items())
        warned = any(event.type == "Warning" for event in told)
        yield Moment(
            begin=told[0].first.timestamp(),
            end=max(event.last.timestamp() for event in told),
            kind="object",
            what=f"{kind} {name}: {reasons}",
            status="failed" if warned else None,
            points=tuple(
                ("warning" if event.type == "Warning" else "event", moment.timestamp())
                for event in told
                for moment in sorted({event.first, event.last})
            ),
        )


def _timed(facts: tuple[Mapping[str, Any], ...], kind: str) -> Iterator[tuple[Mapping[str, Any], float]]:
    """Facts of a kind with their times, in seconds since the epoch; those without one are left out."""
    for fact in facts:
        if fact.get("kind") == kind:
            try:
                yield fact, msgspec.convert(fact.get("at"), datetime).timestamp()
            except msgspec.ValidationError:
                continue


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02d}"
