"""The scorecard in the terminal: a verdict in words, at most as wide as asked. It does no arithmetic.

Place: the plugin prints it after a run, `gpulab` for a stored one. Limits: text only; other formats read the verdict.
"""

import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from graders.next_steps import HERE, commands
from graders.rubric import CheckResult, Status, Verdict
from graders.told import plain, score, told, where_graded, whose, without_commands

_STYLES: dict[Status, str] = {
    "passed": "bold green",
    "failed": "bold red",
    "inconclusive": "bold yellow",
    "skipped": "dim",
    "error": "bold magenta",
}


def render_scorecard(verdict: Verdict, place: Path, *, labs: Path = HERE, width: int = 80, color: bool = False) -> str:
    """The scorecard as text, no line of which is longer than `width` but for a path that is: a broken one is no path.

    Args:
        verdict: what to show.
        place: where its verdict.json is.
        labs: the folder of the labs, as it is typed where the commands are.
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
    console.print(Group(*_page(verdict, place, labs, width)), crop=False)
    return without_commands("\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n")


def _page(verdict: Verdict, place: Path, labs: Path, width: int) -> Iterator[RenderableType]:
    yield _words(f"{verdict.lab}: {verdict.title}", "bold")
    yield Text()
    for check in verdict.checks:
        yield _headline(check)
        yield Padding(_details(check), (0, 0, 1, 2))
    yield _words(score(verdict), _STYLES[verdict.status])
    if verdict.reason:
        yield _words(verdict.reason)
    yield _words(where_graded(verdict))
    if student := whose(verdict):
        yield _words(student)
    yield Text()
    if verdict.status != "passed" or verdict.left:
        yield _words("what to look at next:")
        for command in commands(verdict, place.parent, labs):
            yield _copied(indent(typed(command, width - 2), "  "))
        yield Text()
    if verdict.left:
        yield _words("left on the cluster; remove it before you grade again:")
        yield _copied(indent(typed(verdict.left.remove, width - 2), "  "))
        yield Text()
    yield _words("verdict, with evidence beside it:")
    yield _copied(str(place))


def typed(command: str, width: int) -> str:
    """A command in lines that fit, ended as the shell wants it where it goes on, so that it can be copied."""
    lines = [""]
    for word in map(shlex.quote, shlex.split(command)):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if len(longer) + 2 > width and lines[-1]:
            lines[-1] += " \\"
            lines.append(f"  {word}")
        else:
            lines[-1] = longer
    return "\n".join(lines)


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
    for name, text in told(check):
        rows.add_row(name, _words(text))
    return rows


def _copied(text: str) -> Text:
    """What is copied to be typed, with no lines but its own; a terminal shows a long one as several."""
    return Text(plain(text), no_wrap=True, overflow="ignore")


def _words(text: str, style: str = "") -> Text:
    """Text as it is, never as markup."""
    return Text(plain(text), style)
