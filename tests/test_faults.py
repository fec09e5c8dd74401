"""The starter of a lab, faults planted in its reference and cheats: each is caught by the check that names it.

Those that need no engine are judged here at once. The others are graded for real, minutes each: `pytest -m faults`.
"""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from clusters.process import CommandFailed, run
from graders.lab import Lab
from graders.rubric import Finding
from graders.submission import parse_values, read_submission
from tests.grading import graded
from vllm_lab import start
from vllm_lab.sides import chart_values
from vllm_lab.start_facts import judge_budget

TESTS = Path(__file__).parent
ROOT = TESTS.parent
LAB = Lab.load(ROOT / "labs/03_vllm")
FAULTS: dict[str, dict[str, str]] = tomllib.loads((TESTS / "faults/03_vllm/expected.toml").read_text())
CHEATS: dict[str, dict[str, str]] = tomllib.loads((TESTS / "cheats/03_vllm/expected.toml").read_text())
AT_ONCE = "resources_within_budget"
WITHOUT_PACE = [AT_ONCE, "server_comes_up", "streams_are_correct", "counters_agree"]


def values(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A submission's own values, and all that its side has."""
    chart = ROOT / "charts/vllm"
    defaults, given = (parse_values((chart / name).read_text(), name) for name in ("values.yaml", "values-cpu.yaml"))
    own = read_submission(folder, LAB).values()
    return own, chart_values(defaults, given, own, lambda name: LAB.threshold("L1", name))


def judged(folder: Path) -> Finding:
    """What the first check finds."""
    return judge_budget(start.budget(*values(folder)), lambda name: LAB.threshold("L1", name))


def folders(kind: str) -> set[str]:
    return {path.parent.name for path in (TESTS / kind / "03_vllm").glob("*/values.yaml")}


def test_every_folder_is_in_its_table() -> None:
    assert folders("faults") == FAULTS.keys()
    assert folders("cheats") == CHEATS.keys()
    assert {each["check"] for each in FAULTS.values()} <= {check.id for check in LAB.checks}


@pytest.mark.parametrize("folder", [ROOT / "tests/solutions/03_vllm", ROOT / "labs/03_vllm/starter"], ids=str)
def test_reference_and_starter_keep_the_rules(helm: Path, tmp_path: Path, folder: Path) -> None:
    assert judged(folder).verdict == "passed"
    assert rendered(helm, folder, tmp_path) is None


@pytest.mark.parametrize("name", [name for name, each in FAULTS.items() if each["check"] != AT_ONCE])
def test_a_fault_keeps_the_rules_and_the_schema(helm: Path, tmp_path: Path, name: str) -> None:
    folder = TESTS / "faults/03_vllm" / name

    assert judged(folder).verdict == "passed"
    assert rendered(helm, folder, tmp_path) is None


@pytest.mark.parametrize("name", [name for name, each in FAULTS.items() if each["check"] == AT_ONCE])
def test_a_fault_that_needs_no_engine_is_named(name: str) -> None:
    finding = judged(TESTS / "faults/03_vllm" / name)

    assert finding.verdict == "failed"
    assert finding.hint in ("not_yours", "too_much")


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_refused_before_anything_runs(name: str) -> None:
    finding = judged(TESTS / "cheats/03_vllm" / name)

    assert finding.verdict == "failed"
    assert finding.observed.startswith(CHEATS[name]["words"])


@pytest.mark.parametrize("name", ["a_proxy_with_canned_text", "a_sidecar_that_answers"])
def test_the_charts_schema_refuses_what_adds_a_server(helm: Path, tmp_path: Path, name: str) -> None:
    said = rendered(helm, TESTS / "cheats/03_vllm" / name, tmp_path)

    assert said is not None
    assert f"additional properties '{CHEATS[name]['words'].split('.')[0]}' not allowed" in said


def test_whatever_a_cheat_says_the_lab_installs_its_own() -> None:
    for name in CHEATS:
        _, joined = values(TESTS / "cheats/03_vllm" / name)
        assert joined["image"] == {"repository": "vllm/vllm-openai", "tag": "v0.32.0", "pullPolicy": "IfNotPresent"}
        assert (joined["engine"]["extraArgs"], joined["engine"]["dtype"]) == ([], "auto")
        assert joined["model"]["name"] == "/models/gpulab-tiny"


@pytest.mark.serving
@pytest.mark.faults
def test_the_starter_gets_nothing_for_how_it_serves_and_is_told_why(place: Path) -> None:
    grading = graded(ROOT / "labs/03_vllm/starter", place, 1)
    assert grading.statuses() == {
        **dict.fromkeys(WITHOUT_PACE, "passed"),
        **dict.fromkeys(["throughput", "rolling_upgrade", "replica_loss"], "failed"),
        **dict.fromkeys(["service_level_objective", "highest_load", "kv_cache", "prefix_cache"], "skipped"),
    }
    assert grading.verdict()["points"] == 20
    for check in grading.verdict()["checks"]:
        if check["status"] == "failed":
            assert check["expected"]
            assert check["observed"]
            assert check["hint"]
    grading.assert_nothing_left()


@pytest.mark.serving
@pytest.mark.faults
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_by_its_check(place: Path, name: str) -> None:
    grading = graded(TESTS / "faults/03_vllm" / name, place, 1)
    statuses = grading.statuses()

    assert statuses[FAULTS[name]["check"]] == "failed"
    before = [check.id for check in LAB.checks[: [each.id for each in LAB.checks].index(FAULTS[name]["check"])]]
    assert {statuses[check] for check in before} <= {"passed", "inconclusive"}
    grading.assert_nothing_left()


@pytest.mark.serving
@pytest.mark.faults
@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_gets_no_points(place: Path, name: str) -> None:
    grading = graded(TESTS / "cheats/03_vllm" / name, place, 1)

    assert grading.verdict()["points"] == 0
    assert grading.statuses().pop(AT_ONCE) == "failed"
    grading.assert_nothing_left()


def rendered(helm: Path, folder: Path, place: Path) -> str | None:
    """What Helm says against a submission's values; None where it takes them."""
    argv = [str(helm), "template", "release", str(ROOT / "charts/vllm"), "--values", str(folder / "values.yaml")]
    try:
        run(argv, seconds=30)
    except CommandFailed as error:
        return error.output
    return None
