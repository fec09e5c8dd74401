"""Processor time of trees of processes and of all others."""

import os
from pathlib import Path

import pytest

from clusters import usage
from tests.grading import stolen_share


def stat(pid: int, parent: int, *ticks: int) -> str:
    return f"{pid} (a (b) c) S {parent} 1 1 0 -1 0 0 0 0 0 {' '.join(map(str, ticks))} 20 0 1 0 5"


TEXTS = {
    7: stat(7, 1, 1, 2, 3, 4),
    8: stat(8, 7, 10, 0, 0, 0),
    9: stat(9, 8, 100, 0, 0, 0),
    10: stat(10, 1, 1000, 0, 0, 0),
}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for pid, text in TEXTS.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(text)
    (tmp_path / "stat").write_text("cpu  2000 100 900 50000 77 5 6 20 3 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    return tmp_path


def test_a_tree_is_a_process_with_all_that_descend_from_it_and_that_it_waited_for() -> None:
    assert usage.tree_ticks([7], TEXTS.values()) == 120
    assert usage.tree_ticks([11], TEXTS.values()) == 0


def test_trees_inside_one_another_count_once() -> None:
    assert usage.tree_ticks([7, 8, 7], TEXTS.values()) == 120


def test_others_are_all_other_processes_and_what_was_stolen(proc: Path) -> None:
    assert usage.other_seconds([7, 8], proc) == (1000 + 20) / usage.TICKS
    assert usage.other_seconds([8], proc) == (10 + 1000 + 20) / usage.TICKS
    assert usage.tree_seconds([7, 10], proc) == 1120 / usage.TICKS


def test_this_machine_can_be_read() -> None:
    assert 0 < usage.tree_seconds([os.getpid()]) < 10_000
    assert usage.other_seconds([os.getpid()]) > 0


def test_what_a_hypervisor_took_is_a_share_of_all_processor_time() -> None:
    before, after = "cpu  10 0 5 80 0 0 0 5 0 0\ncpu0 0\n", "cpu  40 0 15 105 5 0 0 35 7 0\ncpu0 0\n"
    assert stolen_share(before, after) == 0.3
    assert stolen_share(before, before) == 0
