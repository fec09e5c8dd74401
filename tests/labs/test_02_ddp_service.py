"""The data service of lab 02 over real sockets: one connection for many requests, and what no application sees."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import data_service
from data_service import DataServer, main
from tests.labs.service_02_ddp import CALLER, SPEC, TOKEN, data_of, run, serving
from tests.patience import PATIENCE

POD = {"X-Run": "proof", "X-Uid": "uid-1", "X-Rank": "1", "X-Attempt": "0"}
GRADER = {"X-Token": TOKEN}
JOIN = {"node": "gpu-1", "pid": 7, "world": 2}


@pytest.fixture
def server() -> Iterator[DataServer]:
    """Listening, with the run proof whose turn ends before step 1."""
    with serving() as found:
        with connected(found) as grader:
            assert ask(grader, "PUT", "/control/runs/proof", {**SPEC, "until": 1}, GRADER) == (200, {})
        yield found


@contextlib.contextmanager
def connected(server: DataServer) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: object = None, headers: dict[str, str] = POD
) -> tuple[int, Any]:
    """Status, and the JSON or the bytes of the answer."""
    sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, sent, headers)
    answer = connection.getresponse()
    read = answer.read()
    is_json = answer.headers["content-type"] == "application/json"
    return answer.status, json.loads(read) if is_json else read


def test_a_run_over_one_connection(server: DataServer) -> None:
    data, weights = data_of(run().job, SPEC["data_seed"]), run().first_weights(CALLER)
    with connected(server) as pod:
        assert ask(pod, "POST", "/join", JOIN)[0] == 200
        own = pod.sock
        assert ask(pod, "GET", "/weights") == (200, weights)
        batch = {"epoch": 0, "step": 0, "micro": 0, "indices": [3, 1]}
        assert ask(pod, "POST", "/batch", batch) == (200, data.x[[3, 1]].tobytes() + data.y[[3, 1]].tobytes())
        assert ask(pod, "POST", "/batch", {**batch, "indices": []}) == (200, b"")
        assert ask(pod, "POST", "/tick", {"step": 0}) == (200, {})
        assert ask(pod, "POST", "/introduce", {"members": []}) == (200, {})
        assert ask(pod, "POST", "/report", {"step": 0, "loss": 1.0, "draw": 0.5}) == (200, {"weights": False})
        assert ask(pod, "POST", "/finish", weights) == (200, {})
        status, told = ask(pod, "GET", "/control/runs/proof/events?since=0", None, GRADER)
        assert ask(pod, "GET", "/control/runs/proof/weights?rank=1&step=finish", None, GRADER) == (200, weights)
        assert pod.sock is own is not None
    assert status == 200
    kinds = ["join", "batch", "batch", "tick", "introduce", "report", "finish"]
    assert [each["kind"] for each in told["events"]] == kinds
    assert {(each["ip"], each["uid"], each["rank"]) for each in told["events"]} == {("127.0.0.1", "uid-1", 1)}
    times = [each["t"] for each in told["events"]]
    assert sorted(times) == times
    assert times[-1] <= told["now"]


def test_a_turn_lets_go_who_waits_for_it(server: DataServer) -> None:
    found = []

    def wait() -> None:
        with connected(server) as pod:
            found.append(ask(pod, "POST", "/batch", {"epoch": 0, "step": 1, "micro": 0, "indices": [0]})[0])

    waiting = threading.Thread(target=wait)
    waiting.start()
    with connected(server) as grader:
        waiting.join(0.02)
        assert waiting.is_alive()
        status, given = ask(grader, "POST", "/control/runs/proof/turn", {"until": 2}, GRADER)
        assert (status, list(given)) == (200, ["t"])
    waiting.join(PATIENCE)
    assert found == [200]


@pytest.mark.parametrize(
    ("method", "path", "size", "most"), [("POST", "/batch", 2**20 + 1, 2**20), ("POST", "/finish", 593, 592)]
)
def test_a_body_that_is_too_large_is_not_read(server: DataServer, method: str, path: str, size: int, most: int) -> None:
    with connected(server) as pod:
        pod.putrequest(method, path)
        for name, value in {**POD, "content-length": str(size)}.items():
            pod.putheader(name, value)
        pod.endheaders()
        answer = pod.getresponse()
        said = f"the body has {size} bytes, where {most} are read at most"
        assert (answer.status, json.loads(answer.read())) == (413, {"error": said})
        assert answer.headers["connection"] == "close"
        status, told = ask(pod, "GET", "/control/runs/proof/events", None, GRADER)
    assert [(each["kind"], each["why"]) for each in told["events"]] == [("refused", said)]
    assert status == 200


@pytest.mark.parametrize(
    ("head", "status", "said"),
    [
        ("POST /tick HTTP/1.1\r\ntransfer-encoding: chunked", 411, "send its content-length instead"),
        ("POST /tick HTTP/1.1\r\ncontent-length: -1", 413, "the body has -1 bytes, where 1048576 are read at most"),
        ("DELETE /tick HTTP/1.1", 501, "Unsupported method ('DELETE')"),
        ("GET http://[ HTTP/1.1", 404, "nothing here answers GET 'http://['"),
        ("POST /tick HTTP/7", 400, "Bad request version ('HTTP/7')"),
        ("nonsense", 400, "Bad request syntax ('nonsense')"),
        ("GET /" + "x" * 70000 + " HTTP/1.1", 414, "URI Too Long"),
    ],
    ids=["chunks", "no length", "method", "address", "version", "no HTTP", "long"],
)
def test_what_is_no_request_is_refused_in_json_as_well(server: DataServer, head: str, status: int, said: str) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE) as pod:
        pod.sendall(f"{head}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(pod)
        answer.begin()
        assert answer.status == status
        assert said in json.loads(answer.read())["error"]


def test_an_address_has_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_service, "CONNECTIONS", 1)
    with serving() as server, connected(server) as pod:
        assert ask(pod, "GET", "/control/health") == (200, {})
        with connected(server) as another, pytest.raises(ConnectionError):
            ask(another, "GET", "/control/health")
        assert ask(pod, "GET", "/control/health") == (200, {})


def test_without_a_token_it_does_not_start() -> None:
    with pytest.raises(SystemExit) as stopped:
        main({})
    said = "data_service: CONTROL_TOKEN is not set; give it the secret that the grader says in X-Token"
    assert stopped.value.code == said
