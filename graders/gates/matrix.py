"""What proves a lab as a table, case by check: in the terminal, as an HTML page, and as the record it is made from.

Place: `gpulab verify` shows and writes it. Limits: it does no judging; one page without scripts, styles of its own.
"""

import html
import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table

from graders.gates.gate import Gate
from graders.gates.measured import Graded, mistakes, seen_hints, shown_hint
from graders.gates.proof import Fault, Proof
from graders.lab import Lab
from graders.record import pretty, write_whole
from graders.rubric import Status
from graders.told import plain

FORMAT = "gpulab/verify/v1"
Part = Literal["named", "also", "other"]

_SIGNS: dict[Status, str] = {"passed": "+", "failed": "F", "inconclusive": "?", "skipped": "-", "error": "E"}
_SAID = "+ passed  F failed  - skipped  ? inconclusive  E error  [F] must  (F) may fail"


class Cell(msgspec.Struct, frozen=True):
    """How a check ended; `part` is what the case's table says of it."""

    check: str
    status: Status
    points: int
    part: Part
    hint: str | None


class Row(msgspec.Struct, frozen=True):
    """One case: its cells in the order of lab.toml, and what is wrong with it, a sentence each."""

    case: str
    points: int
    seconds: float
    reused: bool
    cells: tuple[Cell, ...]
    mistakes: tuple[str, ...]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All that a verification found, as verify.json holds it; `left_out` names cases that were not graded."""

    format: str = FORMAT
    lab: str
    title: str
    harness: str
    ended: datetime
    checks: tuple[str, ...]
    gates: tuple[Gate, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    hints_not_seen: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether all gates hold."""
        return all(gate.holds for gate in self.gates)

    def write(self, path: Path) -> None:
        """Writes it as JSON, at once and whole."""
        write_whole(path, pretty(self) + b"\n")


def record(proof: Proof, gates: Sequence[Gate], graded: Sequence[Graded], *, harness: str, now: datetime) -> Record:
    """The record of what was found."""
    lab = proof.lab
    seen, done = seen_hints(lab, graded), {each.case.label for each in graded}
    return Record(
        lab=lab.name,
        title=lab.title,
        harness=harness,
        ended=now,
        checks=tuple(check.id for check in lab.checks),
        gates=tuple(gates),
        rows=tuple(_row(lab, each) for each in graded),
        left_out=tuple(case.label for case in proof.cases if case.label not in done),
        hints_not_seen=tuple(
            f"{check.id}.{key}" for check in lab.checks for key in check.hints if (check.id, key) not in seen
        ),
    )


def _row(lab: Lab, graded: Graded) -> Row:
    expected, verdict = graded.case.expected, graded.verdict
    cells = []
    for result in verdict.checks:
        check = lab.check(result.id)
        part: Part = "named" if expected and expected.check == result.id else "other"
        if isinstance(expected, Fault) and result.id in expected.also:
            part = "also"
        hint = shown_hint(check, result) if check else None
        cells.append(Cell(result.id, result.status, result.points, part, hint))
    return Row(
        graded.label,
        verdict.points,
        round(graded.seconds, 1),
        graded.reused,
        tuple(cells),
        tuple(mistakes(lab, graded)),
    )


def text(found: Record, *, width: int = 80) -> str:
    """The table, with checks by number, and what the numbers and signs mean; at most `width` columns wide."""
    table = Table(box=None, padding=0)
    table.add_column(" ", overflow="fold")
    for number in range(1, len(found.checks) + 1):
        table.add_column(f"{number:2} ", no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    for row in found.rows:
        table.add_row(f"{row.case} ", *map(_sign, row.cells), str(row.points))
    page = io.StringIO()
    console = Console(
        file=page, width=width, color_system=None, highlight=False, emoji=False, markup=False, _environ={}
    )
    console.print(table)
    console.print("", _SAID, "", *(f"{number:2} {name}" for number, name in enumerate(found.checks, 1)), sep="\n")
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def _sign(cell: Cell) -> str:
    sign = _SIGNS[cell.status]
    return {"named": f"[{sign}]", "also": f"({sign})", "other": f" {sign} "}[cell.part]


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 1em auto; max-width: 75em; padding: 0 1em;
       color: #1b1b1b; background: #fff }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
caption {{ text-align: left; padding-bottom: .5em }}
th, td {{ border: 1px solid #8a8a8a; padding: .2em .5em; text-align: left; vertical-align: top }}
thead th {{ vertical-align: bottom; overflow-wrap: anywhere }}
.failed {{ background: #fde2e0 }} .passed {{ background: #e2f4e4 }}
.error, .inconclusive {{ background: #fff2c9 }} .skipped {{ background: #efefef }}
.also {{ outline: 2px dashed #1b1b1b; outline-offset: -2px }}
.named {{ font-weight: bold; outline: 3px solid #1b1b1b; outline-offset: -3px }}
</style>
<h1>{title}</h1>
<p>{outcome}</p>
<h2>Gates</h2>
<ul>
{gates}
</ul>
<h2>What was graded</h2>
<table>
<caption>How each check ended for each case. Framed: the check that must name it. Dashed: one that may fail
of the same cause.</caption>
<thead><tr><th scope="col">case</th>{heads}<th scope="col">points</th><th scope="col">seconds</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
{rest}</html>
"""


def page(found: Record) -> str:
    """The same as one HTML page."""
    gates = [
        f"<li>{_text(gate.name)}: "
        + (f"holds: {_text(gate.seen)}" if gate.holds else f"<strong>fails</strong>{_list(gate.mistakes)}")
        + "</li>"
        for gate in found.gates
    ]
    rows = [
        f'<tr><th scope="row">{_text(row.case)}</th>{"".join(map(_cell, row.cells))}'
        f"<td>{row.points}</td><td>{row.seconds:.0f}</td></tr>"
        for row in found.rows
    ]
    rest = ""
    if found.left_out:
        rest += f"<h2>Not graded</h2>\n{_list(found.left_out)}\n"
    if found.hints_not_seen:
        rest += f"<h2>Hints that nothing here showed</h2>\n{_list(found.hints_not_seen)}\n"
    ended = f"{found.ended:%Y-%m-%d %H:%M} UTC"
    return _PAGE.format(
        title=_text(f"{found.lab}: what proves it"),
        outcome=_text(f"{'All gates hold' if found.holds else 'Not all gates hold'}; {ended}, gpulab {found.harness}."),
        gates="\n".join(gates),
        heads="".join(f'<th scope="col">{_text(name)}</th>' for name in found.checks),
        rows="\n".join(rows),
        rest=rest,
    )


def _cell(cell: Cell) -> str:
    hint = f"<br>hint: {_text(cell.hint)}" if cell.hint else ""
    part = {"named": " named", "also": " also", "other": ""}[cell.part]
    return f'<td class="{cell.status}{part}">{cell.status}{hint}</td>'


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"


def _text(words: str) -> str:
    return html.escape(plain(words))
