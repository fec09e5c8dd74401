"""What a plot shows, before it is drawn: lines, bounds, axes, and the same in words. Pure.

Place: `figures` makes plots, `draw` turns them into SVG, the template tells what they mean. Limits: small plots of a
few lines, which differ by their dashes and markers as well as by their colours.
"""

from typing import Literal

import msgspec

from graders.html.loads import Points

DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.2, 1.6), (6, 2, 1.2, 2), (2.5, 1.2))
"""By which lines can be told apart without colours: lengths drawn and left out, in points."""
STYLES = len(DASHES)
"""So many lines can be told apart; `draw` and the page's style sheet have a marker and a colour for each."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line.

    `label` is for the legend; `style` from 0 to STYLES - 1; `shape` how points are drawn: looks at something are
    joined, and a failure is a cross at the upper edge, whatever its second coordinate.
    """

    label: str
    style: int
    points: Points
    shape: Literal["looks", "steps", "dots", "failures"]


class Bound(msgspec.Struct, frozen=True):
    """A limit that was asked for: where it is on which axis, and its name."""

    at: float
    label: str
    axis: Literal["x", "y"]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """One plot.

    Attributes:
        title: what it shows, a few words.
        meaning: how to read it, a sentence, for those who see no pictures.
        words: what is to be seen, a line each, for everybody.
        x: label of the horizontal axis, with its unit.
        y: label of the vertical axis, with its unit.
        lines: what is drawn; bounds over it, and behind it `span`, the time in which was measured.
        log_x: whether that axis is logarithmic.
        log_y: whether that axis is logarithmic.
        top: where the vertical axis ends, None for a little above the highest point.
        ends: where the horizontal axis begins and ends, None for where the points do.
    """

    title: str
    meaning: str
    words: tuple[str, ...]
    x: str
    y: str
    lines: tuple[Line, ...]
    bounds: tuple[Bound, ...] = ()
    span: tuple[float, float] | None = None
    log_x: bool = False
    log_y: bool = False
    top: float | None = None
    ends: tuple[float, float] | None = None


class Key(msgspec.Struct, frozen=True):
    """An entry of a legend."""

    label: str
    style: int


class Panel(msgspec.Struct, frozen=True):
    """Plots that share a legend."""

    legend: tuple[Key, ...]
    plots: tuple[Plot, ...]
