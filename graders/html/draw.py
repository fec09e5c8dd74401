"""Draws a plot as SVG, by matplotlib.

Place: `page` draws with it; nothing else imports matplotlib. Limits: small plots; colours are stand-ins for those of
the page, which differ between light and dark, and `svg` puts the page's own in their place.
"""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.typing import RcKeyType

from graders.html import svg
from graders.html.plots import DASHES, Line, Plot

WIDTH, HEIGHT = 360, 212
"""In points, which are the pixels of a small screen: letters stay readable there."""
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 26, 36
LETTERS, WEIGHT = 11, 1.8
STEPS = ((50.0, (1, 2, 5)), (1000.0, (1, 3)), (math.inf, (1,)))
"""Of an axis over less than so many times: which multiples of powers of ten have a number."""
BROKEN = (0, (4, 2))
MARKERS = ("o", "s", "^", "D", "v")
SETTINGS: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gpulab",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: what it measures is the same everywhere
    "font.size": LETTERS,
}


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib as these plots need it, whatever the user's own settings are."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that this font lacks, which the page's has
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def draw(plot: Plot, name: str) -> str:
    """The SVG of a plot; `name` begins all ids in it, so it must differ from that of other plots on a page."""
    with settings():
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        figure.subplots_adjust(LEFT / WIDTH, BOTTOM / HEIGHT, 1 - RIGHT / WIDTH, 1 - TOP / HEIGHT)
        axes = figure.subplots()
        _frame(axes, plot)
        for line in plot.lines:
            _line(axes, line)
        _scales(axes, plot)
        _bounds(axes, plot)
        page = io.BytesIO()
        figure.savefig(page, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return svg.fit(page.getvalue().decode(), name, title=plot.title, words=plot.meaning)


def _frame(axes: Axes, plot: Plot) -> None:
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(svg.FRAME)
    axes.grid(axis="y", color=svg.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=svg.MUTED, pad=5)
    axes.set_xlabel(plot.x, color=svg.MUTED, loc="right", labelpad=3)
    axes.annotate(plot.y, (0, 1), (4 - LEFT, 9), xycoords="axes fraction", textcoords="offset points", color=svg.MUTED)
    if plot.span:
        axes.axvspan(*plot.span, color=svg.SPAN, linewidth=0)


def _line(axes: Axes, line: Line) -> None:
    x, y = [x for x, _ in line.points], [y for _, y in line.points]
    color, marker = svg.SERIES[line.style], MARKERS[line.style]
    if line.shape == "failures":
        at_the_top = axes.get_xaxis_transform()
        axes.plot(x, [0.96] * len(x), "x", color=svg.BAD, markersize=6, markeredgewidth=1.8, transform=at_the_top)
    elif line.shape == "dots":
        axes.plot(x, y, marker, color=color, markersize=3.6, markeredgewidth=0, alpha=0.8)
    elif line.shape == "looks":
        thin, dash = WEIGHT / 2, _dash(line.style)
        axes.plot(x, y, marker, color=color, linewidth=thin, linestyle=dash, markersize=2.6, markeredgewidth=0)
    else:
        axes.plot(x, y, color=color, linewidth=WEIGHT, linestyle=_dash(line.style), drawstyle="steps-post")


def _dash(style: int) -> Any:  # noqa: ANN401, a name or a tuple
    """Matplotlib multiplies lengths with the width of the line."""
    return (0, tuple(length / WEIGHT for length in DASHES[style])) if DASHES[style] else "solid"


def _scales(axes: Axes, plot: Plot) -> None:
    if plot.log_x:
        axes.set_xscale("log")
    if plot.ends:
        axes.set_xlim(plot.ends)
    if plot.log_y:
        axes.set_yscale("log")
    elif plot.top is not None:
        axes.set_ylim(0, plot.top)
    else:
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.04))
    _numbers(axes.xaxis, axes.get_xlim(), log=plot.log_x)
    _numbers(axes.yaxis, axes.get_ylim(), log=plot.log_y)


def _numbers(axis: Axis, ends: tuple[float, float], *, log: bool) -> None:
    if log:
        steps = next(steps for times, steps in STEPS if ends[1] < times * ends[0])
        axis.set_major_locator(LogLocator(subs=steps, numticks=9))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _bounds(axes: Axes, plot: Plot) -> None:
    """Each with its name at its side that is away from the edge of the plot."""
    for bound in plot.bounds:
        if bound.axis == "x":
            axes.axvline(bound.at, color=svg.BAD, linewidth=1.4, linestyle=BROKEN)
            place, along = (bound.at, 0.06), axes.get_xaxis_transform()
        else:
            axes.axhline(bound.at, color=svg.BAD, linewidth=1.4, linestyle=BROKEN)
            place, along = (0.01, bound.at), axes.get_yaxis_transform()
        across, up = axes.transAxes.inverted().transform(along.transform(place))
        left, below = bound.axis == "x" and across > 0.5, bound.axis == "y" and up > 0.8
        axes.annotate(
            bound.label,
            place,
            (-4 if left else 4, -4 if below else 3),
            xycoords=along,
            textcoords="offset points",
            color=svg.BAD,
            ha="right" if left else "left",
            va="top" if below else "baseline",
        )
