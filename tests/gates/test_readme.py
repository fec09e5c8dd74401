"""A lab's README: a number that is not lab.toml's is told, with its line."""

import pytest

from tests.gates.small_lab import TOML, SmallLab

README = "labs/50_small/README.md"

PLANTED: list[tuple[str, str, str, list[str]]] = [
    (
        README,
        "2<!-- ready_replicas -->",
        "3<!-- ready_replicas -->",
        [
            "README.md of 50_small, line 10, says 3 for 'ready_replicas', where lab.toml has 2 at L1; correct "
            "one of them",
        ],
    ),
    (
        README,
        "2<!-- ready_replicas -->",
        "50 %<!-- ready_replicas -->",
        [
            "README.md of 50_small, line 10, says 50 % for 'ready_replicas', where lab.toml has 2 at L1; correct "
            "one of them",
        ],
    ),
    (
        README,
        "2<!-- ready_replicas -->",
        "2",
        [
            "README.md of 50_small, line 10, has the number 2 among the goals without a mark; write 2<!-- name "
            "--> with its threshold's",
        ],
    ),
    (
        README,
        "2<!-- ready_replicas -->",
        "two<!-- ready_replicas -->",
        [
            "README.md of 50_small, line 10, has the mark 'ready_replicas' behind no number; write 2 before it",
        ],
    ),
    (
        README,
        "2<!-- ready_replicas -->",
        "2<!-- L3.replicas -->",
        [
            "README.md of 50_small, line 10, names the threshold 'replicas', which lab.toml does not have at L3; "
            "correct the name",
        ],
    ),
    (
        README,
        "| Replicas are ready | 90 |",
        "| Replicas are ready | 80 |",
        [
            "the goals in README.md of 50_small have other titles or points than lab.toml; they must be:\n"
            "| Resources within the budget | 10 | ... |\n"
            "| Replicas are ready | 90 | ... |",
        ],
    ),
]


@pytest.mark.parametrize(("file", "before", "after", "said"), PLANTED)
def test_a_planted_mistake_is_told(small: SmallLab, file: str, before: str, after: str, said: list[str]) -> None:
    small.change(file, before, after)

    assert small.mistakes()["README"] == tuple(said)


def test_a_readme_that_is_not_there_is_told(small: SmallLab) -> None:
    (small.folder / "README.md").unlink()

    assert small.mistakes()["README"] == (
        "labs/50_small/README.md cannot be read: No such file or directory; write there what the lab asks",
    )


def test_a_readme_without_marks_proves_nothing(small: SmallLab) -> None:
    (small.folder / "README.md").write_text(
        "# 50_small\n\n| Resources within the budget | 10 | few |\n| Replicas are ready | 90 | enough |\n"
    )

    assert small.mistakes()["README"] == (
        "no number in README.md of 50_small has a mark, so nothing holds it to lab.toml; write them as in "
        "2<!-- throughput_ratio -->",
    )


def test_numbers_in_code_and_in_words_need_no_mark(small: SmallLab) -> None:
    small.change(README, "servers are ready", "servers (`python3.13`, p95 of L1) are ready")

    assert small.mistakes() == {}


def test_a_mark_may_name_another_level(small: SmallLab) -> None:
    small.change(TOML, "ready_seconds = 60.0", "ready_seconds = 60.0\n[thresholds.L3]\nready_replicas = 4")
    small.change(README, "2<!-- ready_replicas -->", "4<!-- L3.ready_replicas -->")

    assert small.mistakes() == {}
