"""A small run of lab 02, and its data service: without sockets and with a clock that tests move, or at a real port.

Place: the tests of the service. Limits: without sockets what waits, waits in no time: `Turns` moves the clock instead.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Any

import ddp_data
from data_service import DataServer, make_server
from ddp_api import Api, Reply, Request
from ddp_runs import Caller, Run, Runs
from ddp_spec import Job, RunSpec

TOKEN = "the grader's"
JOB: dict[str, Any] = {
    "samples": 50,
    "features": 6,
    "outputs": 3,
    "epochs": 2,
    "batch": 12,
    "micro_batches": 2,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "dtype": "float64",
    "seed": 17,
    "timeout_seconds": 10,
    "patience_seconds": 5,
    "checkpoint_every": 3,
    "checkpoint_folder": "/checkpoints",
    "hidden": [5, 4],
    "device": "cpu",
    "backend": "gloo",
}
SPEC: dict[str, Any] = {"job": JOB, "data_seed": 3, "weights_seed": 4}
CALLER = Caller(ip="10.0.0.1", uid="uid-1", rank=1, attempt=0)


def run(name: str = "proof", **more: Any) -> Run:
    """A run by itself."""
    spec = RunSpec.read({**SPEC, **more})
    return Run(name, spec, data_of(spec.job, spec.data_seed))


def data_of(job: Job, seed: int) -> ddp_data.Data:
    return ddp_data.make_data(seed, job.samples, job.features, job.outputs, job.dtype)


@contextmanager
def serving() -> Iterator[DataServer]:
    """The service at a port of this machine."""
    with make_server(("127.0.0.1", 0), TOKEN) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield found
        finally:
            found.shutdown()
            thread.join()


class Clock:
    """Seconds, as tests say."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Turns(Condition):
    """Waits in no time; `meanwhile` is what happens during the next wait."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.waited: list[float] = []
        self.meanwhile: Callable[[], object] | None = None

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waited.append(timeout)
        if self.meanwhile:
            happens, self.meanwhile = self.meanwhile, None
            happens()
            return True
        self.clock.now += timeout
        return False


class Service:
    """The service, asked as pods and the grader ask it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        tickets = iter(f"{number:016x}" for number in range(1, 1000))
        self.api = Api(Runs(lambda: next(tickets)), token=TOKEN, clock=self.clock, turned=self.turns)

    def ask(self, method: str, target: str, body: object = None, *, run: str = "proof", **headers: str) -> Reply:
        """One request of rank 1; header names with _ for -, and an empty one is left out."""
        said = {"x-run": run, "x-uid": "uid-1", "x-rank": "1", "x-attempt": "0"}
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        known = {name: value for name, value in said.items() if value}
        return self.api.answer(Request(method, target, known, "10.0.0.1", sent))

    def told(self, method: str, target: str, body: object = None, **headers: str) -> Any:
        """The JSON of an answer that must be 200."""
        answer = self.ask(method, target, body, **headers)
        assert isinstance(answer.body, bytes)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def control(self, method: str, target: str, body: object = None) -> Any:
        """The same as the grader, who is in no run."""
        return self.told(method, f"/control/{target}", body, run="", x_uid="", x_token=TOKEN)

    def events(self, name: str = "proof", since: int = 0) -> list[dict[str, Any]]:
        found = self.control("GET", f"runs/{name}/events?since={since}")["events"]
        assert isinstance(found, list)
        return found
