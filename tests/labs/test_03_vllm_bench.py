"""What the bench of 03_vllm does when the infrastructure breaks under it, without any."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from graders.errors import InfrastructureError
from vllm_lab import performance
from vllm_lab.bench import Bench


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


def test_a_starter_that_stays_too_slow_is_an_error_of_the_machine() -> None:
    few: Any = SimpleNamespace(
        incomplete=0, measured=[None], client_limits=lambda: [], wrong=lambda: [], plan=SimpleNamespace(window=8.0)
    )
    check: Any = SimpleNamespace(threshold={"throughput_streams": 8.0, "throughput_seconds": 2.0}.__getitem__)
    bench: Any = SimpleNamespace(run=lambda *_, **__: few)
    with pytest.raises(InfrastructureError) as error:
        performance._pair(check, bench, print, 1, 1, 6)
    assert str(error.value) == ("the baseline, which the lab compares with, failed: it answered 1 requests in 8 s")
