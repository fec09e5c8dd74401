"""What can happen to a connection, with real sockets: TLS and its refusals, each phase's time-out, a starved client."""

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from graders import arrivals, workers, workload
from graders.arrivals import Schedule
from graders.errors import HarnessError
from graders.floor import certificate
from graders.plan import Plan, Request, Target, Timeouts, Tls
from graders.process import Child
from graders.samples import Run
from graders.streaming import Asked, parse
from tests.conftest import command_of, processes_with
from tests.patience import PATIENCE

TOKENS = 15
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ONCE = Schedule(kind="constant", times=(0.0,))


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("wire"))


@contextlib.contextmanager
def null_server(folder: Path, *pem: Path) -> Iterator[int]:
    argv = [sys.executable, "-m", "graders.null_server", "0.004", *map(str, pem)]
    with Child(argv, log=folder / "null.log") as child:
        yield int(child.hear(PATIENCE) or 0)


@contextlib.contextmanager
def scripted(*said: bytes) -> Iterator[int]:
    """A server that says all of this, a piece per connection, whatever it is asked, and then keeps still."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as open_sockets:
        listener.settimeout(PATIENCE)

        def serve() -> None:
            for piece in said:
                connection = open_sockets.enter_context(listener.accept()[0])
                connection.recv(65536)
                connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def plan_for(port: int, schedule: Schedule, *, tls: Tls | None = None, count: int = 1, **more: Any) -> Plan:
    asked = workload.completions(
        seed=1, count=count, ids=range(100, 9000), prompt_tokens=8, output_tokens=TOKENS, model="m"
    )
    fields: dict[str, Any] = {"window": 0.3, "drain": 3.0, "seed": 1, **more}
    return Plan(target=Target(host="127.0.0.1", port=port, tls=tls), requests=asked, schedule=schedule, **fields)


def carry_out(plan: Plan, folder: Path, progress: Callable[[str], None] = lambda _: None) -> Run:
    plan.check()
    return workers.carry_out(plan, count=1, folder=folder, progress=progress)


def authority(pem: Path) -> str:
    text = pem.read_text()
    return text[text.index("-----BEGIN CERTIFICATE") :]


def test_answers_over_tls_are_measured_as_without(tmp_path: Path, pem: Path) -> None:
    with null_server(tmp_path, pem) as port:
        for tls in (Tls(authority=authority(pem)), Tls(verify=False, name="nobody")):
            run = carry_out(plan_for(port, arrivals.closed(4), tls=tls, count=200, window=1.0), tmp_path)
            assert run.wrong() == {}
            assert len(run.samples) >= 8
            late = [run.t0 + chunk.time - float(chunk.text) for each in run.answers for chunk in each.stream.chunks]
            assert min(late) > 0
            assert Run.decode(run.encode()) == run


@pytest.mark.parametrize("tls", [None, Tls(verify=False)])
def test_without_uvloop_the_client_measures_as_well_and_says_so(tmp_path: Path, pem: Path, tls: Tls | None) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError")
    with null_server(tmp_path, *([pem] if tls else [])) as port:
        run = workers.carry_out(
            plan_for(port, arrivals.closed(4), tls=tls, count=200, window=1.0),
            count=1,
            folder=tmp_path,
            enter=lambda argv: ["env", f"PYTHONPATH={tmp_path}", *argv],
        )
    assert (run.wrong(), [worker.uvloop for worker in run.workers]) == ({}, [False])
    assert len(run.samples) >= 8


def chunk(event: object) -> bytes:
    text = b"data: %s\n\n" % (event if isinstance(event, bytes) else msgspec.json.encode(event))
    return b"%x\r\n%s\r\n" % (len(text), text)


def test_a_chat_is_measured_and_an_error_inside_one_is_its_failure(tmp_path: Path) -> None:
    def said(finish: str | None = None, ids: list[int] | None = None, **delta: str) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "token_ids": ids}
        return chunk({"model": "m", "choices": [choice]})

    opening = (
        HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        + said(role="assistant", content="")
        + said(ids=[1], content="grüß")
    )
    usage = chunk({"model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
    whole = opening + said("length", ids=[2], content="dich") + usage + chunk(b"[DONE]") + b"0\r\n\r\n"
    broken = opening + chunk({"error": {"message": "out of memory", "code": 500}}) + b"0\r\n\r\n"
    asked = Request(body=b"{}", asked=Asked(tokens=2, chat=True, prompt_tokens=5, model="m"))
    with scripted(whole, broken) as port:
        target = Target(host="127.0.0.1", port=port, path="/v1/chat/completions")
        schedule = Schedule(kind="constant", times=(0.0, 0.05))
        run = carry_out(Plan(target=target, requests=(asked, asked), schedule=schedule, window=0.3), tmp_path)
    good, bad = run.answers
    assert (good.wrong, [each.text for each in good.stream.chunks]) == ((), ["grüß", "dich"])
    assert bad.wrong[0] == "the stream carries an error: out of memory"
    assert run.workers[0].connections == 1


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "GZIP"])
def test_a_compressed_answer_is_refused_by_the_name_of_its_encoding(tmp_path: Path, encoding: str) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {encoding}\r\n"
    stream = parse([(0.0, f"{head}content-length: 3\r\n\r\nabc".encode())])
    assert stream.faults == (f"the answer is compressed with {encoding.lower()}, which was not asked for",)


def test_a_certificate_that_is_not_trusted_is_a_failure_with_its_reason(tmp_path: Path, pem: Path) -> None:
    with null_server(tmp_path, pem) as port:
        wrong = [
            carry_out(plan_for(port, ONCE, tls=tls), tmp_path).wrong()
            for tls in (Tls(), Tls(authority=authority(pem), name="vllm.example"))
        ]
    assert wrong == [
        {"TLS handshake failed: self-signed certificate": 1},
        {
            "TLS handshake failed: Hostname mismatch, certificate is not valid for 'vllm.example'.": 1,
        },
    ]


def test_a_server_without_tls_is_named(tmp_path: Path) -> None:
    with scripted(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n") as port:
        run = carry_out(plan_for(port, ONCE, tls=Tls(verify=False)), tmp_path)
    assert run.wrong() == {"TLS handshake failed: WRONG_VERSION_NUMBER": 1}


@pytest.mark.parametrize(
    ("said", "limits", "failure"),
    [
        (b"", Timeouts(first_byte=0.2), "no byte after 0.2 s"),
        (HEAD, Timeouts(between_reads=0.2), "nothing more for 0.2 s"),
        (HEAD, Timeouts(total=0.2), "not complete after 0.2 s"),
        (HEAD + b"zz\r\n", Timeouts(total=0.2), None),
    ],
)
def test_each_phase_has_its_time_out(tmp_path: Path, said: bytes, limits: Timeouts, failure: str | None) -> None:
    with scripted(said) as port:
        run = carry_out(plan_for(port, ONCE, timeouts=limits), tmp_path)
    assert [each.failure for each in run.samples] == [failure]


def test_a_connection_that_does_not_come_about_times_out(tmp_path: Path) -> None:
    limits = Timeouts(connect=0.2)
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.enter_context(socket.create_connection(full.getsockname()))
        plan = plan_for(full.getsockname()[1], ONCE, timeouts=limits)
        assert [each.failure for each in carry_out(plan, tmp_path).samples] == ["not connected after 0.2 s"]
    with socket.create_server(("127.0.0.1", 0)) as mute:
        plan = plan_for(mute.getsockname()[1], ONCE, timeouts=limits, tls=Tls(verify=False))
        assert [each.failure for each in carry_out(plan, tmp_path).samples] == ["not connected after 0.2 s"]


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (Tls(authority="x", verify=False), "its TLS names an authority, and is told to verify nothing"),
        (Tls(authority="no certificate"), "its TLS authority is no PEM text of certificates"),
    ],
)
def test_a_plan_whose_tls_cannot_be_is_refused(tls: Tls, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        plan_for(1, ONCE, tls=tls).check()
    assert str(caught.value) == f"this load cannot be run: {said}; correct the plan"


def test_a_client_that_is_starved_says_so_and_another_does_not(tmp_path: Path) -> None:
    def starve(text: str) -> None:
        """Stops the worker for three quarters of the time, as a machine without a free core would."""
        if text.startswith("measuring"):
            (worker,) = workers_of(tmp_path)
            for _ in range(10):
                os.kill(worker, signal.SIGSTOP)
                time.sleep(0.045)
                os.kill(worker, signal.SIGCONT)
                time.sleep(0.015)

    with null_server(tmp_path) as port:
        plan = plan_for(port, arrivals.closed(2), count=60, window=0.6)
        starved, honest = carry_out(plan, tmp_path, starve), carry_out(plan, tmp_path)
    said = starved.client_limits(ttft=0.2, tpot=0.02)
    # On a busy machine it also waited, which it then names as the reason.
    late = "1 % of the looks at the sockets were [0-9.]+ ms late or more, where 10.0 ms are allowed; "
    why = "(it waited for a core in [0-9]+ % of the window: free cores for it|free cores for it, or use fewer streams)"
    assert re.fullmatch(late + why, said[-1])
    assert honest.client_limits(ttft=2.0, tpot=0.2) == []
    assert all(worker.waited is not None and worker.waited >= 0 for worker in honest.workers)


def workers_of(folder: Path) -> list[int]:
    """Load workers whose job lies in the folder."""
    return [pid for pid in processes_with(str(folder)) if b"graders.client" in command_of(pid).split(b"\0")]
