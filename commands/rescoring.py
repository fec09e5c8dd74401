"""`gpulab rescore`: what stored runs are worth by today's lab.toml, without a cluster.

Place: `gpulab.py` adds it to its parser. Limits: it prints and exports, and changes nothing that is stored.
"""

import argparse
import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from commands.grading import FORMATS
from commands.places import LABS, Commands, add_command

if TYPE_CHECKING:
    from graders.judging import Judges
    from graders.lab import Lab
    from graders.rescore import Change, Rescored
    from graders.rubric import CheckResult

QUIET_SECONDS = 2.0
"""Nobody needs to be told what takes no longer, nor who sees the lines as they are printed."""


def add(commands: Commands) -> None:
    """Adds it."""
    rescore = add_command(commands, "rescore", run_rescore, "judge stored runs by today's lab.toml, without a cluster")
    rescore.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="a run, packed or not, or a folder of them"
    )
    rescore.add_argument("--key", type=Path, metavar="FILE", help="public key that must have signed each run")
    rescore.add_argument("--lab-from", type=Path, metavar="DIR", help="another version of the lab (default: labs/)")
    rescore.add_argument("--export", action="append", default=[], metavar="FORMAT=FILE", help=f"as well: {FORMATS}")


def run_rescore(options: argparse.Namespace) -> int:
    """Prints what becomes of each run; 2 when one was refused."""
    from clusters.progress import Display
    from graders import signing
    from graders.errors import GraderError
    from graders.exports import formats
    from graders.rescore import Refused, read_run, rescore
    from graders.stored import find
    from graders.told import printed

    places, wanted = find(options.results), [formats.wanted(each) for each in options.export]
    for name, _ in wanted:
        formats.refuse_several(name, len(places))
    lab_of, key = _labs(options.lab_from), signing.public_key(options.key) if options.key else None
    begun, counts, verdicts = time.monotonic(), Counter[str](), []
    with Display(sys.stderr) as display:
        for number, place in enumerate(places, 1):
            if not sys.stdout.isatty() and time.monotonic() - begun > QUIET_SECONDS:
                display(f"re-scoring: run {number} of {len(places)}")
            try:
                run = read_run(place, key)
                found = rescore(run, *lab_of(run.verdict.lab))
            except Refused as error:
                said, how = f"refused: {error}", "refused"
            except GraderError as error:
                said, how = f"refused: {place}: {error}", "refused"
            else:
                said, how = "\n".join(told(place, found)), "otherwise" if found.counts else "as before"
                verdicts += [(place.name, found.now)] if wanted else []
            counts[how] += 1
            print(printed(said))
    ended = ", ".join(f"{counts[how]} {how}" for how in ("otherwise", "as before", "refused"))
    print(f"{len(places)} run{'s' if len(places) > 1 else ''}: {ended}")
    for name, path in wanted:
        formats.write(name, path, verdicts)
    return 2 if counts["refused"] else 0


def _labs(other: Path | None) -> "Callable[[str], tuple[Lab, Judges]]":
    """The lab of a name with its judges, each read once: the one in `other`, where that is given."""
    from graders import judging
    from graders.errors import GraderError
    from graders.lab import Lab, known_labs

    only = Lab.load(other.resolve()) if other else None

    @functools.cache
    def lab_of(name: str) -> "tuple[Lab, Judges]":
        if only is None and name not in known_labs(LABS):  # what a run calls itself must not lead out of labs/
            raise GraderError(f"it is a run of the lab {name!r}, which is not in {LABS}; name its folder by --lab-from")
        lab = only or Lab.load(LABS / name)
        return lab, judging.load(lab)

    return lab_of


def told(place: Path, found: "Rescored") -> Iterator[str]:
    """What becomes of a run, in lines."""
    from graders.told import score

    if found.counts:
        yield f"{place}: {score(found.then)} -> {score(found.now)}"
    else:
        yield f"{place}: {score(found.now)}, as before"
    for change in found.changes:
        yield from _told(change)


def _told(change: "Change") -> Iterator[str]:
    from graders.told import told

    then, now = change.then, change.now
    before = told(then) if then else []
    rows = [row for row in told(now) if row not in before and row[0] != "why"] if now else []
    if not change.counts and not change.why and not rows:
        return  # a field that nobody reads here, as of a later version
    yield f"  {change.check}: " + (f"{_worth(then)} -> {_worth(now)}" if change.counts else f"{_worth(now)}, as before")
    yield from (f"    {each}" for each in change.why)
    yield from (f"    {name}: {text}" for name, text in rows)


def _worth(check: "CheckResult | None") -> str:
    return f"{check.status} {check.points}/{check.max_points}" if check else "no check"
