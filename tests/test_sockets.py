"""Whether a server listens, on a unix socket of any path and on a port."""

import socket
from pathlib import Path

import pytest

from clusters.sockets import listens


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
