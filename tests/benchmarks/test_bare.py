"""The loop that only waits and reads, against the stub, and against a server that ends."""

import socket
import sys
import threading
from pathlib import Path

import pytest

from benchmarks.peers import bare
from graders import arrivals, workload
from graders.plan import Plan, Target
from graders.process import Child
from tests.patience import PATIENCE

pytestmark = pytest.mark.alone

STREAMS = 4


def plan(port: int) -> Plan:
    requests = workload.completions(
        seed=1, count=400, ids=range(100, 8000), prompt_tokens=4, output_tokens=20, model="stub"
    )
    target = Target(host="127.0.0.1", port=port)
    return Plan(target=target, requests=requests, schedule=arrivals.closed(STREAMS), ramp=0.1, window=0.3)


def test_it_reads_answer_after_answer(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.graders.stub_server", "0.005", "0.002"]
    with Child(argv, log=tmp_path / "stub.log") as stub:
        reading = bare.measure(plan(int(stub.hear(PATIENCE) or 0)), tmp_path)
    assert STREAMS * 20 < reading.events <= 400 * 22  # of 400 answers, each with two events beside its tokens
    assert reading.cpu > 0.0
    assert reading.cost == pytest.approx(1e6 * reading.cpu / reading.events)
    assert [each.name for each in tmp_path.iterdir()] == ["stub.log"]


def test_it_says_that_a_server_closed(tmp_path: Path) -> None:
    def serve() -> None:
        for _ in range(STREAMS):
            server.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        closing = threading.Thread(target=serve, daemon=True)
        closing.start()
        with pytest.raises(RuntimeError) as caught:
            bare.measure(plan(server.getsockname()[1]), tmp_path)
        closing.join(PATIENCE)
    assert str(caught.value).startswith("the bare reader said nothing; it logged: Traceback")
    assert str(caught.value).rstrip().endswith(("the server closed a connection", "Connection reset by peer"))
