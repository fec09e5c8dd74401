"""Which plots get what servers and GPU exporters told while a check was measured. Pure.

Place: `page` asks for each file of scrapes. Limits: metrics that are not listed here are not shown.
"""

from collections.abc import Sequence

import msgspec

from graders.html.counters import Counters, Trace
from graders.html.figures import few
from graders.html.loads import Load
from graders.html.plots import STYLES, Key, Line, Panel, Plot
from graders.metrics import VLLM

QUEUE = ((VLLM.running, "running"), (VLLM.waiting, "waiting"))


class Told(msgspec.Struct, frozen=True):
    """How a metric is shown: its name there, the title, the unit, what it is multiplied with, where its axis ends."""

    metric: str
    title: str
    unit: str
    factor: float = 1.0
    top: float | None = None


SERVER = (
    Told(VLLM.kv_usage or "", "KV cache in use", "%", 100.0, 104.0),
    Told(VLLM.preemptions or "", "Pre-emptions since the server began", "sequences"),
)
GPUS = (
    Told("DCGM_FI_DEV_GPU_UTIL", "GPU utilisation", "%", 1.0, 104.0),
    Told("DCGM_FI_DEV_FB_USED", "GPU memory in use", "MiB"),
    Told("DCGM_FI_DEV_POWER_USAGE", "GPU power", "W"),
    Told("DCGM_FI_DEV_GPU_TEMP", "GPU temperature", "°C"),
)


def of_counters(counters: Counters, loads: Sequence[Load]) -> list[Panel]:
    """What the server told and what GPUs did, with times from the beginning of the load that they belong to."""
    moments = [moment for trace in counters.traces for moment, _ in trace.points]
    if not moments:
        return []
    inside = [load for load in loads if min(moments) <= load.monotonic <= max(moments)]
    zero = inside[0].monotonic if inside else min(moments)
    span = inside[0].window if len(inside) == 1 else None
    queue = _queue(counters, zero, span)
    server = [_plot(told, counters, zero, span) for told in SERVER]
    gpus = [_plot(told, counters, zero, span) for told in GPUS]
    panels = [_panel([queue, *server]), _panel(gpus)]
    return [panel for panel in panels if panel.plots]


def _panel(plots: Sequence[Plot | None]) -> Panel:
    """Plots with a legend of all their lines that have a name."""
    kept = tuple(plot for plot in plots if plot is not None)
    keys = {line.label: Key(line.label, line.style) for plot in kept for line in plot.lines if line.label}
    return Panel(tuple(keys.values()), kept)


def _queue(counters: Counters, zero: float, span: tuple[float, float] | None) -> Plot | None:
    told = [(label, trace) for metric, label in QUEUE for trace in counters.told(metric)]
    lines = [_line(label, style, trace, zero) for style, (label, trace) in enumerate(told[:STYLES])]
    return _of("Requests in the server", "requests", lines, span)


def _plot(told: Told, counters: Counters, zero: float, span: tuple[float, float] | None) -> Plot | None:
    traces = counters.told(told.metric)
    lines = [_line("", style, trace, zero, told.factor) for style, trace in enumerate(traces)]
    return _of(told.title, told.unit, lines, span, top=told.top)


def _line(label: str, style: int, trace: Trace, zero: float, factor: float = 1.0) -> Line:
    name = ", ".join(filter(None, (label, trace.of)))
    return Line(label=name, style=style, shape="looks", points=few([(x - zero, y * factor) for x, y in trace.points]))


def _of(
    title: str, unit: str, lines: Sequence[Line], span: tuple[float, float] | None, *, top: float | None = None
) -> Plot | None:
    if not lines:
        return None
    most = [(line.label, max(y for _, y in line.points)) for line in lines]
    return Plot(
        title=title,
        meaning=f"{title} over time, in {unit}, as the server or exporter says.",
        words=tuple(
            f"{name}: {'at' if name else 'At'} most {value:,.3g} {unit}".removeprefix(": ") for name, value in most
        ),
        x="s",
        y=unit,
        lines=tuple(lines),
        span=span,
        top=top,
    )
