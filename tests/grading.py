"""A grading of lab 03 as a learner starts it, in a process and a folder of its own, and a project to write a lab in.

Place: tests that grade for real. Limits: one at a time; lab 03 takes minutes.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from clusters import usage
from clusters.process import Child
from clusters.wait import until
from tests.conftest import processes_with
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 1200.0
"""For a grading, which takes four to eight minutes on a machine that is given its processors."""
STOLEN = 0.1
"""From which share on nobody can expect that figures decide."""
NOT_COPIED = (".*", "work", "results", "__pycache__", "*.egg-info")


class Grading:
    """One `gpulab grade 03_vllm` of a folder, with state and results of its own."""

    def __init__(self, submission: Path, place: Path) -> None:
        self.place, self.log = place, place / "grade.log"
        argv = [str(Path(sys.executable).with_name("gpulab")), "grade", "03_vllm"]
        argv += [f"--submission={submission}", f"--out={place / 'results'}"]
        self.child = Child(argv, log=self.log, env={**os.environ, "XDG_STATE_HOME": str(place)})

    def verdict(self) -> Any:
        (path,) = (self.place / "results" / "03_vllm").glob("*/verdict.json")
        return json.loads(path.read_text())

    def statuses(self) -> dict[str, str]:
        return {check["id"]: check["status"] for check in self.verdict()["checks"]}

    def wait_for(self, words: str) -> None:
        def look() -> str:
            assert self.child.status() is None, self.log.read_text()
            return self.log.read_text()

        until(look, lambda text: words in text, what=f"{words!r} in the log", seconds=300, interval=0.2)

    def assert_nothing_left(self) -> None:
        until(
            lambda: processes_with(f"{self.place}/"), lambda left: not left, what="everything to end", seconds=PATIENCE
        )


def graded(submission: Path, place: Path, status: int) -> Grading:
    """A grading that was decided; a busy machine may leave the first inconclusive, which is no fault of either side.

    Skips the test where a hypervisor took away so much of the machine that nothing was decided and no check failed.
    """
    for number in (1, 2):
        folder = place / str(number)
        folder.mkdir()
        before = _processor_times()
        grading = Grading(submission, folder)
        ended = grading.child.wait(SECONDS)
        if ended is None:
            grading.child.stop(grace=30)
        stolen = stolen_share(before, _processor_times())
        statuses = grading.statuses().values()
        if ended != status and "failed" not in statuses and stolen > STOLEN:
            pytest.skip(f"a hypervisor took away {stolen:.0%} of this machine's processor time, so nothing was decided")
        if "inconclusive" not in statuses:
            break
    assert ended == status, grading.log.read_text()
    return grading


def stolen_share(before: str, after: str) -> float:
    """Share of all processor time between two texts of /proc/stat that a hypervisor took away (proc(5), steal)."""
    then, now = usage.machine_ticks(before), usage.machine_ticks(after)
    return (now[usage.STEAL] - then[usage.STEAL]) / max(1, sum(now) - sum(then))


def _processor_times() -> str:
    return Path("/proc/stat").read_text()


class Project:
    """A copy of the project, with state of its own."""

    def __init__(self, place: Path) -> None:
        self.folder, self.place = place / "project", place
        shutil.copytree(ROOT, self.folder, ignore=shutil.ignore_patterns(*NOT_COPIED))

    def start(self, *words: str) -> Child:
        argv = [sys.executable, str(self.folder / "gpulab.py"), *words]
        env = {**os.environ, "XDG_STATE_HOME": str(self.place), "PYTHONDONTWRITEBYTECODE": "1"}
        return Child(argv, log=self.place / "log", env=env, cwd=self.folder)

    @property
    def log(self) -> str:
        return (self.place / "log").read_text()

    def assert_nothing_left(self) -> None:
        until(
            lambda: processes_with(f"{self.place}/"), lambda left: not left, what="everything to end", seconds=PATIENCE
        )
