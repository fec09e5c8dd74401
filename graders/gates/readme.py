"""Whether the numbers of a lab's README are those of lab.toml: its table of goals, and every number with a mark.

Place: one of the structural gates. Limits: a mark is a comment right behind a number, `2<!-- throughput_ratio -->` or
`90 %<!-- slo_share -->`, with the name of a threshold, at the first level that grades the lab, or at the one before a
dot (`<!-- L3.budget_cores -->`). Numbers outside the table may go without one.
"""

import math
import re
from collections.abc import Iterator

from graders.gates.gate import Gate, counted
from graders.lab import Lab, Level

_MARK = re.compile(r"(?:(?P<number>\d+(?:\.\d+)?)(?P<percent> ?%)?)?<!-- (?:(?P<level>L[123])\.)?(?P<name>\w+) -->")
_GOAL = re.compile(r"\| (?P<title>[^|]+?) \| (?P<points>\d+) \| (?P<goal>[^|]*) \|")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)")


def readme(lab: Lab) -> Gate:
    """Compares README.md with lab.toml."""
    path = lab.folder / "README.md"
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        return Gate("README", "README.md", (f"{path} cannot be read: {error.strerror}; write there what the lab asks",))
    marks = sum(len(_MARK.findall(line)) for line in lines)
    mistakes = [
        f"README.md of {lab.name}, line {number}, {mistake}"
        for number, line in enumerate(lines, 1)
        for mistake in _in_line(lab, line)
    ]
    return Gate.over(
        "README",
        f"{counted(marks, 'number')} and the points of {counted(len(lab.checks), 'check')}, as lab.toml has them",
        marks,
        [*_table(lab, lines), *mistakes],
        nothing=f"no number in README.md of {lab.name} has a mark, so nothing holds it to lab.toml; write them as in "
        "2<!-- throughput_ratio -->",
    )


def _table(lab: Lab, lines: list[str]) -> Iterator[str]:
    """What is wrong with titles and points."""
    shown = [(row["title"], int(row["points"])) for line in lines if (row := _GOAL.fullmatch(line))]
    if shown != [(check.title, check.points) for check in lab.checks]:
        rows = "\n".join(f"| {check.title} | {check.points} | ... |" for check in lab.checks)
        yield f"the goals in README.md of {lab.name} have other titles or points than lab.toml; they must be:\n{rows}"


def _in_line(lab: Lab, line: str) -> Iterator[str]:
    for mark in _MARK.finditer(line):
        level: Level = mark["level"] or next(iter(lab.needs.levels), "L1")  # type: ignore[assignment]  # the pattern knows the levels
        name, given = mark["name"], lab.thresholds.get(level, {}).get(mark["name"])
        if given is None:
            yield f"names the threshold {name!r}, which lab.toml does not have at {level}; correct the name"
        elif mark["number"] is None:
            yield f"has the mark {name!r} behind no number; write {_shown(given)} before it"
        elif not math.isclose(float(mark["number"]) / (100 if mark["percent"] else 1), given):
            said = f"{mark['number']}{mark['percent'] or ''}"
            yield f"says {said} for {name!r}, where lab.toml has {_shown(given)} at {level}; correct one of them"
    if goal := _GOAL.fullmatch(line):
        bare = _MARK.sub("", re.sub(r"`[^`]*`", "", goal["goal"]))
        yield from (
            f"has the number {number} among the goals without a mark; write {number}<!-- name --> with its threshold's"
            for number in _NUMBER.findall(bare)
        )


def _shown(number: float) -> str:
    return f"{number:g}"
