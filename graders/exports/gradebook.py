"""A gradebook as CSV: a row for each run, points of each check, the total, and what lateness leaves of it.

Place: `formats` lists it; like `otter` it takes many runs. Limits: one lab a file; a run
that broke has no total, for it costs no points.
"""

import csv
import io
from collections.abc import Sequence
from typing import TypeAlias

from graders.errors import GraderError
from graders.rubric import Verdict
from graders.told import final, plain

FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""How a formula begins, also in signs of full width, and after spaces and ends of lines (OWASP, CSV Injection)."""


class OtherLab(GraderError):
    """Runs of several labs were given for one gradebook."""


Runs: TypeAlias = Sequence[tuple[str, Verdict]]


def gradebook(runs: Runs) -> str:
    """The table of `(name, verdict)` pairs, of which there is at least one.

    Raises:
        OtherLab: they are of several labs, or of versions of one with other checks or points.
    """
    refuse_other_labs(runs)
    first = runs[0][1]
    page = io.StringIO()
    table = csv.writer(page, lineterminator="\n")
    columns = [cell(check.id) for check in first.checks]
    table.writerow(["run", "student", "submission", "started", "status", *columns, "total", "final"])
    most = [check.max_points for check in first.checks]
    table.writerow(["points-per-check", "", "", "", "", *most, first.max_points, first.max_points])
    for name, verdict in runs:
        total = ["", ""] if verdict.status == "error" else [verdict.points, final(verdict)]
        points = ["" if check.status == "error" else check.points for check in verdict.checks]
        started = verdict.started.isoformat(timespec="seconds")
        facts = [*map(cell, (name, verdict.student or "", verdict.submission or "")), started, verdict.status]
        table.writerow([*facts, *points, *total])
    return page.getvalue()


def refuse_other_labs(runs: Runs) -> None:
    """Raises OtherLab unless all runs are of one lab with the same checks, each worth the same."""
    first_name, first = runs[0]
    for name, verdict in runs:
        if _checks_of(verdict) != _checks_of(first):
            raise OtherLab(
                f"asked for one table of {first_name} ({first.lab}) and {name} ({verdict.lab}), whose checks or their "
                "points are not the same; export them one lab at a time, runs of other points after `gpulab rescore` "
                "(its --export)"
            )


def _checks_of(verdict: Verdict) -> tuple[str, list[tuple[str, int]]]:
    return verdict.lab, [(check.id, check.max_points) for check in verdict.checks]


def cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = plain(text)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
