"""The first lab graded for real: vLLM in pods, load, verdict. Each test takes minutes."""

import os
import signal
from pathlib import Path

import pytest

from clusters.wait import until
from tests.conftest import command_of, everything_in, living
from tests.grading import Grading, graded
from tests.patience import PATIENCE

pytestmark = [pytest.mark.serving, pytest.mark.alone]

ROOT = Path(__file__).resolve().parents[1]


def test_the_reference_gets_full_marks(place: Path) -> None:
    grading = graded(ROOT / "tests/solutions/03_vllm", place, 0)
    verdict = grading.verdict()
    assert (verdict["status"], verdict["points"], verdict["max_points"]) == ("passed", 100, 100)
    assert verdict["simulated"] == ["GPUs"]
    assert "100/100 passed" in grading.log.read_text()
    grading.assert_nothing_left()


def runs_vllm(process: int) -> bool:
    return b"vllm" in command_of(process)


def test_a_holder_killed_in_the_middle_is_an_error_and_never_a_pass(place: Path) -> None:
    grading = Grading(ROOT / "tests/solutions/03_vllm", place)
    grading.wait_for("waiting for the servers")
    everything = until(
        lambda: everything_in(place / "gpulab/clusters/default/cluster.json"),
        lambda found: any(runs_vllm(pid) for pid, _ in found),
        what="vLLM to run in a pod",
        seconds=PATIENCE,
    )
    os.kill(everything[0][0], signal.SIGKILL)
    until(lambda: living(everything), lambda left: not left, what="every process to end", seconds=PATIENCE)
    assert grading.child.wait(PATIENCE) == 3, grading.log.read_text()
    assert grading.verdict()["status"] == "error"
    before, *rest = grading.verdict()["checks"]
    assert (before["id"], before["status"]) == ("resources_within_budget", "passed")
    how = {(check["status"], check["points"], check["error_class"]) for check in rest}
    assert how == {("error", 0, "infrastructure")}
    assert "the cluster ended: the cluster 'default' has ended: its holder was killed" in grading.log.read_text()
    grading.assert_nothing_left()


def test_values_that_the_schema_refuses_fail_with_helms_words(place: Path) -> None:
    folder = place / "submission"
    folder.mkdir()
    (folder / "values.yaml").write_text("engine: {maxNumSeqs: eight}\n")
    grading = Grading(folder, place)
    assert grading.child.wait(300) == 1, grading.log.read_text()
    assert list(grading.statuses().values()) == ["passed", "failed", *["skipped"] * 9]
    observed = grading.verdict()["checks"][1]["observed"]
    assert observed == (
        "asked Helm to install the chart vllm as submission: "
        "values don't meet the specifications of the schema(s) in the following chart(s):\n"
        "vllm:\n- at '/engine/maxNumSeqs': got string, want null or integer"
    )
    grading.assert_nothing_left()


def test_ctrl_c_in_the_middle_leaves_a_verdict_of_error_and_nothing_running(place: Path) -> None:
    grading = Grading(ROOT / "tests/solutions/03_vllm", place)
    grading.wait_for("waiting for the servers")
    os.kill(grading.child.pid, signal.SIGINT)
    assert grading.child.wait(PATIENCE) == 2, grading.log.read_text()
    assert grading.verdict()["status"] == "error"
    grading.assert_nothing_left()
