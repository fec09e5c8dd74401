"""What the page shows of each GPU over a run: its figures as plots, who held it and what was not told as rows. Pure.

Place: `page` asks for it; all times are from the beginning of the run to its end, as in its timeline. Limits: a line
has at most as many points as a small plot can show, of which each is the mean of the looks that it stands for.
"""

import math
import statistics
from collections.abc import Callable, Sequence

import msgspec

from graders.html.devices import Device, Point
from graders.html.evidence import Evidence
from graders.html.loads import MOST_POINTS, Points
from graders.html.plots import Line, Panel, Plot
from graders.html.timeline import Moment, Row, row

MINUTES = 600.0
"""Seconds from which on an axis counts minutes."""
MOST_ROWS = 20
Value = Callable[[Point], float | None]


class Figure(msgspec.Struct, frozen=True):
    """A figure of a device: the title of its plot, the unit, where it is in a point, and where its axis ends."""

    title: str
    unit: str
    value: Value
    top: float | None = None


FIGURES = (
    Figure("Utilisation", "%", lambda point: point.utilisation, 104.0),
    Figure("Memory in use", "MiB", lambda point: point.memory_mib),
    Figure("Power", "W", lambda point: point.watts),
)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A device on the page: its name, whether it is real, what else is known of it, its plots and its rows."""

    title: str
    kind: str | None
    facts: tuple[tuple[str, str], ...]
    panel: Panel
    rows: tuple[Row, ...]


def shown(found: Evidence) -> tuple[Shown, ...]:
    """All devices that the run's record tells of."""
    begin = found.verdict.started.timestamp()
    last = max((point.at for device in found.gpus for point in device.points), default=begin)
    end = max(found.verdict.ended.timestamp() if found.verdict.ended else begin, last, begin + 1.0)
    return tuple(_shown(device, begin, end) for device in found.gpus)


def _shown(device: Device, begin: float, end: float) -> Shown:
    named = {"Product": device.model, "UUID": device.uuid, "Partition": device.partition or ""}
    plots = [_plot(figure, device.points, begin, end) for figure in FIGURES]
    return Shown(
        title=device.node if device.gpu is None else f"{device.node}, GPU {device.gpu}",
        kind=None if device.simulated is None else "simulated" if device.simulated else "real",
        facts=tuple((name, text) for name, text in named.items() if text),
        panel=Panel((), tuple(plot for plot in plots if plot)),
        rows=tuple(_rows(device, begin, end)),
    )


def _plot(figure: Figure, points: Sequence[Point], begin: float, end: float) -> Plot | None:
    """None where the device never told the figure."""
    looks = [(point.at, figure.value(point)) for point in points]
    told = [value for _, value in looks if value is not None]
    if not told:
        return None
    unit, seconds = ("min", 60.0) if end - begin >= MINUTES else ("s", 1.0)
    lines = [
        Line(label="", style=0, points=tuple(((at - begin) / seconds, value) for at, value in part), shape="looks")
        for part in parts(looks)
    ]
    return Plot(
        title=figure.title,
        meaning=f"{figure.title} in {figure.unit} over the run, as the exporter told it.",
        words=(f"On average {statistics.fmean(told):,.3g} {figure.unit}, at most {max(told):,.3g} {figure.unit}",),
        x=unit,
        y=figure.unit,
        lines=tuple(lines),
        top=figure.top,
        ends=(0.0, (end - begin) / seconds),
    )


def parts(looks: Sequence[tuple[float, float | None]], most: int = MOST_POINTS) -> list[Points]:
    """Looks as lines that end where nothing was told; of more than so many each point is the mean of several."""
    size = max(1, math.ceil(len(looks) / most))
    found: list[list[tuple[float, float]]] = [[]]
    for place in range(0, len(looks), size):
        several = looks[place : place + size]
        told = [(at, value) for at, value in several if value is not None]
        if told:
            found[-1].append((statistics.fmean(at for at, _ in told), statistics.fmean(value for _, value in told)))
        if len(told) < len(several):
            found.append([])
    return [tuple(part) for part in found if part]


def _rows(device: Device, begin: float, end: float) -> list[Row]:
    spans = [("load", f"Held by {span.what}", span) for span in device.held]
    spans += [("object", f"No figures: {span.what}", span) for span in device.gaps]
    spans.sort(key=lambda each: each[2].begin)
    rows = [
        row(Moment(begin=span.begin, end=end if span.end is None else span.end, kind=kind, what=what), begin, end)
        for kind, what, span in spans[:MOST_ROWS]
    ]
    if len(spans) > MOST_ROWS:
        rows.append(Row(f"{len(spans) - MOST_ROWS} more are in the record", "", ()))
    if device.gpu is not None and not device.held:
        rows.insert(0, Row("No pod held it", "", ()))
    return rows
