"""docs/write-a-lab.md, walked: its commands in their order, in a copy of the project, on clusters of their own."""

import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusters.process import run
from clusters.wait import until
from commands.authors import structural_gates
from graders.gates.measured import measured
from graders.gates.proof import Cheat, Fault
from tests.gates.small_lab import SmallLab
from tests.grading import Project
from tests.patience import PATIENCE
from tests.test_docs import commands

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs/write-a-lab.md").read_text()
STATUSES = {
    "gpulab grade 50_web_server": 1,  # the starter's files
    "gpulab verify 50_web_server --only too_many_replicas": 1,  # a part proves nothing
}


def test_the_tables_it_shows_are_such(tmp_path: Path) -> None:
    fault, lines, cheat = (msgspec.toml.decode(text) for text in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
    shown: list[tuple[Any, type]] = [(fault["too_many_replicas"], Fault), (cheat["another_server"], Cheat)]
    for table, form in shown:
        assert isinstance(msgspec.convert(table, form), form)
    assert set(fault["too_many_replicas"]) == set(Fault.__struct_fields__)
    assert {*cheat["another_server"], "on", "edits"} == set(Cheat.__struct_fields__)
    made = SmallLab(tmp_path).proof.of("fault")
    assert [list(msgspec.to_builtins(case.expected.edits)) for case in made if case.expected] == [
        fault["too_many_replicas"]["edits"],
        lines["probe_on_the_wrong_path"]["edits"],
    ]


def test_it_names_every_gate_and_every_place(tmp_path: Path) -> None:
    small = SmallLab(tmp_path)
    gates = [*structural_gates(small.proof), *measured(small.proof, [])]
    rows = re.findall(r"^\| (\w+) \| (?!holds when)", TEXT.partition("## What `gpulab verify` asks")[2], re.MULTILINE)
    assert rows == [gate.name for gate in gates]

    places = [
        place.rstrip("/").replace("web_server", "small") for place in re.findall(r"^\| `([^`]+)`", TEXT, re.MULTILINE)
    ]
    assert [place for place in places if not (tmp_path / place.replace("web-server", "small")).exists()] == []


@pytest.mark.slow
def test_a_new_lab_keeps_the_rules_for_code_and_charts(helm: Path, tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert project.start("new-lab", "50_web_server").wait(PATIENCE) == 0
    ruff = str(Path(sys.executable).with_name("ruff"))
    for argv in (
        [ruff, "check", "--no-cache", "labs/50_web_server"],
        [ruff, "format", "--check", "--no-cache", "labs/50_web_server"],
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_charts.py", "-k", "web-server"],
    ):
        run(argv, cwd=project.folder, seconds=120)  # raises when it ends with another status than 0


@pytest.mark.cluster
@pytest.mark.walk
def test_its_commands_do_what_it_says(place: Path) -> None:
    project = Project(place)
    for command in commands(TEXT):
        child = project.start(*shlex.split(command)[1:])
        assert child.wait(300) == STATUSES.get(command, 0), f"{command}:\n{project.log}"
    assert (project.folder / "matrix.html").is_file()
    assert project.log.count("as it must be (kept from before)") == 5
    project.assert_nothing_left()


@pytest.mark.cluster
def test_ctrl_c_while_a_case_is_graded_leaves_nothing(place: Path) -> None:
    project = Project(place)
    assert project.start("new-lab", "50_web_server").wait(PATIENCE) == 0
    child = project.start("verify", "50_web_server")
    kept = project.folder / "results/verify/50_web_server"
    until(
        lambda: [path for path in kept.glob("*/grade.log") if "kube-apiserver" in path.read_text()],
        lambda found: bool(found),
        what="a cluster to start",
        seconds=PATIENCE,
    )
    os.kill(child.pid, signal.SIGINT)
    assert child.wait(PATIENCE) == 130, project.log
    assert project.log.splitlines()[-2:] == [
        "gpulab: 0 of 5 gradings are done; go on with: gpulab verify 50_web_server --resume",
        "gpulab: interrupted; what was started has been ended",
    ]
    assert list(kept.iterdir()) == []
    project.assert_nothing_left()
