"""The scorecard in the terminal: a verdict in words, at most as wide as asked. It does no arithmetic.

Place: the plugin prints it after a run, `gpulab` for a stored one. Limits: text only; other formats read the verdict.
"""

import io
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from graders.rubric import CheckResult, Status, Verdict

_STYLES: dict[Status, str] = {
    "passed": "bold green",
    "failed": "bold red",
    "inconclusive": "bold yellow",
    "skipped": "dim",
    "error": "bold magenta",
}
_FAULTS = {"infrastructure": "of the lab's infrastructure, not yours", "harness": "of the grader, not yours"}


def render_scorecard(verdict: Verdict, place: Path, *, width: int = 80, color: bool = False) -> str:
    """The scorecard as text.

    Args:
        verdict: what to show.
        place: where its verdict.json is.
        width: columns to fit.
        color: whether to use terminal escapes.
    """
    page = io.StringIO()
    console = Console(
        file=page,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )
    console.print(Group(*_page(verdict, place)))
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def _page(verdict: Verdict, place: Path) -> Iterator[RenderableType]:
    yield _words(f"{verdict.lab}: {verdict.title}", "bold")
    yield Text()
    for check in verdict.checks:
        yield _headline(check)
        yield Padding(_details(check), (0, 0, 1, 2))
    yield _words(f"{verdict.points}/{verdict.max_points} {verdict.status}", _STYLES[verdict.status])
    if verdict.reason:
        yield _words(verdict.reason)
    yield _words(_where_graded(verdict))
    yield Text()
    yield _words("verdict, with evidence beside it:")
    yield _words(str(place))


def _headline(check: CheckResult) -> RenderableType:
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(width=12)
    row.add_column(width=7)
    row.add_column(ratio=1)
    points = f"{check.points}/{check.max_points}"
    row.add_row(_words(check.status, _STYLES[check.status]), points.rjust(7), _words(check.title, "bold"))
    return row


def _details(check: CheckResult) -> Table:
    rows = Table.grid(padding=(0, 2))
    rows.add_column(width=10, style="dim")
    rows.add_column()
    for name, text in (
        ("expected", check.expected),
        ("observed", _observed(check)),
        ("fault", _FAULTS.get(check.error_class or "") if check.status == "error" else None),
        ("why", check.why if check.status in ("failed", "inconclusive") else None),
        ("hint", check.hint),
    ):
        if text:
            rows.add_row(name, _words(text))
    return rows


def _observed(check: CheckResult) -> str | None:
    """What was observed, with how sure it is: samples, interval, and tries when there was more than one."""
    facts = []
    if check.n is not None:
        facts.append(f"n = {check.n}")
    if check.interval is not None:
        low, high = check.interval
        sure = f"{check.confidence:.0%} interval" if check.confidence is not None else "interval"
        facts.append(f"{sure} {low:.4g} to {high:.4g}{f' {check.unit}' if check.unit else ''}")
    if check.attempts > 1:
        facts.append(f"measured {check.attempts} times")
    return f"{check.observed} ({'; '.join(facts)})" if check.observed and facts else check.observed


def _where_graded(verdict: Verdict) -> str:
    if verdict.level is None or verdict.simulated is None:
        return "no cluster was seen, so what is simulated is not known"
    return f"level {verdict.level}; simulated: {', '.join(verdict.simulated) or 'nothing'}"


def _words(text: str, style: str = "") -> Text:
    """Text as it is, never as markup, and without the control characters that would steer a terminal."""
    return Text(
        "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text), style
    )
