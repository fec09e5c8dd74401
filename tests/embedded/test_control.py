"""Requests reach the holder and errors come back as what they are, wherever the state folder is; with a fake holder."""

import socket
import threading
from pathlib import Path

import pytest

from clusters.api import ClusterError, MachineError, NodeSpec, SpecError, Taint
from clusters.embedded import control
from clusters.process import CommandFailed


def test_a_request_arrives_as_it_was_sent(tmp_path: Path) -> None:
    seen: list[control.Request] = []
    control.serve(tmp_path, seen.append)
    wanted = control.AddNode(NodeSpec("a", labels={"b": "c"}, taints=(Taint("d", "NoExecute"),)))
    control.ask(tmp_path, wanted)
    control.ask(tmp_path, control.SpotNotice("a", 0.5))
    assert seen == [wanted, control.SpotNotice("a", 0.5)]


def test_the_socket_is_the_users_own(tmp_path: Path) -> None:
    control.serve(tmp_path, lambda _: None)
    assert (tmp_path / control.SOCKET).stat().st_mode & 0o777 == 0o600


def test_a_folder_with_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["long" * 20] * 3)
    folder.mkdir(parents=True)
    assert len(str(folder)) > 200
    seen: list[control.Request] = []
    control.serve(folder, seen.append)
    control.ask(folder, control.Heal("a"))
    assert seen == [control.Heal("a")]


@pytest.mark.parametrize("error", [SpecError("no such node"), MachineError("no disk"), ClusterError("refused")])
def test_errors_come_back_as_what_they_are(tmp_path: Path, error: ClusterError) -> None:
    def fail(_: control.Request) -> None:
        raise error

    control.serve(tmp_path, fail)
    with pytest.raises(type(error)) as caught:
        control.ask(tmp_path, control.Lose("a"))
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_an_error_of_another_module_comes_back_as_its_nearest_of_the_tree(tmp_path: Path) -> None:
    def fail(_: control.Request) -> None:
        raise CommandFailed(["ip"], 2, "no device")

    control.serve(tmp_path, fail)
    with pytest.raises(ClusterError) as caught:
        control.ask(tmp_path, control.Lose("a"))
    assert type(caught.value) is ClusterError
    assert str(caught.value) == "ip ended with status 2: no device"


def test_a_holder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClusterError) as caught:
        control.ask(tmp_path, control.Lose("a"))
    assert str(caught.value) == (
        f"the cluster of {tmp_path} did not answer the command 'lose' ([Errno 2] No such file or directory); "
        "look at `gpulab status`, and start it again if it hangs"
    )


def test_a_holder_that_hangs_is_an_error(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(_: control.Request) -> None:
        release.wait()

    control.serve(tmp_path, hang)
    with pytest.raises(ClusterError) as caught:
        control.ask(tmp_path, control.Lose("a"), seconds=0.05)
    release.set()
    assert str(caught.value) == (
        f"the cluster of {tmp_path} did not answer the command 'lose' (timed out); "
        "look at `gpulab status`, and start it again if it hangs"
    )


def test_a_command_of_another_version_is_answered(tmp_path: Path) -> None:
    control.serve(tmp_path, lambda _: None)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / control.SOCKET))
        connection.sendall(b'{"type": "explode"}\n')
        said = connection.makefile().readline()
    assert said == (
        '{"error":"the cluster does not know this command, as another version started it: '
        'Invalid value \'explode\' - at `$.type`","kind":"ClusterError"}\n'
    )
