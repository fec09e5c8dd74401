"""Waiting with a deadline, on a clock of the test's own."""

import socket
from pathlib import Path

import pytest

from clusters.wait import WaitTimeout, listens, until


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_returns_the_first_state_that_is_done() -> None:
    clock, states = Clock(), iter([1, 2, 3])
    found = until(
        lambda: next(states),
        lambda state: state == 2,
        what="two",
        seconds=9,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    assert found == 2
    assert next(states) == 3


def test_says_what_it_waited_for_and_saw_last() -> None:
    clock = Clock()
    with pytest.raises(WaitTimeout) as caught:
        until(lambda: "Pending", lambda _: False, what="the pod", seconds=2, clock=lambda: clock.now, sleep=clock.sleep)
    assert str(caught.value) == "waited 2 s for the pod; last seen: Pending"


def test_looks_once_even_without_time() -> None:
    assert until(lambda: True, bool, what="nothing", seconds=0, clock=lambda: 5.0) is True


def test_a_unix_socket_listens_only_once_its_server_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    monkeypatch.chdir(folder)  # as the path is too long to bind it
    assert not listens(folder / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert (folder / "s").is_socket()
        assert not listens(folder / "s")
        before = len([*Path("/proc/self/fd").iterdir()])
        server.listen()
        assert listens(folder / "s")
        assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert not listens(folder / "s")
    assert not listens(folder / "none" / "s")


def test_a_port_listens_while_its_server_does() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        assert not listens(server.getsockname())
        server.listen()
        assert listens(server.getsockname())
