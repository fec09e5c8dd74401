"""Streams: exec, attach, cp and port-forward, by kubectl and by the Python client."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes import client
from kubernetes.stream import stream

from clusters.process import Child, CommandFailed, run
from clusters.wait import until
from tests.contract.subject import PYTHON, Object, Space, pod, python
from tests.patience import PATIENCE

WEB = """
import http.server, signal
signal.signal(signal.SIGTERM, lambda *_: exit())
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
"""


@pytest.fixture(scope="module", autouse=True)
def started(space: Space) -> None:
    """A pod with a server and a second container, and one that answers each line it is given."""
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    made = python("web", WEB, container={"readinessProbe": probe, "image": PYTHON})
    made["spec"]["containers"].append({"name": "second", "image": PYTHON, "command": ["sleep", "600"]})
    echo = pod(
        "echo", "while read line; do echo got $line; done; echo end", container={"stdin": True, "stdinOnce": True}
    )
    space.create(made, echo)
    space.ready("web")
    space.phase("echo", "Running")


def test_exec_passes_output_input_and_the_exit_code(space: Space) -> None:
    assert space.kubectl("exec", "web", "-c", "main", "--", "echo", "two words") == "two words\n"
    assert space.kubectl("exec", "-i", "web", "-c", "second", "--", "tr", "a-z", "A-Z", stdin="loud") == "LOUD"
    with pytest.raises(CommandFailed) as caught:
        space.kubectl("exec", "web", "-c", "main", "--", "sh", "-c", "echo broken >&2; exit 42")
    assert caught.value.status == 42
    assert caught.value.output.splitlines()[0] == "broken"


def test_a_program_that_is_not_there_is_told_by_name(space: Space) -> None:
    with pytest.raises(CommandFailed) as caught:
        space.kubectl("exec", "web", "-c", "main", "--", "no-such-program")
    assert "no-such-program" in caught.value.output


def test_large_output_comes_whole(space: Space) -> None:
    code = "print('x' * 5_000_000, end='')"
    assert len(space.kubectl("exec", "web", "-c", "main", "--", "python3", "-c", code)) == 5_000_000


def test_the_python_client_runs_commands(space: Space) -> None:
    core = client.CoreV1Api(client.ApiClient(space.subject.api.configuration))  # the stream API changes its client
    options: Object = {"container": "main", "stderr": True, "stdout": True, "stdin": True, "tty": False}
    opened = stream(
        core.connect_get_namespaced_pod_exec,
        "web",
        space.name,
        command=["sh", "-c", "read line; echo got $line; echo wrong >&2; exit 3"],
        _preload_content=False,
        **options,
    )
    opened.write_stdin("this\n")
    opened.run_forever(timeout=PATIENCE)
    assert (opened.read_stdout(), opened.read_stderr(), opened.returncode) == ("got this\n", "wrong\n", 3)
    opened.sock.shutdown()  # its own close() leaves the socket open once the other side has closed
    core.api_client.close()


def test_attach_speaks_with_the_running_program(space: Space) -> None:
    said = space.kubectl("attach", "-i", "--quiet", "echo", stdin="one\ntwo\n")
    assert [line for line in said.splitlines() if line.startswith("got")] == ["got one", "got two"]


def test_cp_takes_folders_there_and_back(space: Space, tmp_path: Path) -> None:
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "there" / "deep" / "file").write_bytes(bytes(range(256)) * 1000)
    space.kubectl("cp", "--no-preserve", str(tmp_path / "there"), "web:/tmp/there", "-c", "main")
    space.kubectl("cp", "web:/tmp/there", str(tmp_path / "back"), "-c", "main")
    assert (tmp_path / "back" / "deep" / "file").read_bytes() == bytes(range(256)) * 1000


@contextmanager
def forwarded(space: Space, tmp_path: Path, target: str) -> Iterator[int]:
    """The local port behind which port 8080 of a target answers."""
    log = tmp_path / "forward.log"
    child = Child(space.argv("port-forward", target, ":8080"), log=log)
    try:
        said = until(log.read_text, lambda text: "Forwarding from 127" in text, what="the port", seconds=PATIENCE)
        yield int(said.partition("127.0.0.1:")[2].split()[0])
    finally:
        child.stop()


def test_port_forward_carries_many_connections_at_once(space: Space, tmp_path: Path) -> None:
    with forwarded(space, tmp_path, "pod/web") as port:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        answers = [opener.open(f"http://127.0.0.1:{port}/{number}", timeout=PATIENCE) for number in range(8)]
        assert [answer.read().decode() for answer in answers] == [f"/{number}" for number in range(8)]
        for answer in answers:
            answer.close()


def test_the_api_server_is_a_proxy_to_pods(space: Space) -> None:
    path = f"/api/v1/namespaces/{space.name}/pods/web:8080/proxy/through"
    assert space.kubectl("get", "--raw", path) == "/through"


def test_run_shows_what_its_pod_prints(space: Space) -> None:
    override = json.dumps({"spec": {"terminationGracePeriodSeconds": 0}})
    words = ("run", "once", "--image=busybox:1.36", "--restart=Never", "--attach", "--rm", "--quiet")
    said = run(space.argv(*words, f"--overrides={override}", "--", "echo", "hello"), seconds=PATIENCE)
    assert said.splitlines()[0] == "hello"
