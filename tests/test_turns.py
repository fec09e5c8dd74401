"""Whose turn it is: tests that share it run together, one that has it alone waits for them and is not overtaken."""

import fcntl
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clusters.wait import until
from tests.patience import PATIENCE
from tests.turns import Turns, TurnsPlugin, register


def door_is_closed(folder: Path) -> bool:
    with (folder / "turns.door").open("a") as door:
        try:
            fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_one_that_is_alone_waits_for_those_that_share_and_no_other_comes_first(tmp_path: Path) -> None:
    turns, told = Turns(tmp_path), list[str]()

    def take(name: str, *, alone: bool) -> threading.Thread:
        def run() -> None:
            with turns.turn(alone=alone):
                told.append(name)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with turns.turn(alone=False):
        with turns.turn(alone=False):
            told.append("two share")
        waiting = take("alone", alone=True)
        until(lambda: door_is_closed(tmp_path), bool, what="it to wait", seconds=PATIENCE, interval=0.01)
        late = take("late", alone=False)
        told.append("they leave")
    waiting.join(PATIENCE)
    late.join(PATIENCE)
    assert told == ["two share", "they leave", "alone", "late"]


def test_who_has_it_alone_keeps_all_others_out(tmp_path: Path) -> None:
    turns, told = Turns(tmp_path), list[str]()

    def share() -> None:
        with turns.turn(alone=False):
            told.append("shares")

    other = threading.Thread(target=share)
    with turns.turn(alone=True):
        other.start()
        until(lambda: door_is_closed(tmp_path), bool, what="the other to wait", seconds=PATIENCE, interval=0.01)
        told.append("alone leaves")
    other.join(PATIENCE)
    assert told == ["alone leaves", "shares"]


@pytest.mark.parametrize(("told", "names"), [({}, []), ({"workerinput": {"workerid": "gw0"}}, ["turns"])])
def test_only_one_of_several_workers_takes_turns(told: dict[str, object], names: list[str], tmp_path: Path) -> None:
    manager = pytest.PytestPluginManager()
    config: Any = SimpleNamespace(
        option=SimpleNamespace(basetemp=str(tmp_path / "popen-gw0")), pluginmanager=manager, **told
    )
    register(config)
    assert [name for name, _ in manager.list_name_plugin() if name == "turns"] == names


def test_files_whose_tests_are_all_alone_come_first_and_then_the_largest(tmp_path: Path) -> None:
    def test(file: str, *, alone: bool = False) -> Any:
        marked = pytest.mark.alone if alone else None
        return SimpleNamespace(path=Path(file), get_closest_marker=lambda _: marked)

    items = [
        *[test("small"), test("mixed", alone=True), test("mixed"), test("large"), test("large"), test("large")],
        *[test("alone", alone=True), test("alone", alone=True)],
    ]
    TurnsPlugin(Turns(tmp_path)).pytest_collection_modifyitems(items)
    assert [str(each.path) for each in items] == ["alone"] * 2 + ["large"] * 3 + ["mixed"] * 2 + ["small"]
