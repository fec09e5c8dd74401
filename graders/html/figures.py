"""Which plots the load runs of a check get. Pure.

Place: `page` asks for each check. Limits: it knows no lab; what belongs together is told by the patterns of loads and
by the sides that the names of their files end with, of which "submission" comes first.
"""

from collections.abc import Mapping, Sequence

from graders.html.loads import Group, Points, milliseconds, quantile, shares, thinned
from graders.html.plots import STYLES, Bound, Key, Line, Panel, Plot

WIDE = 20.0
"""An axis on which values lie so many times apart is logarithmic."""


def of_loads(found: Sequence[Group], bounds: Mapping[str, float]) -> Panel | None:
    """Latencies, and over time requests where they came at planned times, else tokens; None without loads.

    Args:
        found: what to show.
        bounds: of TTFT and TPOT in seconds, by "ttft" and "tpot"; only those that are known.
    """
    ranked = sorted(found, key=lambda group: group.side != "submission")
    chosen = [ranked[place] for place in thinned(range(len(ranked)), STYLES)]
    if not chosen:
        return None
    names = labels(chosen)
    times = [each.ttft for each in chosen]
    plots = [
        _distribution("Time to first token", names, times, bounds.get("ttft")),
        _distribution("Time per output token", names, [each.tpot for each in chosen], bounds.get("tpot")),
        _requests(chosen, names, bounds.get("ttft")) if chosen[0].typical.open_loop else _tokens(chosen, names),
    ]
    if len(found) > len(chosen):
        names[-1] += f" (of {len(found)} kinds of load {len(chosen)} are drawn)"
    return Panel(tuple(Key(name, style) for style, name in enumerate(names)), tuple(each for each in plots if each))


def labels(found: Sequence[Group]) -> list[str]:
    """A name for each that tells them apart, and no more."""
    sides, patterns = {each.side for each in found}, {each.pattern for each in found}
    if len(sides) == 1 and len(patterns) > 1:
        return [each.pattern for each in found]
    if len(patterns) == 1 and len(sides) > 1:
        return [each.side for each in found]
    return [f"{each.side}, {each.pattern}" for each in found]


def few(points: Sequence[tuple[float, float]]) -> Points:
    """As many points as a plot can show."""
    return tuple(points[place] for place in thinned(range(len(points))))


def _distribution(
    title: str, names: Sequence[str], values: Sequence[Sequence[float]], bound: float | None
) -> Plot | None:
    """How many requests took how long."""
    # Rounded, as an axis of times that differ by what a clock cannot tell has the same number at each tick.
    drawn = [(style, tuple((round(x * 1e3, 3), y) for x, y in shares(each))) for style, each in enumerate(values)]
    lines = tuple(
        Line(label=names[style], style=style, points=points, shape="steps") for style, points in drawn if points
    )
    if not lines:
        return None
    bounds, limit = _bound(bound, "x")
    return Plot(
        title=title,
        meaning="The share of requests that took so many milliseconds or less.",
        words=(*_told(names, [_quantiles(each) if each else "" for each in values]), *limit),
        x="ms",
        y="share of requests",
        lines=lines,
        bounds=bounds,
        log_x=_is_wide([x for line in lines for x, _ in line.points], bound),
        top=1.04,
    )


def _requests(found: Sequence[Group], names: Sequence[str], bound: float | None) -> Plot | None:
    """Each request at its planned time: of the group with most failures, else of the highest load."""
    planned = [(style, group) for style, group in enumerate(found) if group.typical.open_loop]
    if not planned:
        return None
    style, group = max(planned, key=lambda each: (each[1].failed, len(each[1].typical.requests)))
    load = group.worst
    answered = [(each.planned, each.ttft * 1e3) for each in load.requests if each.ttft is not None]
    failed = [(each.planned, 0.0) for each in load.requests if each.ttft is None]
    lines = [Line(label=names[style], style=style, points=few(answered), shape="dots")] if answered else []
    lines += [Line(label="failed", style=style, points=few(failed), shape="failures")] if failed else []
    counted = f"{len(answered)} answered, {len(failed)} failed{' (crosses)' if failed else ''}"
    bounds, limit = _bound(bound, "y")
    return Plot(
        title="Requests over time",
        meaning="Each request at the time for which it was planned, with its time to the first token.",
        words=(f"{names[style]}: {counted}" if len(found) > 1 else counted, *limit),
        x="s",
        y="time to first token, ms",
        lines=tuple(lines),
        bounds=bounds,
        span=load.window,
        log_y=_is_wide([y for _, y in answered], bound),
    )


def _tokens(found: Sequence[Group], names: Sequence[str]) -> Plot:
    """Tokens a second, of groups that send as the first one does: others lasted otherwise."""
    alike = [(style, each) for style, each in enumerate(found) if each.typical.open_loop == found[0].typical.open_loop]
    windows = {tuple(round(edge, 1) for edge in each.typical.window) for _, each in alike}
    rates = [f"{each.typical.tokens_per_second:,.0f} tokens/s" for _, each in alike]
    several = max(len(each.loads) for _, each in alike)
    return Plot(
        title="Tokens over time",
        meaning="Output tokens a second, of all requests together.",
        words=(
            *_told([names[style] for style, _ in alike], rates),
            *([f"Of {several} runs each, the one of the median rate is shown."] if several > 1 else []),
        ),
        x="s",
        y="tokens/s",
        lines=tuple(
            Line(label=names[style], style=style, points=each.typical.rate, shape="steps") for style, each in alike
        ),
        span=found[0].typical.window if len(windows) == 1 else None,
    )


def _told(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """What is told of each line, with its name where there are several."""
    return [f"{name}: {each}" if len(names) > 1 else each for name, each in zip(names, words, strict=True) if each]


def _quantiles(values: Sequence[float]) -> str:
    return ", ".join(" ".join((name, *quantile(values, p))) for name, p in (("median", 0.5), ("p90", 0.9)))


def _bound(bound: float | None, axis: str) -> tuple[tuple[Bound, ...], tuple[str, ...]]:
    """The line of an objective, and its caption."""
    if bound is None:
        return (), ()
    words = f"objective {milliseconds(bound)}"
    return (Bound(bound * 1e3, words, "x" if axis == "x" else "y"),), (f"O{words[1:]}",)


def _is_wide(values: Sequence[float], bound: float | None) -> bool:
    """Whether values in milliseconds, with the bound in seconds, need a logarithmic axis, and can have one."""
    told = [*values, *([bound * 1e3] if bound else [])]
    return bool(told) and min(told) > 0 and max(told) > WIDE * min(told)
