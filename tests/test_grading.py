"""The first lab graded for real: vLLM in pods, load, verdict. Each test takes minutes."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters.process import Child
from clusters.wait import until
from tests.conftest import everything_in, living, processes_with

pytestmark = pytest.mark.serving

ROOT = Path(__file__).resolve().parents[1]
IDS = ["streams_are_correct", "throughput", "service_level_objective"]


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
        until(lambda: processes_with(f"{self.place}/"), lambda left: not left, what="everything to end", seconds=10)


def graded(submission: Path, place: Path, status: int) -> Grading:
    """A grading that was decided; a busy machine may leave the first inconclusive, which is no fault of either side."""
    for number in (1, 2):
        folder = place / str(number)
        folder.mkdir()
        grading = Grading(submission, folder)
        ended = grading.child.wait(600)
        if "inconclusive" not in grading.statuses().values():
            break
    assert ended == status, grading.log.read_text()
    return grading


@pytest.fixture
def place(machine: None, programs: Path, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for pid in processes_with(f"{tmp_path}/"):
        os.kill(pid, signal.SIGKILL)


def test_the_reference_gets_full_marks(place: Path) -> None:
    grading = graded(ROOT / "tests/solutions/03_vllm", place, 0)
    verdict = grading.verdict()
    assert (verdict["status"], verdict["points"], verdict["max_points"]) == ("passed", 100, 100)
    assert verdict["simulated"] == ["GPUs"]
    assert "100/100 passed" in grading.log.read_text()
    grading.assert_nothing_left()


def test_the_starter_gets_the_first_check_only_and_is_told_why(place: Path) -> None:
    grading = graded(ROOT / "labs/03_vllm/starter", place, 1)
    assert grading.statuses() == dict(zip(IDS, ["passed", "failed", "failed"], strict=True))
    assert grading.verdict()["points"] == 20
    for check in grading.verdict()["checks"][1:]:
        assert check["expected"]
        assert check["observed"]
        assert check["hint"]
    grading.assert_nothing_left()


def test_a_holder_killed_in_the_middle_is_an_error_and_never_a_pass(place: Path) -> None:
    grading = Grading(ROOT / "tests/solutions/03_vllm", place)
    grading.wait_for("streams: ")
    everything = everything_in(place / "gpulab/clusters/default/cluster.json")
    assert any(b"vllm" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid, _ in everything)
    os.kill(everything[0][0], signal.SIGKILL)
    until(lambda: living(everything), lambda left: not left, what="every process to end", seconds=10)
    assert grading.child.wait(120) == 3, grading.log.read_text()
    assert grading.verdict()["status"] == "error"
    assert grading.verdict()["points"] == 0
    assert {check["error_class"] for check in grading.verdict()["checks"]} == {"infrastructure"}
    assert "the cluster ended: the cluster 'default' has ended: its holder was killed" in grading.log.read_text()
    grading.assert_nothing_left()


def test_values_that_the_schema_refuses_fail_with_helms_words(place: Path) -> None:
    folder = place / "submission"
    folder.mkdir()
    (folder / "values.yaml").write_text("engine: {maxNumSequences: 8}\n")
    grading = Grading(folder, place)
    assert grading.child.wait(300) == 1, grading.log.read_text()
    assert grading.statuses() == dict(zip(IDS, ["failed", "skipped", "skipped"], strict=True))
    observed = grading.verdict()["checks"][0]["observed"]
    assert observed == (
        "asked Helm to install the chart vllm as submission: "
        "values don't meet the specifications of the schema(s) in the following chart(s):\n"
        "vllm:\n- at '/engine': additional properties 'maxNumSequences' not allowed"
    )
    grading.assert_nothing_left()


def test_ctrl_c_in_the_middle_leaves_a_verdict_of_error_and_nothing_running(place: Path) -> None:
    grading = Grading(ROOT / "tests/solutions/03_vllm", place)
    grading.wait_for("waiting for the servers")
    os.kill(grading.child.pid, signal.SIGINT)
    assert grading.child.wait(60) == 2, grading.log.read_text()
    assert grading.verdict()["status"] == "error"
    grading.assert_nothing_left()
