"""A gradebook as CSV: a row for each run, points of each check, the total, and what lateness leaves of it.

Place: `formats` lists it; it alone takes many runs. Limits: one lab a file; a run that broke has no total, for it costs
no points.
"""

import csv
import io
from collections.abc import Sequence

from graders.errors import GraderError
from graders.rubric import Verdict
from graders.told import final, plain

FORMULA = ("=", "+", "-", "@", "\t")


class OtherLab(GraderError):
    """Runs of several labs were given for one gradebook."""


def gradebook(runs: Sequence[tuple[str, Verdict]]) -> str:
    """The table of `(name, verdict)` pairs, of which there is at least one.

    Raises:
        OtherLab: they are of several labs, or of versions of one with other checks.
    """
    first = runs[0][1]
    columns = [check.id for check in first.checks]
    page = io.StringIO()
    table = csv.writer(page, lineterminator="\n")
    table.writerow(["run", "student", "submission", "started", "status", *columns, "total", "final"])
    most = [check.max_points for check in first.checks]
    table.writerow(["points-per-check", "", "", "", "", *most, first.max_points, first.max_points])
    for name, verdict in runs:
        if (verdict.lab, [check.id for check in verdict.checks]) != (first.lab, columns):
            raise OtherLab(
                f"asked for one gradebook of {runs[0][0]} ({first.lab}) and {name} ({verdict.lab}), whose checks are "
                "not the same; export them one lab at a time"
            )
        total = ["", ""] if verdict.status == "error" else [verdict.points, final(verdict)]
        points = ["" if check.status == "error" else check.points for check in verdict.checks]
        started = verdict.started.isoformat(timespec="seconds")
        facts = [_cell(name), _cell(verdict.student or ""), verdict.submission or "", started, verdict.status]
        table.writerow([*facts, *points, *total])
    return page.getvalue()


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = plain(text)
    return f"'{text}" if text.startswith(FORMULA) else text
