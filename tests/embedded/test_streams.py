"""exec, attach, cp and port-forward with the real clients: kubectl, with and without a terminal, and Python's."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kubernetes
import kubernetes.stream
import pytest

from clusters.embedded.backend import EmbeddedCluster
from clusters.process import descendants
from clusters.wait import until
from tests.conftest import Kubectl, command_of
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster
LARGE = os.urandom(1024).replace(b"\0", b"x") * 8 * 1024
ECHO = """
import socket, threading
server = socket.create_server(("127.0.0.1", 7))

def answer(connection):
    data = b""
    while not data.endswith(b"\\0") and (piece := connection.recv(65536)):
        data += piece
    connection.sendall(data[::-1])
    connection.close()

while True:
    threading.Thread(target=answer, args=server.accept()[:1]).start()
"""


def pod(name: str, *command: str, **container: Any) -> str:
    main = {"name": "main", "image": "python:3.12", "command": list(command), **container}
    spec = {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "containers": [main]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


@pytest.fixture(scope="module")
def target(kubectl: Kubectl) -> Iterator[str]:
    """A pod with a server on port 7 of its loopback, which sends back reversed what comes up to a zero or the end."""
    kubectl("apply", "-f", "-", stdin=pod("target", "/usr/bin/python3", "-c", ECHO))
    kubectl.phase("target", "Running")
    yield "target"
    kubectl("delete", "pod", "target", "--wait=false")


def of_node(embedded: EmbeddedCluster, kubectl: Kubectl, target: str, what: str) -> int:
    """Process id of the `streaming` helper, or the runtime (`clusters.embedded.node`), of the node of the target."""
    node = kubectl.get("pod", target)["spec"]["nodeName"]
    marks = (
        f"/{what}\0".encode(),
        f"/{node}.control\0".encode(),
        f"\0{what}\0".encode(),
        f"/{node}/node.json\0".encode(),
    )
    found = []
    for pid in descendants(json.loads((embedded.kubeconfig.parent / "cluster.json").read_text())["pid"]):
        command = command_of(pid)
        found += [pid] * (all(mark in command for mark in marks[:2]) or all(mark in command for mark in marks[2:]))
    (process,) = found
    return process


def piped(kubectl: Kubectl, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*kubectl.argv, *words], input=data, capture_output=True, timeout=PATIENCE)


class Terminal:
    """kubectl in a terminal of 100 columns and 30 rows."""

    def __init__(self, kubectl: Kubectl, *words: str) -> None:
        self._outer, inner = pty.openpty()
        self._set_size(100, 30)
        argv = [*kubectl.argv, *words]
        self.process = subprocess.Popen(argv, stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
        os.close(inner)
        self.shown = b""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._outer)

    def _set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self._outer, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def resize(self, width: int, height: int) -> None:
        self._set_size(width, height)
        self.process.send_signal(signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self._outer, text.encode())

    def until(self, words: str) -> None:
        """Reads until the words are on the screen after what was read before."""
        self.shown = b""
        while words.encode() not in self.shown:
            assert select.select([self._outer], [], [], 20)[0], f"{words!r} did not come in 20 s, but {self.shown!r}"
            try:
                piece = os.read(self._outer, 65536)
            except OSError:  # EIO: it closed the terminal
                piece = b""
            assert piece, f"kubectl ended before {words!r} came, after {self.shown!r}"
            self.shown += piece

    def status(self) -> int:
        """Exit status of kubectl; reads what it still prints."""
        with contextlib.suppress(OSError):  # EIO: it closed the terminal
            while piece := os.read(self._outer, 65536):
                self.shown += piece
        return self.process.wait(PATIENCE)


def test_a_command_tells_its_output_and_its_status(kubectl: Kubectl, target: str) -> None:
    done = piped(kubectl, "exec", target, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, b"out\n"), done.stderr
    assert done.stderr.splitlines() == [b"err", b"command terminated with exit code 7"]
    assert piped(kubectl, "exec", target, "--", "sh", "-c", "kill -9 $$").returncode == 137
    missing = piped(kubectl, "exec", target, "--", "no-such-program")
    assert missing.returncode == 127
    assert b"no-such-program" in missing.stderr


def test_much_goes_through_a_command_both_ways(kubectl: Kubectl, target: str) -> None:
    done = piped(kubectl, "exec", "-i", target, "--", "cat", data=LARGE)
    assert (done.returncode, done.stdout == LARGE) == (0, True)


def test_a_command_outlives_its_input_and_may_leave_some_of_it(kubectl: Kubectl, target: str) -> None:
    done = piped(kubectl, "exec", "-i", target, "--", "sh", "-c", "cat; sleep 0.2; echo later; exit 2", data=b"all\n")
    assert (done.returncode, done.stdout) == (2, b"all\nlater\n")
    done = piped(kubectl, "exec", "-i", target, "--", "head", "-n", "1", data=b"one\ntwo\n")
    assert (done.returncode, done.stdout) == (0, b"one\n")


def test_a_shell_in_a_terminal(kubectl: Kubectl, target: str) -> None:
    with Terminal(kubectl, "exec", "-it", target, "--", "sh") as terminal:
        terminal.until("# ")
        terminal.type("tty; stty size; echo $TERM\r")
        terminal.until("xterm\r\n")
        assert terminal.shown.startswith(b"tty; stty size; echo $TERM\r\n/dev/pts/0\r\n30 100\r\nxterm\r\n")
        terminal.resize(132, 43)
        terminal.type("until [ \"$(stty size)\" = '43 132' ]; do :; done; echo re''sized\r")
        terminal.until("resized\r\n")
        terminal.type("sh -c 'echo sleep''ing; exec sleep 1000'\r")
        terminal.until("sleeping\r\n")  # not earlier: dash drops an interrupt that comes while it starts a program
        terminal.type("\x03")
        terminal.until("# ")
        terminal.type("echo status $?; exit 6\r")
        terminal.until("status 130\r\n")
        assert terminal.status() == 6


@pytest.mark.parametrize("how", ["-i", "-it"])
def test_a_command_ends_when_its_client_is_gone(kubectl: Kubectl, target: str, how: str) -> None:
    seconds = "98761" if how == "-i" else "98762"
    with Terminal(kubectl, "exec", how, target, "--", "sh", "-c", f"echo ready; exec sleep {seconds}") as terminal:
        terminal.until("ready")

    def sleeping() -> bytes:
        return piped(kubectl, "exec", target, "--", "ps", "-eo", "args").stdout

    assert seconds.encode() not in until(
        sleeping, lambda shown: seconds.encode() not in shown, what="the command's end", seconds=PATIENCE, interval=0.05
    )


def test_hundreds_of_commands_leave_nothing_behind(embedded: EmbeddedCluster, kubectl: Kubectl, target: str) -> None:
    def run(number: int) -> int:
        return piped(kubectl, "exec", target, "--", "sh", "-c", f"exit {number % 7}").returncode

    runtime = of_node(embedded, kubectl, target, "clusters.embedded.node")

    def held() -> tuple[int, int]:
        return len(descendants(runtime)), len(list(Path(f"/proc/{runtime}/fd").iterdir()))

    assert run(0) == 0
    before = held()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(100))) == [number % 7 for number in range(100)]
    until(held, lambda now: now[0] <= before[0] and now[1] <= before[1] + 2, what="their end", seconds=PATIENCE)


def test_attach_shows_and_speaks(kubectl: Kubectl) -> None:
    script = "while read -r line; do echo got $line; echo warned >&2; done; echo end"
    kubectl("apply", "-f", "-", stdin=pod("listens", "sh", "-c", script, stdin=True, stdinOnce=True))
    kubectl.phase("listens", "Running")
    done = piped(kubectl, "attach", "-i", "listens", data=b"one\ntwo\n")
    assert (done.returncode, done.stdout) == (0, b"got one\ngot two\nend\n")
    assert b"warned\nwarned\n" in done.stderr
    kubectl.phase("listens", "Succeeded")
    assert sorted(kubectl("logs", "listens").splitlines()) == ["end", "got one", "got two", "warned", "warned"]
    refused = piped(kubectl, "attach", "listens")
    assert refused.returncode == 1
    assert b"cannot attach a container in a completed pod; current phase is Succeeded" in refused.stderr
    kubectl("delete", "pod", "listens", "--wait=false")


def test_run_gives_a_container_its_input(kubectl: Kubectl) -> None:
    done = piped(kubectl, "run", "-i", "--rm", "--quiet", "pipe", "--image=busybox", "--restart=Never", "--", "cat")
    assert (done.returncode, done.stdout) == (0, b"")
    words = ("run", "-i", "--rm", "--quiet", "piped", "--image=busybox", "--restart=Never", "--", "cat")
    done = piped(kubectl, *words, data=LARGE)
    assert (done.returncode, done.stdout == LARGE) == (0, True)


def test_run_in_a_terminal(kubectl: Kubectl) -> None:
    words = ("run", "-it", "--rm", "shell", "--image=busybox", "--restart=Never", "--", "sh")
    with Terminal(kubectl, *words) as terminal:
        terminal.until("try pressing enter.")
        terminal.type("until [ \"$(stty size)\" = '30 100' ]; do :; done; tty\r")
        terminal.until("/dev/pts/0\r\n")
        terminal.type("exit 5\r")
        assert terminal.status() == 5
    assert b'pod "shell" deleted' in terminal.shown


def test_files_are_copied_both_ways(kubectl: Kubectl, embedded: EmbeddedCluster, target: str, tmp_path: Path) -> None:
    owners = () if embedded.traits.users == "real" else ("--no-preserve",)
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "large").write_bytes(LARGE)
    (tmp_path / "tree" / "inner" / "script").write_text("#!/bin/sh\n")
    (tmp_path / "tree" / "inner" / "script").chmod(0o755)
    kubectl("cp", *owners, str(tmp_path / "tree"), f"{target}:/tmp/tree")
    kubectl("cp", f"{target}:/tmp/tree", str(tmp_path / "back"))
    assert (tmp_path / "back" / "large").read_bytes() == LARGE
    assert (tmp_path / "back" / "inner" / "script").read_text() == "#!/bin/sh\n"
    assert kubectl("exec", target, "--", "stat", "-c", "%a", "/tmp/tree/inner/script") == "755\n"


@contextlib.contextmanager
def forwarded(kubectl: Kubectl, target: str, port: int) -> Iterator[int]:
    """The port of 127.0.0.1 that leads to a pod's while the block runs."""
    words = [*kubectl.argv, "port-forward", f"pod/{target}", "--address=127.0.0.1", f":{port}"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process, contextlib.closing(process.stdout):
        said = process.stdout.readline()
        assert said.startswith("Forwarding from 127.0.0.1:"), said
        try:
            yield int(said.split(":")[1].split()[0])
        finally:
            process.kill()


def reversed_by(port: int, data: bytes) -> bytes:
    """What the target answers to data whose end is told by closing one half of the connection."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)


def test_many_connections_are_forwarded_at_once(kubectl: Kubectl, target: str) -> None:
    with forwarded(kubectl, target, 7) as port, ThreadPoolExecutor(40) as pool:
        wanted = [f"connection {number}".encode() for number in range(40)]
        assert list(pool.map(lambda data: reversed_by(port, data), wanted)) == [data[::-1] for data in wanted]
        assert reversed_by(port, LARGE) == LARGE[::-1]


def test_a_port_that_nobody_listens_on_is_closed_at_once(kubectl: Kubectl, target: str) -> None:
    with (
        forwarded(kubectl, target, 8) as port,
        socket.create_connection(("127.0.0.1", port), 20) as connection,
        contextlib.suppress(ConnectionResetError),
    ):
        assert connection.recv(1) == b""


@pytest.fixture
def core(embedded: EmbeddedCluster) -> Iterator[Any]:
    """The Python client."""
    client = kubernetes.config.new_client_from_config(str(embedded.kubeconfig))
    yield kubernetes.client.CoreV1Api(client)
    client.close()


def test_the_python_client_runs_a_command(core: Any, target: str) -> None:
    command = ["sh", "-c", "read line; echo got $line; echo err >&2; exit 3"]
    wishes = {"stdin": True, "stdout": True, "stderr": True, "tty": False, "_preload_content": False}
    call = core.connect_get_namespaced_pod_exec
    answer = kubernetes.stream.stream(call, target, "default", command=command, **wishes)
    answer.write_stdin("word\n")
    answer.run_forever(timeout=PATIENCE)
    assert (answer.read_stdout(), answer.read_stderr(), answer.returncode) == ("got word\n", "err\n", 3)
    answer.sock.shutdown()  # its own close() leaves the socket open once the other side has closed


def test_the_python_client_forwards_a_port(core: Any, target: str) -> None:
    call = core.connect_get_namespaced_pod_portforward
    forward = kubernetes.stream.portforward(call, target, "default", ports="7")
    with contextlib.closing(forward.socket(7)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(b"word\0")  # this client cannot close one half
        assert connection.recv(99) == b"\0drow"
    until(lambda: forward.connected, lambda connected: not connected, what="the end of forwarding", seconds=PATIENCE)
    forward.websocket.shutdown()


def test_debug_looks_into_a_running_container(kubectl: Kubectl, target: str) -> None:
    words = ("debug", "-it", target, "--image=busybox", "--target=main", "--container=debugger", "--", "sh")
    with Terminal(kubectl, *words) as terminal:
        terminal.until("try pressing enter.")
        terminal.type("grep -c create_server /proc/2/cmdline; readlink /proc/2/exe; kill -0 2 && echo al''lowed\r")
        terminal.until("allowed\r\n")
        assert b"/usr/bin/python3" in terminal.shown
        terminal.type("exit 9\r")
        terminal.status()
    ended = kubectl.wait_for(
        lambda: kubectl.get("pod", target)["status"]["ephemeralContainerStatuses"][0]["state"],
        lambda state: "terminated" in state,
        "the debugger's end",
    )
    assert ended["terminated"]["exitCode"] == 9
    assert kubectl.get("pod", target)["status"]["phase"] == "Running"


def test_debug_of_a_node_is_refused_with_a_sentence(kubectl: Kubectl) -> None:
    said = kubectl("debug", "node/system", "--image=busybox", "--", "true")
    name = said.partition("debugging pod ")[2].split()[0]
    refused = kubectl.wait_for(
        lambda: kubectl("get", "events", f"--field-selector=involvedObject.name={name}", "-o", "jsonpath={..message}"),
        lambda events: "asks for" in events,
        "the refusal",
    )
    assert "asks for hostPID, which the embedded cluster does not offer; leave it out or use --cluster kind" in refused
    kubectl("delete", "pod", name, "--wait=false")


def test_a_helper_that_was_killed_is_back(embedded: EmbeddedCluster, kubectl: Kubectl, target: str) -> None:
    helper = of_node(embedded, kubectl, target, "streaming")
    os.kill(helper, signal.SIGKILL)
    assert piped(kubectl, "exec", target, "--", "echo", "back").stdout == b"back\n"
