"""What proves a lab: folders and tables that are missing, or are what they cannot be, are told."""

import shutil
from collections.abc import Callable

import pytest

from tests.gates.small_lab import CHEATS, SmallLab


def stranger(small: SmallLab) -> None:
    (small.folder / "starter" / "notes.txt").write_text("mine\n")


def nothing_to_prove_it(small: SmallLab) -> None:
    shutil.rmtree(small.proofs)


def no_table(small: SmallLab) -> None:
    (small.cheats / "expected.toml").unlink()


def same_name(small: SmallLab) -> None:
    (small.cheats / "another_server").rename(small.cheats / "too_many_replicas")
    small.change(CHEATS, "[another_server]", "[too_many_replicas]")


@pytest.mark.parametrize(
    ("spoil", "gate", "said"),
    [
        (
            stranger,
            "submissions",
            [
                "the starter cannot be graded: notes.txt in labs/50_small/starter is no part of a submission for "
                "50_small, which is: values.yaml; move it elsewhere"
            ],
        ),
        (
            nothing_to_prove_it,
            "proof",
            [
                "tests/solutions/50_small is not there; put a submission there that gets full marks",
                "tests/faults/50_small holds no fault, so nothing proves what the checks catch; put one there",
                "tests/cheats/50_small holds no cheat, so nothing proves what the checks catch; put one there",
            ],
        ),
        (
            no_table,
            "proof",
            ["tests/cheats/50_small/expected.toml is not there; write a table [name] for each folder beside it"],
        ),
        (
            same_name,
            "proof",
            ["two cases of 50_small are called 'too_many_replicas'; give each a name of its own"],
        ),
    ],
)
def test_what_is_missing_is_told(
    small: SmallLab, spoil: Callable[[SmallLab], None], gate: str, said: list[str]
) -> None:
    spoil(small)

    assert list(small.mistakes()[gate]) == said


def test_a_cheat_may_be_what_no_submission_can_be(small: SmallLab) -> None:
    (small.cheats / "another_server" / "conftest.py").write_text("\n")

    assert small.mistakes() == {}
