"""What the bench of 03_vllm does when the infrastructure breaks under it, without any."""

import contextlib
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import msgspec
import pytest

from clusters.api import ClusterError
from graders.arrivals import Schedule
from graders.diagnosis import Health
from graders.errors import InfrastructureError, SubmissionError
from graders.samples import Run, Sample
from tests.labs.facts_03_vllm import LAB, loads, paced
from tests.labs.test_03_vllm import answer
from tests.labs.test_03_vllm import run as run_of
from vllm_lab import availability, caches, performance
from vllm_lab.bench import Bench, completions
from vllm_lab.loads import Alone
from vllm_lab.objective_facts import Paced


class Broken(Bench):
    """Every load on it leaves evidence and then fails."""

    names: list[str]

    def run(self, side: str, name: str, *args: Any, **kwargs: Any) -> NoReturn:
        self.names.append(f"{name}-{side}")
        raise InfrastructureError("the baseline, which the lab compares with, failed")


class Started(Bench):
    """Its servers run."""

    def start(self, progress: Any) -> None:
        pass


def test_each_try_at_what_the_starter_does_alone_has_a_name_of_its_own(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        nothing: Any = SimpleNamespace(namespace="none")
        bench = Broken(nothing, nothing, nothing, nothing, tmp_path, {}, stack)
        bench.names = []
        for _ in range(2):
            with pytest.raises(InfrastructureError):
                bench.alone_last(print)
    assert bench.names == ["alone-1-baseline", "alone-2-baseline"]


@pytest.mark.parametrize(("level", "gpus"), [("L1", "real"), ("L1", "simulated"), ("L3", "simulated")])
def test_nobody_looks_at_gpus_but_where_there_are_numbers_for_them(tmp_path: Path, level: str, gpus: str) -> None:
    nothing: Any = SimpleNamespace(namespace="none")
    cluster: Any = SimpleNamespace(traits=SimpleNamespace(level=level, gpus=gpus))  # nobody can be asked from here
    with contextlib.ExitStack() as stack:
        bench = Started(nothing, nothing, cluster, nothing, tmp_path, {}, stack)
        with bench.gpu_watched("throughput-1-gpu") as scrapes:
            assert scrapes == []


@pytest.mark.parametrize(
    ("answers", "windows"),
    [([8], [2.0]), ([1, 3], [2.0, 4.0]), ([1, 2, 1, 2, 4], [2.0, 4.0, 8.0, 16.0, 32.0])],
    ids=["quick", "slow", "slower"],
)
def test_a_slow_starter_is_given_time_until_there_is_something_to_compare_with(
    answers: list[int], windows: list[float]
) -> None:
    seen: list[float] = []

    def run(side: str, *_: Any, window: float, **__: Any) -> Any:
        if side == "baseline":
            seen.append(window)
        return SimpleNamespace(incomplete=0, measured=[None] * answers[len(seen) - 1], client_limits=lambda: [])

    check: Any = SimpleNamespace(threshold={"throughput_streams": 8.0, "throughput_seconds": 2.0}.__getitem__)
    bench: Any = SimpleNamespace(run=run)
    performance._pair(check, bench, print, 1, 1, 6)
    assert seen == windows


class Slow(Bench):
    """Its starter answers so many requests in each window."""

    answers: list[int]
    windows: list[float]

    def run(self, side: str, name: str, *_: Any, window: float, **__: Any) -> Any:
        self.windows.append(window)
        some = [answer(index, index / 4, 0.5, (1,) * 8) for index in range(self.answers[len(self.windows) - 1])]
        return run_of(some, window)


@pytest.mark.parametrize(
    ("answers", "windows"),
    [([3], [3.0]), ([1, 5], [3.0, 6.0]), ([0, 2, 3], [3.0, 6.0, 12.0])],
    ids=["quick", "slow", "slower"],
)
def test_one_user_is_watched_until_there_is_something_to_calibrate_on(
    answers: list[int], windows: list[float], tmp_path: Path
) -> None:
    nothing: Any = SimpleNamespace(namespace="none")
    with contextlib.ExitStack() as stack:
        bench = Slow(nothing, nothing, nothing, nothing, tmp_path, {}, stack)
        bench.answers, bench.windows = answers, []
        found = bench.alone("alone", print)
        assert (bench.windows, bench.alone_last(print)) == (windows, found)


@pytest.mark.parametrize(
    ("take", "expected"),
    [(caches.pressure, [9.0, 18.0]), (caches.prefix, [7.0, 14.0])],
    ids=["long answers", "prompts that begin alike"],
)
def test_caches_are_watched_for_twice_as_long_when_measured_again(take: Any, expected: list[float]) -> None:
    windows: list[float] = []

    def run(*_: Any, window: float, **__: Any) -> Any:
        windows.append(window)
        return run_of([answer(index, 0.0, 0.5, (1,) * 8) for index in range(12)], window)

    def observe(name: str, progress: Any, measure: Any) -> Any:
        found = SimpleNamespace(preemptions=0.0, prefix_hits=0.0, disagreements=())
        return SimpleNamespace(run=measure(), found=found, evidence=())

    check: Any = SimpleNamespace(threshold=LAB.thresholds["L1"].__getitem__)
    bench: Any = SimpleNamespace(run=run, observe=observe)
    found = [take(check, bench, print, number) for number in (1, 2)]
    assert (windows, [len(each.load.answers) for each in found]) == (expected, [12, 12])


class Watched(Bench):
    """What one user of its starter sees, by window."""

    runs: list[Run]

    def run(self, side: str, name: str, *_: Any, window: float, **__: Any) -> Any:
        return self.runs.pop(0)


def watched(*runs: Run, tmp_path: Path) -> Watched:
    nothing: Any = SimpleNamespace(namespace="none")
    bench = Watched(nothing, nothing, nothing, nothing, tmp_path, {}, contextlib.ExitStack())
    bench.runs = list(runs)
    return bench


def lone(*samples: Sample) -> Run:
    """Answers of 16 tokens, in 10 s; fewer cannot be a burst."""
    run = run_of(list(samples))
    requests = completions(7, 12, prompt_tokens=1600, output_tokens=16)
    return dataclasses.replace(run, plan=msgspec.structs.replace(run.plan, requests=requests))


def flow(index: int) -> Sample:
    """An answer whose tokens come one by one."""
    return answer(index, 0.0, 0.5, (1,) * 16)


def burst(index: int) -> Sample:
    """An answer all of whose tokens come at its end."""
    sample = flow(index)
    return msgspec.structs.replace(sample, times=(sample.times[0], *(1.3,) * (len(sample.times) - 1)))


def test_an_answer_in_a_burst_says_nothing_of_the_starters_pace(tmp_path: Path) -> None:
    some = lone(flow(0), flow(1), flow(2), burst(3))
    assert [each.good for each in some.answers] == [True, True, True, False]
    bench = watched(lone(flow(0), flow(1), burst(2)), some, tmp_path=tmp_path)
    found = bench.alone("alone", print)
    assert (found.ttft, found.tpot, found.rate) == pytest.approx((0.5, 0.1, 1 / 2))


def test_a_starter_whose_answers_keep_coming_in_bursts_is_an_error_of_the_machine(tmp_path: Path) -> None:
    bursts = lone(*map(burst, range(4)))
    bench = watched(bursts, bursts, bursts, tmp_path=tmp_path)
    with pytest.raises(InfrastructureError) as error:
        bench.alone("alone", print)
    assert str(error.value) == (
        "the starter, which the lab compares with, gave one user 4 answers in 10 s, of which 0 came token by token; "
        "measure again while the machine is quiet"
    )


@pytest.mark.parametrize(("times", "late"), [(2, False), (3, True)], ids=["in the end in time", "late each time"])
def test_a_starter_that_a_late_client_saw_is_watched_again(times: int, late: bool, tmp_path: Path) -> None:
    calm = lone(*map(flow, range(3)))
    worker = Health(worker=0, cpu=0.1, wall=10.0, lags=(0.5,), pauses=(), ran_out=0, uvloop=True, scheduling="normal")
    behind = dataclasses.replace(calm, workers=(worker,))
    bench = watched(*(behind if late or number < times - 1 else calm for number in range(times)), tmp_path=tmp_path)
    found = bench.alone("alone", print)
    assert bench.runs == []
    assert found.limits == (
        (
            "1 % of the looks at the sockets were 500.0 ms late or more, where 100.0 ms are allowed; free cores for "
            "it, or use fewer streams",
        )
        if late
        else ()
    )


def test_replicas_that_do_not_come_up_are_a_finding(tmp_path: Path) -> None:
    def all_replicas(progress: Any) -> list[str]:
        raise SubmissionError("1 of 2 pods are ready")

    bench: Any = SimpleNamespace(all_replicas=all_replicas, alone_last=lambda _: Alone(0.01, 0.002, rate=10.0))
    check: Any = SimpleNamespace(threshold=LAB.thresholds["L1"].__getitem__)
    found = availability.loss(check, bench, print, 1)
    assert (found.load, found.unready) == (None, "1 of 2 pods are ready")


def test_one_user_who_gets_too_few_answers_is_an_error_of_the_machine(tmp_path: Path) -> None:
    nothing: Any = SimpleNamespace(namespace="none")
    with contextlib.ExitStack() as stack:
        bench = Slow(nothing, nothing, nothing, nothing, tmp_path, {}, stack)
        bench.answers, bench.windows = [1, 1, 2], []
        with pytest.raises(InfrastructureError) as error:
            bench.alone("alone", print)
    assert str(error.value) == ("the baseline, which the lab compares with, failed: it answered 2 requests in 12 s")


def test_a_baseline_that_cannot_be_installed_is_an_error_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(*_: object, **__: object) -> None:
        raise ClusterError("helm ended with status 1")

    monkeypatch.setattr(Bench, "_install", install)
    nothing: Any = SimpleNamespace(namespace="none")
    with contextlib.ExitStack() as stack:
        bench = Bench(nothing, nothing, nothing, nothing, tmp_path, {}, stack)
        with pytest.raises(InfrastructureError) as error:
            bench.start(print)
    assert str(error.value) == "the lab's own baseline cannot be installed: helm ended with status 1"


def test_a_gpu_that_nobody_tells_of_is_an_error_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "gpu_seen", lambda *_: None)
    bench: Any = SimpleNamespace(pod=lambda: "submission-0")
    scrape: Any = object()
    with pytest.raises(InfrastructureError) as error:
        performance._gpu_seen(bench, [scrape], [])
    assert str(error.value) == "the exporter on the submission's node told nothing of its GPU; is it running?"


