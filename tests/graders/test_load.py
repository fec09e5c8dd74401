"""The load generator against a stub server whose truth is known; each liar is named, each failure is a sample."""

import math
import os
import signal
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusters.wait import until
from graders import arrivals, load, workers, workload
from graders.arrivals import Schedule
from graders.errors import HarnessError, InfrastructureError
from graders.lengths import Fixed, Uniform
from graders.plan import Plan, Request, Target, Timeouts, encode_request
from graders.process import Child
from graders.prompts import Prefixes, Sessions, Workload
from graders.record import Record
from graders.samples import FORMAT, Run
from graders.streaming import Asked
from tests.conftest import command_of, processes_with
from tests.patience import PATIENCE

pytestmark = pytest.mark.alone

TTFT, TPOT, TOKENS = 0.02, 0.005, 32
MOST = max(0.001, 0.02 * TTFT)  # seconds that a run may be wrong by: 1 ms or 2 %
STILL = 0.3  # seconds that a server stands still
RUNS = 5  # a machine that stands still spoils one run, a wrong generator all
COMPLETIONS = workload.Completions(model="stub", ids=range(100, 8000))
CHAT = workload.Chat(model="stub", words=[f"w{number}" for number in range(200)])
LIES = {
    "inflated_usage": ["usage says 3200 tokens, the stream carried 32"],
    "stops_early": [
        "it finished for 'stop'; with ignore_eos only 'length' ends an answer",
        "32 tokens were asked for, 16 came",
    ],
    "no_done": ["the stream ended without data: [DONE]"],
    "error_inside": [
        "the stream carries an error: CUDA out of memory",
        "no finish_reason came, so the answer was cut off",
        "no usage came, though stream_options.include_usage asked for it",
        "32 tokens were asked for, 3 came",
    ],
    "wrong_model": ["the model 'other' answered, 'stub' was asked"],
    "cut": ["connection closed"],
    "refused": ["the answer is HTTP 503, not 200: no healthy replica"],
    "silent": ["no byte after 0.5 s"],
    "honest": [],
}


