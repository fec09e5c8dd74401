"""`gpulab report`: a stored run as one HTML page.

Place: `gpulab.py` adds it to its parser. Limits: it reads a run's folder and starts nothing.
"""

import argparse
from pathlib import Path

from commands.places import RESULTS, Commands, add_command


def add(commands: Commands) -> None:
    """Adds it."""
    report = add_command(
        commands, "report", run_report, "write a run as one HTML page, with plots of what was measured"
    )
    report.add_argument(
        "run_folder", nargs="?", type=Path, metavar="RUN", help="folder or packed run (default: the newest in results/)"
    )
    report.add_argument("--out", type=Path, metavar="FILE", help="page to write (default: RUN.html, beside the folder)")


def run_report(options: argparse.Namespace) -> int:
    """Writes the page and says where it is."""
    from graders.html import page

    print(page.write(options.run_folder or newest(RESULTS), options.out))
    return 0


def newest(results: Path) -> Path:
    """The folder of the run that began last; raises WrongReport where there is none."""
    from graders.html.page import WrongReport

    stored = sorted((path.parent for path in results.glob("*/*/verdict.json")), key=lambda folder: folder.name)
    if not stored:
        raise WrongReport(
            f"asked to report the newest run, but {results} holds none; grade a lab, or name a run's folder"
        )
    return stored[-1]
