"""The words for the figures: a row for each client, and whether the goals are reached. Pure.

Place: `load_peers` prints them. Limits: no arithmetic beyond units and comparing; "-" stands for what was not measured.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.peers.figures import Accuracy, Figures, Load

GOAL = 3.0
"""Times the best peer's events per second per core."""

HEAD = (
    "client",
    "requests",
    "events/s",
    "per core",
    "to the end",
    "TTFT +p50 ms",
    "+p99 ms",
    "error %",
    "TPOT +p50 µs",
    "+p99 µs",
    "error %",
)

Found = Mapping[str, Figures | str]

_COSTS: Mapping[str, Callable[[Figures], float | None]] = {
    "in the window": lambda each: each.in_window,
    "to the end": lambda each: each.to_the_end,
}


def rows(found: Found, load: Load) -> list[str]:
    """The table's lines, with what was not measured beneath."""
    measured = {name: each for name, each in found.items() if isinstance(each, Figures)}
    cells = [HEAD, *((name, *_cells(each, load)) for name, each in measured.items())]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD))]
    lines = [
        "  ".join(
            text.rjust(width) if place else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    for name, each in measured.items():
        if each.miscounted:
            lines.append(f"{name}: tokens miscounted in {each.miscounted} of {each.requests} requests")
    return [*lines, *(f"{name}: not measured: {why}" for name, why in found.items() if isinstance(why, str))]


def goals(found: Found, ours: str) -> list[str]:
    """A sentence for each goal: reached, missed, or open because a side of it was not measured."""
    return [
        *(_times(f"events per second per core, {where}", found, ours, figure) for where, figure in _COSTS.items()),
        _smallest("TTFT", found, ours, lambda each: each.ttft),
        _smallest("TPOT", found, ours, lambda each: each.tpot),
    ]


def over_rounds(rounds: Sequence[Found], ours: str) -> list[str]:
    """How many times the best peer's events per core ours has, over all rounds in which both were measured."""
    lines = []
    for where, figure in _COSTS.items():
        sides = [_sides(found, ours, figure) for found in rounds]
        ratios = [own / max(others.values()) for own, others in sides if own is not None and others]
        if ratios:
            middle = statistics.median(ratios)
            lines.append(
                f"events per second per core, {where}, median of {len(ratios)} rounds: {middle:.1f} times the best "
                f"peer's ({min(ratios):.1f} to {max(ratios):.1f}) [goal {GOAL:g}], {_verdict(middle)}"
            )
    return lines


def _verdict(ratio: float) -> str:
    return "reached" if ratio >= GOAL else "missed"


def _cells(each: Figures, load: Load) -> tuple[str, ...]:
    return (
        f"{each.requests}/{load.requests}",
        _whole(each.rate),
        _whole(each.in_window),
        _whole(each.to_the_end),
        *_accuracy(each.ttft, 1000),
        *_accuracy(each.tpot, 1_000_000),
    )


def _accuracy(each: Accuracy | None, unit: float) -> tuple[str, str, str]:
    if each is None:
        return "-", "-", "-"
    p99 = "n too small" if each.p99 is None else f"{unit * each.p99:.2f}"
    return f"{unit * each.p50:.2f}", p99, f"{100 * each.error:.3f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _times(what: str, found: Found, ours: str, figure: Callable[[Figures], float | None]) -> str:
    own, others = _sides(found, ours, figure)
    if own is None or not others:
        return f"{what}: open, {_missing(own)}"
    best = max(others, key=lambda name: others[name])
    ratio = own / others[best]
    return f"{what}: ours {own:,.0f}, {best} {others[best]:,.0f}: {ratio:.1f} times [goal {GOAL:g}], {_verdict(ratio)}"


def _smallest(what: str, found: Found, ours: str, accuracy: Callable[[Figures], Accuracy | None]) -> str:
    def error(each: Figures) -> float | None:
        found_accuracy = accuracy(each)
        return found_accuracy.error if found_accuracy else None

    own, others = _sides(found, ours, error)
    if own is None or not others:
        return f"smallest error of {what}: open, {_missing(own)}"
    best = min(others, key=lambda name: others[name])
    verdict = "reached" if own < others[best] else "missed"
    return f"smallest error of {what}: ours {100 * own:.3f} %, {best} {100 * others[best]:.3f} %, {verdict}"


def _sides(found: Found, ours: str, figure: Callable[[Figures], float | None]) -> tuple[float | None, dict[str, float]]:
    known = {name: figure(each) for name, each in found.items() if isinstance(each, Figures)}
    own = known.pop(ours, None)
    return own, {name: value for name, value in known.items() if value is not None}


def _missing(own: float | None) -> str:
    return "as ours was not measured" if own is None else "as no peer was measured"