class Stub:
    """A stub server, and what it says that it did."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.ports: dict[str, int] = msgspec.json.decode(child.hear(PATIENCE) or "{}")
        self.target = self.liar("honest")

    def liar(self, name: str) -> Target:
        return Target(host="127.0.0.1", port=self.ports[name])

    def truth(self) -> dict[str, Any]:
        self.child.tell("truth")
        told: dict[str, Any] = msgspec.json.decode(self.child.hear(PATIENCE) or "{}")
        return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("load")


@pytest.fixture(scope="module")
def stub(folder: Path) -> Iterator[Stub]:
    argv = [sys.executable, "-m", "tests.graders.liars", str(TTFT), str(TPOT)]
    with Child(argv, log=folder / "stub.log") as child:
        yield Stub(child)


def requests(count: int, seed: int = 1, tokens: int = TOKENS, **extra: object) -> tuple[Request, ...]:
    return workload.completions(
        seed=seed, count=count, ids=range(100, 9000), prompt_tokens=8, output_tokens=tokens, model="stub", extra=extra
    )


def plan_for(target: Target, schedule: Schedule, asked: tuple[Request, ...], **more: Any) -> Plan:
    fields: dict[str, Any] = {"window": 0.3, "drain": 3.0, "seed": 1, **more}
    return Plan(target=target, requests=asked, schedule=schedule, **fields)


def errors_against_truth(run: Run, truth: dict[str, Any]) -> tuple[list[float], list[float]]:
    """TTFT from sending and TPOT of each measured answer, minus what the stub did."""
    ttft, tpot = [], []
    for each in run.measured:
        times = [time - run.t0 for time, _ in truth[f"{run.seed}-{each.sample.index}"]["writes"]]
        assert each.sample.sent is not None
        assert each.tpot is not None
        ttft.append(each.ttft_from_sent - (times[0] - each.sample.sent))
        tpot.append(each.tpot - (times[-1] - times[0]) / (len(times) - 1))
    return ttft, tpot


@pytest.mark.parametrize("streams", [1, 16])
def test_the_truth_is_recovered_at_1_and_16_streams(stub: Stub, folder: Path, streams: int) -> None:
    told: list[tuple[float, float, float]] = []  # of each run: wrong by how many seconds of TTFT and TPOT, and tokens
    for seed in range(streams, streams + RUNS):
        plan = plan_for(stub.target, arrivals.closed(streams), requests(streams * 10, seed=seed), seed=seed, ramp=0.1)
        run = load.run(plan, folder=folder)
        assert run.wrong() == {}
        assert len(run.samples) >= 2 * streams
        truth = stub.truth()
        ttft, tpot = errors_against_truth(run, truth)
        written = [time - run.t0 for each in truth.values() for time, _ in each["writes"]]
        inside = sum(plan.ramp <= time < plan.window_end for time in written)
        told.append((statistics.median(ttft), statistics.median(tpot), run.tokens_in_window() - inside))
        if all(abs(wrong) <= most for wrong, most in zip(told[-1], (MOST, MOST, max(2, 0.02 * inside)), strict=True)):
            break
    else:
        pytest.fail(f"in none of {RUNS} runs: {told}")
    assert list(folder.glob("load-*")) == []


def test_open_arrivals_are_sent_when_planned_never_before(stub: Stub, folder: Path) -> None:
    schedule = arrivals.poisson(60, 0.4, seed=5)
    run = load.run(plan_for(stub.target, schedule, requests(len(schedule.times)), window=0.4), folder=folder, workers=2)
    assert run.wrong() == {}
    assert [each.index for each in run.samples] == list(range(len(schedule.times)))
    assert [each.planned for each in run.samples] == list(schedule.times)
    assert all(each.started >= each.planned for each in run.samples)
    assert all(each.sent is not None and each.sent >= each.started for each in run.samples)
    for answer in run.answers:
        late = answer.sample.sent - answer.sample.planned  # type: ignore[operator]  # asserted above
        assert answer.ttft - answer.ttft_from_sent == pytest.approx(late)
    assert [worker.worker for worker in run.workers] == [0, 1]
    assert run.figures.planned_rate == run.figures.achieved_rate == len(schedule.times) / 0.4


def test_a_server_that_stands_still_delays_no_sending_and_its_wait_is_in_the_latencies(
    stub: Stub, folder: Path
) -> None:
    still: list[tuple[float, float]] = []  # from when to when the stub surely stood still

    def stand_still(text: str) -> None:
        if text.startswith("measuring"):
            os.kill(stub.child.pid, signal.SIGSTOP)
            try:
                until(stopped, bool, what="the stub to stand still", seconds=PATIENCE, interval=0.001)
                begin = time.monotonic()
                time.sleep(STILL)
                still.append((begin, time.monotonic()))
            finally:
                os.kill(stub.child.pid, signal.SIGCONT)

    def stopped() -> object:
        return os.waitid(os.P_PID, stub.child.pid, os.WSTOPPED | os.WNOHANG)

    told: list[tuple[int, float]] = []  # of each run: requests planned in that time, and seconds of the latest sending
    for seed in range(90, 90 + RUNS):
        schedule = arrivals.poisson(60, 1.0, seed=seed)
        # Of one token, as several that come at once after a stand-still are a burst.
        asked = requests(len(schedule.times), seed=seed, tokens=1)
        plan = plan_for(stub.target, schedule, asked, ramp=0.2, window=0.8, drain=PATIENCE, seed=seed)
        run = load.run(plan, folder=folder, progress=stand_still, workers=2)
        assert run.wrong() == {}
        truth = stub.truth()
        begin, end = (moment - run.t0 for moment in still[-1])
        held = [each for each in run.answers if begin <= each.sample.planned < end]
        assert all(each.ttft >= end - each.sample.planned for each in held)
        sent = [max(each.sample.sent or 0, truth[f"{seed}-{each.sample.index}"]["received"] - run.t0) for each in held]
        late = [at - each.sample.planned for at, each in zip(sent, held, strict=True)]
        told.append((len(held), max(late, default=math.inf)))
        if len(held) >= 5 and max(late) <= STILL / 3:
            break
    else:
        pytest.fail(f"in none of {RUNS} runs: {told}")


@pytest.mark.parametrize("form", [COMPLETIONS, CHAT])
def test_a_mixture_is_sent_as_built_and_answered_at_its_lengths(stub: Stub, folder: Path, form: workload.Form) -> None:
    mixture = [
        Workload(name="alone", prompt=Uniform(4, 9), output=Uniform(2, 6)),
        Workload(name="talks", prompt=Fixed(4), output=Fixed(3), sessions=Sessions(Fixed(3), live=2)),
        Workload(name="alike", prompt=Fixed(4), output=Fixed(2), prefixes=Prefixes(groups=2, tokens=16)),
    ]
    schedule = arrivals.ramp(20, 100, 0.4, seed=3)
    asked = workload.build(form, mixture, seed=3, count=len(schedule.times))
    path = "/v1/chat/completions" if form is CHAT else "/v1/completions"
    target = msgspec.structs.replace(stub.target, path=path)
    run = load.run(plan_for(target, schedule, asked, window=0.4, seed=3), folder=folder)
    assert run.incomplete == ()
    assert [each.stream.tokens for each in run.answers] == [each.asked.tokens for each in asked]
    assert [each.sample.planned for each in run.answers] == list(schedule.times)


def test_every_liar_is_named_and_the_honest_are_not(stub: Stub, folder: Path) -> None:
    asked = tuple(requests(1, seed=number, stub=lie)[0] for number, lie in enumerate(LIES))
    limits = Timeouts(first_byte=0.5)
    run = load.run(plan_for(stub.target, arrivals.closed(len(LIES)), asked, timeouts=limits), folder=folder)
    assert {lie: list(answer.wrong) for lie, answer in zip(LIES, run.answers, strict=True)} == LIES
    assert [answer.ttft for answer in run.answers if not answer.good] == [math.inf] * (len(LIES) - 1)


def test_tokens_that_come_early_or_in_a_burst_are_named(stub: Stub, folder: Path) -> None:
    asked = (*requests(1, seed=1, stub="empty_first_chunk"), *requests(1, seed=2, stub="end_burst"))
    for _ in range(RUNS):
        run = load.run(plan_for(stub.target, arrivals.closed(2), asked), folder=folder)
        early, burst = run.answers
        assert [words.partition(" came ")[0] for words in early.wrong] == ["an empty chunk without a token id"]
        assert early.stream.first_token is not None
        assert early.stream.first_token - (early.sample.sent or 0) >= TTFT
        if burst.wrong:
            break
    assert ["tokens came in a burst at the end, after" in words for words in burst.wrong] == [True]


def test_a_connection_closed_between_requests_is_opened_again(stub: Stub, folder: Path) -> None:
    asked = tuple(requests(1, seed=number)[0] for number in range(20))
    run = load.run(plan_for(stub.liar("hangs_up"), arrivals.closed(1), asked, window=0.5), folder=folder)
    assert run.wrong() == {}
    assert [each.resent for each in run.samples] == [False] + [True] * (len(run.samples) - 1)
    assert len(run.samples) >= 2


def test_the_connection_limit_fails_requests_instead_of_delaying_them(stub: Stub, folder: Path) -> None:
    schedule = Schedule(kind="constant", times=(0.0, 0.01, 0.02))
    run = load.run(plan_for(stub.target, schedule, requests(3), connections=1), folder=folder, workers=1)
    assert [each.failure for each in run.samples] == [None, "connection limit", "connection limit"]
    assert "2 requests met the limit of 1 connections; raise it" in run.client_limits()


def test_a_refused_connection_is_a_sample(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        target = Target(host="127.0.0.1", port=taken.getsockname()[1])
        schedule = arrivals.constant(50, 0.1)
        run = load.run(plan_for(target, schedule, requests(5), window=0.1), folder=folder)
        closed = load.run(plan_for(target, arrivals.closed(1), requests(50), window=0.25), folder=folder)
    assert [each.failure for each in run.samples] == ["connection refused"] * 5
    assert run.ttft() == [math.inf] * 5
    assert run.tokens_per_second() == 0
    assert 2 <= len(closed.samples) <= 4


def test_what_has_not_ended_with_the_drain_is_unfinished(stub: Stub, folder: Path) -> None:
    schedule = Schedule(kind="constant", times=(0.0,))
    run = load.run(plan_for(stub.target, schedule, requests(1), window=0.05, drain=0.01), folder=folder)
    assert [each.failure for each in run.samples] == ["unfinished when the drain ended"]
    assert run.samples[0].sent is not None


def test_a_run_is_written_and_read_without_loss(stub: Stub, folder: Path, tmp_path: Path) -> None:
    run = load.run(plan_for(stub.target, arrivals.closed(2), requests(40), window=0.1), folder=folder)
    run.write(tmp_path / "run.jsonl")
    again = Run.read(tmp_path / "run.jsonl")
    assert again == run
    assert (again.answers, again.figures, again.digest) == (run.answers, run.figures, run.digest)
    with pytest.raises(HarnessError) as caught:
        Run.decode(run.encode().replace(FORMAT.encode(), b"gpulab/load/v0", 1))
    assert str(caught.value) == (
        "these lines are a load run of format 'gpulab/load/v0' or were changed; this program reads 'gpulab/load/v2'"
    )


def test_a_run_is_read_as_the_record_keeps_it_and_without_the_secrets_of_its_headers(
    stub: Stub, folder: Path, tmp_path: Path
) -> None:
    headers = {"Connection": "close", "Authorization": "Bearer hunter2", "X-Api-Key": "hunter2"}
    target = msgspec.structs.replace(stub.target, headers=headers)
    run = load.run(plan_for(target, arrivals.closed(1), requests(40), window=0.05), folder=folder)
    record = Record(tmp_path / "run")
    kept = Run.read(record.folder / record.keep("load.jsonl.gz", run.encode()))
    record.seal()
    assert b"hunter2" not in run.encode()
    assert kept.plan.target.headers == {"Connection": "close", "Authorization": "[redacted]", "X-Api-Key": "[redacted]"}
    assert (kept.samples, kept.digest) == (run.samples, run.digest)
    assert len(kept.measured) == len(run.measured) > 0


def test_a_worker_that_cannot_start_is_the_labs_infrastructure(folder: Path) -> None:
    plan = plan_for(Target(host="127.0.0.1", port=1), arrivals.closed(1), requests(1))
    with pytest.raises(InfrastructureError) as caught:
        load.run(plan, enter=lambda _: ["sh", "-c", "echo no such namespace >&2; exit 3"], folder=folder, workers=1)
    assert str(caught.value) == (
        "the load generator could not start in the cluster's network: it ended with status 3; "
        "its log ends: no such namespace"
    )


def test_a_worker_that_is_done_and_gone_between_two_looks_is_done(tmp_path: Path) -> None:
    with Child(["echo", "done"], log=tmp_path / "log") as child:
        child.status(5)
        assert workers._is_done(child, 0.0)
    with Child(["sh", "-c", "read line; echo done"], log=tmp_path / "log") as child:
        hear = child.hear

        def miss_the_first(seconds: float) -> str | None:
            child.hear = hear  # type: ignore[method-assign]
            child.tell("now")
            child.status(5)
            return None

        child.hear = miss_the_first  # type: ignore[method-assign]
        assert workers._is_done(child, 0.1)


def test_a_worker_that_broke_or_hangs_is_the_harness_fault(tmp_path: Path) -> None:
    with Child(["sh", "-c", "echo no memory >&2; exit 9"], log=tmp_path / "log") as child:
        child.status(5)
        with pytest.raises(HarnessError) as caught:
            workers._is_done(child, 0.0)
    assert str(caught.value) == (
        "a load worker ended with status 9 before it had written its samples; measure again; its log ends: no memory"
    )
    plan = plan_for(Target(host="127.0.0.1", port=1), arrivals.closed(1), requests(1))
    with Child(["cat"], log=tmp_path / "other") as child, pytest.raises(HarnessError) as caught:
        workers._follow(plan, -math.inf, [child], lambda _: None)
    assert str(caught.value) == (
        "a load worker had not written its samples 60 s after the load; measure again on a machine that is less busy; "
        "its log ends: it logged nothing"
    )


def test_an_interrupt_leaves_no_worker(stub: Stub, folder: Path) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("measuring"):
            assert len(processes_of(folder)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load.run(
            plan_for(stub.target, arrivals.closed(1), requests(1), window=1000),
            folder=folder,
            progress=interrupt,
            workers=1,
        )
    assert processes_of(folder) == []


def test_workers_die_with_the_process_that_started_them(stub: Stub, folder: Path) -> None:
    plan = plan_for(stub.target, arrivals.closed(1), requests(1), window=1000)
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    script = (
        "import msgspec, pathlib; from graders import load, plan\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "plan = msgspec.json.decode((folder / 'plan.json').read_bytes(), type=plan.Plan)\n"
        "load.run(plan, folder=folder, progress=lambda text: print(text, flush=True), workers=1)"
    )
    with Child([sys.executable, "-c", script], log=folder / "parent.log") as parent:
        assert [parent.hear(PATIENCE), parent.hear(PATIENCE)] == ["starting the load generator", "measuring for 1000 s"]
        (worker,) = [each for each in processes_of(folder) if each != parent.pid]
        os.kill(parent.pid, signal.SIGKILL)
        until(
            lambda: worker in processes_of(folder), lambda there: not there, what="the worker to die", seconds=PATIENCE
        )


def processes_of(folder: Path) -> list[int]:
    """Processes whose arguments name the folder."""
    return [pid for pid in processes_with(str(folder)) if b"graders.client" in command_of(pid).split(b"\0")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window": 0.0}, "ramp, window and drain are 0, 0 and 30 s"),
        ({"schedule": arrivals.closed(9)}, "9 streams need as many connections and requests, not 1024 and 2"),
        ({"schedule": arrivals.constant(3, 1)}, "3 arrivals are planned, but only 2 requests are there"),
        ({"schedule": Schedule(kind="constant")}, "no arrival is planned"),
        ({"schedule": Schedule(kind="constant", times=(2.0, 1.0))}, "the planned times do not ascend"),
    ],
)
def test_an_impossible_plan_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    fields: dict[str, Any] = {"schedule": arrivals.constant(2, 1), "window": 1.0, **changes}
    plan = Plan(target=Target(host="127.0.0.1", port=1), requests=requests(2), **fields)
    with pytest.raises(HarnessError) as caught:
        load.run(plan, folder=tmp_path)
    assert str(caught.value) == f"this load cannot be run: {said}; correct the plan"


def test_a_request_is_plain_http() -> None:
    target = Target(
        host="fd00::1", port=80, path="/v1/completions", headers={"Host": "vllm", "Authorization": "Bearer x"}
    )
    assert encode_request(target, Request(body=b"{}", asked=Asked(tokens=1)), "1-2") == (
        b"POST /v1/completions HTTP/1.1\r\nHost: vllm\r\nContent-Type: application/json\r\n"
        b"Accept: text/event-stream\r\nAccept-Encoding: identity\r\nX-Request-Id: 1-2\r\nContent-Length: 2\r\n"
        b"Authorization: Bearer x\r\n\r\n{}"
    )
