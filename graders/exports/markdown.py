"""A verdict as Markdown with a table of checks, for a comment, a wiki or a step summary.

Place: `formats` lists it. Limits: GitHub's dialect; text of servers and learners is escaped and can hold no markup;
of a hidden check nothing stands in the last column. Addresses of pages, names and numbers of issues, which GitHub makes
links of by itself, are broken by a sign that is not seen (U+2060), and come with it where they are copied.
"""

import html
import re

from graders.rubric import CheckResult, Status, Verdict
from graders.told import plain, score, told, where_graded, whose

_SIGN: dict[Status, str] = {"passed": "✅", "failed": "❌", "inconclusive": "❓", "skipped": "⏭️", "error": "⚠️"}
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$@-])")
_LINKED = re.compile(r"(?<=://)|(?<=\bwww\.)|(?<=[@#])(?=\w)", re.IGNORECASE)


def markdown(verdict: Verdict) -> str:
    """The text."""
    where, student = where_graded(verdict), whose(verdict)
    lines = [
        f"## {_cell(f'{verdict.lab}: {verdict.title}')}",
        "",
        f"**{score(verdict)}**",
        *(["", _cell(verdict.reason)] if verdict.reason else []),
        "",
        "| | check | points | what was seen |",
        "|---|---|---|---|",
        *map(_row, verdict.checks),
        "",
        _cell(f"{where[0].upper()}{where[1:]}."),
        *(["", _cell(f"{student[0].upper()}{student[1:]}.")] if student else []),
    ]
    return "\n".join(lines) + "\n"


def _row(check: CheckResult) -> str:
    seen = "<br>".join(f"{name}: {_cell(text)}" for name, text in (() if check.hidden else told(check)))
    return (
        f"| {_SIGN[check.status]} {check.status} | {_cell(check.title)} | {check.points}/{check.max_points} | {seen} |"
    )


def _cell(text: str) -> str:
    escaped = html.escape(_LINKED.sub("\N{WORD JOINER}", plain(text)), quote=False)
    return _MARKUP.sub(r"\\\1", escaped).replace("\n", "<br>")
