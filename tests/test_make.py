"""The Makefile: how many tests run at a time, by what the machine allows."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.grading import ROOT


def made(*words: str) -> str:
    """What make says, with nothing from a make that these tests are started by."""
    env = {name: text for name, text in os.environ.items() if not name.startswith("MAKE") and name != "WORKERS"}
    return subprocess.run(["make", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("allowed", "workers"), [(128, 2), (256, 3)])
def test_make_runs_as_many_tests_at_a_time_as_inotify_instances_allow(
    tmp_path: Path, allowed: int, workers: int
) -> None:
    (tmp_path / "allowed").write_text(f"{allowed}\n")
    said = made("--dry-run", "test", f"INSTANCES={tmp_path}/allowed")
    assert said.splitlines()[-1] == f".venv/bin/pytest --numprocesses {workers} --dist loadfile --no-loadscope-reorder"


@pytest.mark.parametrize(("allowed", "left"), [(128, 1024), (256, 256)])
def test_make_allows_inotify_instances_where_it_may(tmp_path: Path, allowed: int, left: int) -> None:
    (tmp_path / "allowed").write_text(f"{allowed}\n")
    said = made("instances", f"INSTANCES={tmp_path}/allowed")
    told = "Allowing a user 1024 inotify instances until this machine starts anew (fs.inotify.max_user_instances)\n"
    assert (int((tmp_path / "allowed").read_text()), said) == (left, told if left != allowed else "")
