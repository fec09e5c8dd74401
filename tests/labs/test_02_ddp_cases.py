"""What proves lab 02, as far as nothing has to run: the rest is `gpulab verify 02_ddp`."""

import ast
from pathlib import Path

import pytest

from graders.gates.proof import Case, read_proof
from tests.labs.facts_02_ddp import LAB

TESTS = Path(__file__).resolve().parents[1]
PROOF = read_proof(LAB, TESTS)
REFERENCE = PROOF.case("reference").files()


def test_there_is_something_to_look_at() -> None:
    assert (PROOF.mistakes, len(PROOF.of("fault")), len(PROOF.of("cheat"))) == ((), 28, 22)


@pytest.mark.parametrize("case", PROOF.of("fault"), ids=lambda case: case.name)
def test_a_fault_is_a_mistake_in_one_file_of_the_reference(case: Case) -> None:
    files = case.files()

    assert files.keys() == REFERENCE.keys()
    assert len([name for name in files if files[name] != REFERENCE[name]]) == 1


@pytest.mark.parametrize("case", PROOF.cases, ids=lambda case: case.name)
def test_every_program_is_python(case: Case) -> None:
    assert ast.parse(case.files()["train.py"]).body
