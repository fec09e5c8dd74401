"""The structural gate: it holds for every lab, and says what lacks; test_planted_mistakes.py plants single mistakes."""

import pytest

from commands.authors import structural_gates
from commands.places import LABS, PROOFS
from graders.gates.proof import read_proof
from graders.lab import Lab, known_labs
from tests.gates.small_lab import FACTS, TOML, SmallLab


@pytest.mark.parametrize("name", known_labs(LABS))
def test_every_lab_holds(name: str) -> None:
    proof = read_proof(Lab.find(LABS, name), PROOFS)

    assert [mistake for gate in structural_gates(proof) for mistake in gate.mistakes] == []


def test_a_new_lab_holds(small: SmallLab) -> None:
    assert [(gate.name, gate.seen, gate.mistakes) for gate in small.gates()] == [
        ("checks", "2 checks, each with a test and a sentence of why", ()),
        ("hints", "6 hints, each for something that a check can observe", ()),
        ("thresholds", "3 thresholds at L1", ()),
        ("cluster", "1 node with 0 GPUs, enough for the lab", ()),
        ("submissions", "5 submissions, of values.yaml each, no two the same", ()),
        ("proof", "2 faults, at least one for each check, and 1 cheat", ()),
        ("README", "3 numbers and the points of 2 checks, as lab.toml has them", ()),
    ]


def test_a_lab_without_hints_tells_learners_nothing(small: SmallLab) -> None:
    text = (small.root / TOML).read_text()
    head, _, rest = text.partition("# A hint for each")
    middle, thresholds = rest[rest.index("[[checks]]") :].split("[checks.hints]")
    (small.root / TOML).write_text(head + middle + thresholds[thresholds.index("[thresholds.L1]") :])

    assert small.mistakes()["hints"] == (
        "the check 'resources_within_budget' has no hints; say in [checks.hints] what to look at when it fails",
        "the code of the check 'resources_within_budget' gives the hint 'not_yours', which lab.toml does not have; "
        "add it there",
        "the code of the check 'resources_within_budget' gives the hint 'too_much', which lab.toml does not have; "
        "add it there",
        "the check 'replicas_are_ready' has no hints; say in [checks.hints] what to look at when it fails",
        "the code of the check 'replicas_are_ready' gives the hint 'few', which lab.toml does not have; add it there",
    )


def test_a_lab_without_thresholds_measures_nothing(small: SmallLab) -> None:
    small.change(TOML, "[thresholds.L1]\nbudget_replicas = 3\nready_replicas = 2\nready_seconds = 60.0\n", "")

    assert small.mistakes()["thresholds"] == (
        "50_small is graded at L1, where lab.toml has no thresholds; add [thresholds.L1]",
        "the code asks for the threshold 'budget_replicas', which lab.toml has at no level; add it",
        "the code asks for the threshold 'ready_replicas', which lab.toml has at no level; add it",
        "the code asks for the threshold 'ready_seconds', which lab.toml has at no level; add it",
    )


def test_a_lab_without_a_level_is_graded_nowhere(small: SmallLab) -> None:
    small.change(TOML, 'levels = ["L1"]', "levels = []")

    assert small.mistakes()["thresholds"] == (
        '50_small is graded at no level; name one in lab.toml, as in levels = ["L1"]',
    )


def test_a_lab_without_a_test_file_grades_nothing(small: SmallLab) -> None:
    (small.folder / "test_small.py").unlink()

    assert small.mistakes()["checks"] == (
        "labs/50_small holds 0 files named test_*.py, so nothing to grade by; keep exactly one",
    )


def test_hints_of_a_judge_are_found_where_a_table_lists_it(small: SmallLab) -> None:
    small.change(FACTS, 'else facts.kind or "few"', 'else "slow" if facts.seconds else facts.kind or "few"')

    assert small.mistakes()["hints"] == (
        "the code of the check 'replicas_are_ready' gives the hint 'slow', which lab.toml does not have; add it there",
    )