def test_a_starter_that_stays_too_slow_is_an_error_of_the_machine() -> None:
    few: Any = SimpleNamespace(
        incomplete=0, measured=[None], client_limits=lambda: [], wrong=lambda: [], plan=SimpleNamespace(window=8.0)
    )
    check: Any = SimpleNamespace(threshold={"throughput_streams": 8.0, "throughput_seconds": 2.0}.__getitem__)
    bench: Any = SimpleNamespace(run=lambda *_, **__: few)
    with pytest.raises(InfrastructureError) as error:
        performance._pair(check, bench, print, 1, 1, 6)
    assert str(error.value) == ("the baseline, which the lab compares with, failed: it answered 1 requests in 8 s")


@pytest.mark.parametrize(
    ("changes", "names", "counts"),
    [
        ([1.0], ["x"], 1.0),
        ([1.6, 1.2], ["x", "xb"], 1.2),
        ([1.6, 0.6, 1.3, 1.9, 1.3], ["x", "xb", "xc", "xd", "xe"], 1.3),
    ],
    ids=["steady", "steady again", "never steady"],
)
def test_a_load_is_put_again_while_the_machine_changes_its_speed(
    changes: list[float], names: list[str], counts: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def put(bench: Any, name: str, *_: Any) -> Paced:
        seen.append(name)
        return paced(loads(60), change=changes[len(seen) - 1])

    monkeypatch.setattr(performance, "_paced", put)
    check: Any = SimpleNamespace(threshold=LAB.thresholds["L1"].__getitem__)
    nothing: Any = None
    found = performance._sound(nothing, "x", check, 3.0, 60, print)
    assert seen == names
    assert found[-1].after.rate / found[-1].before.rate == pytest.approx(counts)


def test_the_starter_is_asked_before_and_after_each_load() -> None:
    """What it did just after one load is what the next one is planned by, and it has a name of its own."""
    speeds, seen = iter([20.0, 10.0]), list[tuple[str, int]]()

    def run(side: str, name: str, schedule: Schedule, *_: Any, ramp: float, window: float, seed: int) -> Run:
        assert schedule.seed == seed
        seen.append((f"{name}-{side}", round(60 / window)))
        return run_of([answer(0, 0.0, 0.5, (1,) * 8)], window)

    class Calibrated:
        last = Alone(ttft=0.01, tpot=0.002, rate=10.0)

        def alone_last(self, progress: Any) -> Alone:
            return self.last

        def alone(self, name: str, progress: Any) -> Alone:
            seen.append((name, 0))
            self.last = msgspec.structs.replace(self.last, rate=next(speeds))
            return self.last

    bench: Any = Calibrated()
    bench.run = run
    check: Any = SimpleNamespace(threshold=LAB.thresholds["L1"].__getitem__)
    one, other = (performance._paced(bench, name, check, 3.0, 60, print) for name in ("one", "other"))
    assert (one.before.rate, one.after.rate, one.rate) == (10.0, 20.0, 30.0)
    assert (other.before.rate, other.after.rate, other.rate) == (20.0, 10.0, 60.0)
    assert seen == [("one-submission", 30), ("one-after", 0), ("other-submission", 60), ("other-after", 0)]
