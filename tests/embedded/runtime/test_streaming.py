"""What the runtime gives the streaming helper: requests, and the streams of containers on the attach socket."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from clusters.process import start_time
from clusters.wait import until
from tests.conftest import command_of, processes_with
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster
Node = Any  # the fixture `node` is conftest.Node; test modules cannot import from a conftest
ENTERS = "--root"


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def attach(node: Node, container: str, stream: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(str(node.folder / "s.attach"))
    connection.sendall(json.dumps({"container": container, "stream": stream}).encode() + b"\n")
    return connection


def read_until(connection: socket.socket, words: bytes) -> bytes:
    data = b""
    while words not in data:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def asked(url: str) -> tuple[str, Any]:
    place, _, body = url.partition(" ")
    return place, json.loads(body)


def test_exec_asks_for_the_argument_list_that_enters_the_container(node: Node) -> None:
    container = node.start(node.pod("exec"), ["sleep", "1000"])
    request = node.api.ExecRequest(container_id=container, cmd=["ls", "-l"], stdin=True, stdout=True)
    place, body = asked(node.runtime.Exec(request).url)
    assert place == "/exec"
    assert body["container_id"].startswith("/proc/")
    assert body["cmd"][-2:] == ["ls", "-l"]
    assert ENTERS in body["cmd"]
    assert {key: body[key] for key in ("tty", "stdin", "stdout", "stderr")} == {
        "tty": False,
        "stdin": True,
        "stdout": True,
        "stderr": False,
    }


def test_a_command_with_a_terminal_leads_a_session_in_the_container(node: Node) -> None:
    container = node.start(node.pod("exec-tty"), ["sleep", "1000"], envs=[{"key": "A", "value": b"1"}])
    body = asked(node.runtime.Exec(node.api.ExecRequest(container_id=container, cmd=["sh"], tty=True)).url)[1]
    assert body["cmd"][-1] == "sh"
    assert '"terminal": true' in next(word for word in body["cmd"] if word.startswith("{"))
    assert {"TERM=xterm", "A=1"} <= set(body["cmd"])


def netns(node: Node, pod: str) -> str:
    request = node.api.PodSandboxStatusRequest(pod_sandbox_id=pod, verbose=True)
    return str(node.runtime.PodSandboxStatus(request).info["netns"])


def test_attach_and_port_forward_say_what_they_are_for(node: Node) -> None:
    pod = node.pod("attach")
    container = node.start(pod, ["sleep", "1000"])
    url = node.runtime.Attach(node.api.AttachRequest(container_id=container, stdout=True)).url
    assert asked(url) == (
        "/attach",
        {"container_id": container, "tty": False, "stdin": False, "stdout": True, "stderr": False},
    )
    url = node.runtime.PortForward(node.api.PortForwardRequest(pod_sandbox_id=pod, port=[80])).url
    assert asked(url) == ("/portforward", {"pod_sandbox_id": netns(node, pod), "port": [80]})


def test_only_what_runs_has_streams(node: Node) -> None:
    api, pod = node.api, node.pod("ended")
    container = node.start(pod, ["true"])
    node.ended(container)
    node.runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=pod))
    failed = grpc.StatusCode.FAILED_PRECONDITION
    assert refusal(lambda: node.runtime.Exec(api.ExecRequest(container_id=container, cmd=["ls"]))) == (
        failed,
        f"container {container!r} does not run, so no command can be run in it",
    )
    assert refusal(lambda: node.runtime.Attach(api.AttachRequest(container_id=container))) == (
        failed,
        f"container {container!r} does not run, so nothing can be attached to it",
    )
    assert refusal(lambda: node.runtime.PortForward(api.PortForwardRequest(pod_sandbox_id=pod))) == (
        failed,
        f"pod sandbox {pod!r} is stopped, so no port of it can be forwarded",
    )


def test_what_the_helper_refuses_is_said(node: Node) -> None:
    container = node.start(node.pod("refused"), ["sleep", "1000"])
    code, said = refusal(lambda: node.runtime.Exec(node.api.ExecRequest(container_id=container, cmd=["refuse"])))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert said.startswith("the node's streaming helper refuses exec: /exec {")


def test_a_helper_that_dies_is_started_again(node: Node) -> None:
    pod = node.pod("forwarded")
    inner = int((node.folder / "log").read_text().rpartition("stub is ")[2].split()[0])
    (helper,) = [pid for pid in _programs_with(str(node.folder / "streaming")) if _inner_id(pid) == inner]
    born = start_time(helper)
    os.kill(helper, signal.SIGKILL)
    until(lambda: start_time(helper) != born, bool, what="the helper's end", seconds=PATIENCE, interval=0.002)
    assert node.runtime.PortForward(node.api.PortForwardRequest(pod_sandbox_id=pod)).url.startswith("/portforward")
    assert "the streaming helper ended with status 137; it is started again in" in (node.folder / "log").read_text()


def _programs_with(word: str) -> list[int]:
    return [pid for pid in processes_with(word) if word.encode() in command_of(pid).split(b"\0")]


def _inner_id(pid: int) -> int:
    (line,) = [row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("NSpid:")]
    return int(line.split()[-1])


def test_an_attached_client_sees_what_is_printed_and_speaks_to_the_program(node: Node) -> None:
    script = "while read -r line; do echo got $line; echo warned >&2; done; echo end"
    container = node.start(node.pod("cat"), ["sh", "-c", script], stdin=True, stdin_once=True)
    out, err, stdin = (attach(node, container, stream) for stream in ("stdout", "stderr", "stdin"))
    with out, err, stdin:
        stdin.sendall(b"one\ntwo\n")
        assert read_until(out, b"two\n") == b"got one\ngot two\n"
        stdin.shutdown(socket.SHUT_WR)
        assert (read_all(out), read_all(err)) == (b"end\n", b"warned\nwarned\n")
    assert node.ended(container).exit_code == 0
    assert "got one" in node.output(container)


def test_input_stays_open_for_the_next_client_unless_it_is_for_one(node: Node) -> None:
    container = node.start(node.pod("again"), ["sh", "-c", "read a; read b; echo $a $b"], stdin=True)
    for word in (b"first\n", b"second\n"):
        with attach(node, container, "stdin") as stdin:
            stdin.sendall(word)
            stdin.shutdown(socket.SHUT_WR)
            assert stdin.recv(1) == b""
    assert node.output(container) == "first second\n"


def test_much_goes_both_ways_without_loss(node: Node) -> None:
    container = node.start(node.pod("much"), ["cat"], stdin=True, stdin_once=True, log_path="")
    data = os.urandom(1024) * 8 * 1024
    with attach(node, container, "stdout") as out, attach(node, container, "stdin") as stdin:

        def send() -> None:
            stdin.sendall(data)
            stdin.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        assert read_all(out) == data
        thread.join()


def test_a_client_that_reads_nothing_does_not_stop_the_container(node: Node) -> None:
    script = "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo done"
    wait = "while ! [ -e /tmp/go ]; do sleep 0.01; done; "
    container = node.start(node.pod("stalled"), ["sh", "-c", wait + script])
    with attach(node, container, "stdout") as idle, attach(node, container, "stdout") as reader:
        node.runtime.ExecSync(node.api.ExecSyncRequest(container_id=container, cmd=["touch", "/tmp/go"]))
        assert len(read_all(reader)) == 20_000_006
        assert node.ended(container).exit_code == 0
        kept = read_all(idle)
    assert len(kept) < 4_000_000
    assert kept.endswith(b" bytes left out: they came faster than they were read here]\r\n")
    assert node.output(container).endswith("done\n")


def test_a_terminal_is_the_programs_own(node: Node) -> None:
    script = "tty; ps -o sid=,pgid=,tpgid= -p $$; echo $TERM; read line; echo got $line; stty size; exit 4"
    container = node.start(node.pod("tty"), ["sh", "-c", script], tty=True, stdin=True)
    with attach(node, container, "stdout") as out, attach(node, container, "stdin") as stdin:
        with attach(node, container, "resize") as resize:
            resize.sendall(b'{"width": 132, "height": 43}\n')
            resize.shutdown(socket.SHUT_WR)
            assert resize.recv(1) == b""
        stdin.sendall(b"word\r")
        shown = read_all(out).decode()
    assert "word\r\n" in shown
    assert shown.endswith("got word\r\n43 132\r\n")
    assert node.ended(container).exit_code == 4
    rows = [line.split(" ", 3) for line in Path(node.status(container).log_path).read_text().splitlines()]
    assert {row[1] for row in rows} == {"stdout"}
    printed = [row[3].strip() for row in rows]
    assert {"/dev/pts/0", "2       2       2", "xterm"} <= set(printed)


def test_a_terminal_belongs_to_the_containers_user(node: Node) -> None:
    security = {"run_as_user": {"value": 1000}, "run_as_group": {"value": 1000}}
    command = ["sh", "-c", "stat -c %u $(tty); echo direct > $(tty)"]
    container = node.start(node.pod("tty-user"), command, tty=True, linux={"security_context": security})
    assert node.output(container) == "1000\ndirect\n"


def test_ctrl_c_in_a_terminal_interrupts_the_program(node: Node) -> None:
    container = node.start(node.pod("interrupted"), ["sh", "-c", "echo ready; exec sleep 1000"], tty=True, stdin=True)
    log = Path(node.status(container).log_path)
    until(log.read_text, lambda text: "ready" in text, what="the program", seconds=PATIENCE, interval=0.002)
    with attach(node, container, "stdin") as stdin:
        stdin.sendall(b"\x03")
        assert node.ended(container).exit_code == 130


def test_a_program_that_cannot_be_run_in_a_terminal_is_a_start_error(node: Node) -> None:
    container = node.create(node.pod("tty-broken"), ["no-such-program"], tty=True)
    code, said = refusal(lambda: node.runtime.StartContainer(node.api.StartContainerRequest(container_id=container)))
    assert (code, node.status(container).reason) == (grpc.StatusCode.UNKNOWN, "StartError")
    assert "no-such-program" in said


def test_terminals_are_gone_with_their_container(node: Node) -> None:
    container = node.start(node.pod("tty-gone"), ["sleep", "1000"], tty=True)
    folder = node.folder / "state" / "containers" / container
    node.runtime.RemoveContainer(node.api.RemoveContainerRequest(container_id=container))
    assert not folder.exists()


def test_a_stream_that_is_not_there_is_closed_at_once(node: Node) -> None:
    with attach(node, "nobody", "stdout") as out, attach(node, "nobody", "wrong") as wrong:
        assert (read_all(out), read_all(wrong)) == (b"", b"")
