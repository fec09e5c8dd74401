"""What proves 03_vllm, as far as no engine is needed; the rest is `gpulab verify 03_vllm`, minutes a case."""

from pathlib import Path
from typing import Any

import pytest

from clusters.process import CommandFailed, run
from graders.budget import judge_budget
from graders.gates.proof import Case, Cheat, read_proof
from graders.lab import Lab
from graders.rubric import Finding
from graders.submission import parse_values, read_submission
from tests.patience import PATIENCE
from vllm_lab import start
from vllm_lab.sides import chart_values

TESTS = Path(__file__).parent
ROOT = TESTS.parent
LAB = Lab.load(ROOT / "labs/03_vllm")
PROOF = read_proof(LAB, TESTS)
AT_ONCE = "resources_within_budget"
FAULTS, CHEATS = PROOF.of("fault"), PROOF.of("cheat")
OBVIOUS = [case for case in FAULTS if case.expected and case.expected.check == AT_ONCE]


def values(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A submission's own values, and all that its side has."""
    chart = ROOT / "charts/vllm"
    defaults, given = (parse_values((chart / name).read_text(), name) for name in ("values.yaml", "values-cpu.yaml"))
    own = read_submission(folder, LAB).values()
    return own, chart_values(defaults, given, own, lambda name: LAB.threshold("L1", name))


def judged(folder: Path) -> Finding:
    """What the first check finds."""
    return judge_budget(start.budget(*values(folder)), lambda name: LAB.threshold("L1", name))


def test_there_is_something_to_judge() -> None:
    assert (PROOF.mistakes, len(OBVIOUS), len(CHEATS)) == ((), 4, 12)


@pytest.mark.parametrize(
    "case", [case for case in PROOF.cases if case not in (*OBVIOUS, *CHEATS)], ids=lambda case: case.name
)
def test_what_only_an_engine_can_tell_keeps_the_rules_and_the_schema(helm: Path, case: Case) -> None:
    assert judged(case.folder).verdict == "passed"
    assert rendered(helm, case.folder) is None


@pytest.mark.parametrize("case", OBVIOUS, ids=lambda case: case.name)
def test_a_fault_that_needs_no_engine_is_named(case: Case) -> None:
    finding = judged(case.folder)

    assert case.expected
    assert (finding.verdict, finding.hint) == ("failed", getattr(case.expected, "hint", None))


@pytest.mark.parametrize("case", CHEATS, ids=lambda case: case.name)
def test_a_cheat_is_refused_before_anything_runs(case: Case) -> None:
    finding = judged(case.folder)

    assert isinstance(case.expected, Cheat)
    assert (finding.verdict, case.expected.check) == ("failed", AT_ONCE)
    assert finding.observed.startswith(case.expected.words)


@pytest.mark.parametrize("name", ["a_proxy_with_canned_text", "a_sidecar_that_answers"])
def test_the_charts_schema_refuses_what_adds_a_server(helm: Path, name: str) -> None:
    (case,) = (each for each in CHEATS if each.name == name)
    said = rendered(helm, case.folder)

    assert said is not None
    assert isinstance(case.expected, Cheat)
    assert f"additional properties '{case.expected.words.split('.')[0].split()[0]}' not allowed" in said


def test_whatever_a_cheat_says_the_lab_installs_its_own() -> None:
    for case in CHEATS:
        _, joined = values(case.folder)
        assert joined["image"] == {"repository": "vllm/vllm-openai", "tag": "v0.32.0", "pullPolicy": "IfNotPresent"}
        assert (joined["engine"]["extraArgs"], joined["engine"]["dtype"]) == ([], "auto")
        assert joined["model"]["name"] == "/models/gpulab-tiny"


def rendered(helm: Path, folder: Path) -> str | None:
    """What Helm says against a submission's values; None where it takes them."""
    argv = [str(helm), "template", "release", str(ROOT / "charts/vllm"), "--values", str(folder / "values.yaml")]
    try:
        run(argv, seconds=PATIENCE)
    except CommandFailed as error:
        return error.output
    return None
