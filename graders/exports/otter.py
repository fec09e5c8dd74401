"""The table that Otter Grade leaves as final_grades.csv (otter-grader 7), for what a course has built around that.

Place: `formats` lists it; like the gradebook it takes many runs. Limits: one lab a file. What Otter calls a question is
a check; a run that ended in an error says so in `grading_status`, as Otter has it, but its points and total are empty
where Otter writes 0, which is a grade. Lateness is left out.
"""

import csv
import io

from graders.exports.gradebook import Runs, cell, refuse_other_labs
from graders.told import why_error


def otter(runs: Runs) -> str:
    """The table of `(name, verdict)` pairs, of which there is at least one; a student's name goes before the run's.

    Raises:
        OtherLab: they are of several labs, or of versions of one with other checks or points.
    """
    refuse_other_labs(runs)
    most = {check.id: check.max_points for check in runs[0][1].checks}
    questions, possible = sorted(most), runs[0][1].max_points
    page = io.StringIO()
    table = csv.writer(page, lineterminator="\n")
    table.writerow(["file", *map(cell, questions), "total_points_earned", "percent_correct", "grading_status"])
    table.writerow(["points-per-question", *(most[each] for each in questions), possible, 1.0, "--"])
    for file, verdict in sorted(((cell(each.student or name), each) for name, each in runs), key=lambda row: row[0]):
        broken = verdict.status == "error"
        points = {check.id: "" if broken else check.points for check in verdict.checks}
        totals = ["", ""] if broken else [verdict.points, round(verdict.points / possible, 4)]
        status = cell(why_error(verdict)) if broken else "Completed"
        table.writerow([file, *(points[each] for each in questions), *totals, status])
    return page.getvalue()
