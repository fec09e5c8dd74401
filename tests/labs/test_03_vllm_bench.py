"""What the bench of 03_vllm does when the infrastructure breaks under it, without any."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import msgspec
import pytest

from graders.arrivals import Schedule
from graders.errors import InfrastructureError
from graders.samples import Run
from tests.labs.facts_03_vllm import LAB, loads, paced
from tests.labs.test_03_vllm import answer
from tests.labs.test_03_vllm import run as run_of
from vllm_lab import caches, performance
from vllm_lab.bench import Bench
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
    [([8], [2.0]), ([1, 3], [2.0, 4.0]), ([1, 2, 4], [2.0, 4.0, 8.0])],
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


def test_one_user_who_gets_too_few_answers_is_an_error_of_the_machine(tmp_path: Path) -> None:
    nothing: Any = SimpleNamespace(namespace="none")
    with contextlib.ExitStack() as stack:
        bench = Slow(nothing, nothing, nothing, nothing, tmp_path, {}, stack)
        bench.answers, bench.windows = [1, 1, 2], []
        with pytest.raises(InfrastructureError) as error:
            bench.alone("alone", print)
    assert str(error.value) == ("the baseline, which the lab compares with, failed: it answered 2 requests in 12 s")


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
        ([1.6, 0.6, 1.3], ["x", "xb", "xc"], 1.3),
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

    def run(side: str, name: str, schedule: Schedule, *_: Any, ramp: float, window: float) -> Run:
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
