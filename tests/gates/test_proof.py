"""What proves a lab: folders and tables that do not fit together, or prove nothing, are told."""

import shutil
from collections.abc import Callable

import pytest

from tests.gates.small_lab import SmallLab

FAULTS, CHEATS = "tests/faults/50_small/expected.toml", "tests/cheats/50_small/expected.toml"

PLANTED: list[tuple[str, str, str, str, list[str]]] = [
    (
        "submissions",
        "tests/faults/50_small/too_many_replicas/values.yaml",
        "replicaCount: 9",
        "replicaCount: 2",
        [
            "the fault too_many_replicas is the same as the reference, so it proves nothing; change it",
        ],
    ),
    (
        "proof",
        FAULTS,
        'check = "replicas_are_ready"',
        'check = "resources_within_budget"',
        [
            "the fault probe_on_the_wrong_path expects the hint 'unready', which 'resources_within_budget' "
            "lacks; correct its table",
            "no fault fails the check 'replicas_are_ready', so nothing proves that it can fail; plant one that "
            "it must name",
        ],
    ),
    (
        "proof",
        FAULTS,
        'check = "replicas_are_ready"',
        'check = "replicas_are_ready"\nalso = ["speed"]',
        [
            "the fault probe_on_the_wrong_path names 'speed', which is no check of lab.toml; correct its table",
        ],
    ),
    (
        "proof",
        FAULTS,
        'hint = "unready"',
        'hints = "unready"',
        [
            "the table [probe_on_the_wrong_path] in tests/faults/50_small/expected.toml is wrong: Object "
            "contains unknown field `hints`; correct it",
            "no fault fails the check 'replicas_are_ready', so nothing proves that it can fail; plant one that "
            "it must name",
        ],
    ),
    (
        "proof",
        FAULTS,
        "[too_many_replicas]",
        "[too_few_replicas]",
        [
            "the fault 'too_many_replicas' is in tests/faults/50_small and not in its expected.toml; add a table "
            "[too_many_replicas]",
            "the fault 'too_few_replicas' is in tests/faults/50_small/expected.toml and has no folder beside it; "
            "put its files there",
            "no fault fails the check 'resources_within_budget', so nothing proves that it can fail; plant one "
            "that it must name",
        ],
    ),
    (
        "proof",
        FAULTS,
        'hint = "unready"',
        "hint",
        [
            "tests/faults/50_small/expected.toml is not TOML: Expected '=' after a key in a key/value pair (at "
            "line 10, column 5); correct it",
        ],
    ),
    (
        "proof",
        CHEATS,
        'words = "image.repository is not yours to set"',
        'words = ""',
        [
            "the cheat another_server expects no words, so any refusal would do; write how the check's observed begins",
        ],
    ),
]


@pytest.mark.parametrize(("gate", "file", "before", "after", "said"), PLANTED)
def test_a_planted_mistake_is_told(
    small: SmallLab, gate: str, file: str, before: str, after: str, said: list[str]
) -> None:
    small.change(file, before, after)

    assert small.mistakes().get(gate, ()) == tuple(said)


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
