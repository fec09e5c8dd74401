"""Tests take turns where pytest-xdist runs several at a time: those marked `alone` run while no other does.

Place: a plugin of tests/conftest.py. Limits: between the workers of one run; what fixtures of the session left
running, such as a cluster without work, goes on.
"""

import fcntl
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Turns:
    """A lock that many tests share, or one has alone.

    Who waits for it keeps the door closed, or the tests of the other workers would never leave it free.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Waits for a turn, and has it while the block runs."""
        with (self._folder / "turns.room").open("a") as room:
            with (self._folder / "turns.door").open("a") as door:
                fcntl.flock(door, fcntl.LOCK_EX)
                fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield


class TurnsPlugin:
    """Has each test of this worker wait for its turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Begins with the files of which each test is alone, before idle clusters of others are beside them.

        Then come the largest files, as pytest-xdist has them without --no-loadscope-reorder.
        """
        tests = Counter(item.path for item in items)
        shared = {item.path for item in items if item.get_closest_marker("alone") is None}
        items.sort(key=lambda item: (item.path in shared, -tests[item.path]))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """One test with its fixtures."""
        with self._turns.turn(alone=item.get_closest_marker("alone") is not None):
            return (yield)


def register(config: pytest.Config) -> None:
    """Takes turns with the other workers where this process is one of several; their folders lie side by side."""
    if hasattr(config, "workerinput"):
        turns = Turns(Path(config.option.basetemp).parent)
        config.pluginmanager.register(TurnsPlugin(turns), "turns")
