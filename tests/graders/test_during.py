"""Load while something happens: the order of things, and whose error is told. No server, no worker."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graders.arrivals import closed
from graders.during import run_during
from graders.errors import InfrastructureError
from graders.plan import Plan, Target
from graders.samples import Run
from tests.patience import PATIENCE

PLAN = Plan(target=Target(host="127.0.0.1", port=1), requests=(), schedule=closed(1), window=1.0)
RUN = Run(PLAN, 0.0, 0.0, (), ())


def measured(happen: Callable[[], None], measure: Callable[..., Run], folder: Path) -> Run:
    return run_during(PLAN, happen, enter=list, folder=folder, measure=measure)


def test_it_happens_after_the_load_began_and_before_it_ended(tmp_path: Path) -> None:
    order: list[str] = []
    happened = threading.Event()

    def measure(plan: Plan, *, progress: Callable[[str], None], **_: Any) -> Run:
        progress("starting the load generator")
        order.append("started")
        progress("ramping up for 1 s")
        assert happened.wait(PATIENCE)
        order.append("ended")
        return RUN

    def happen() -> None:
        order.append("happened")
        happened.set()

    assert measured(happen, measure, tmp_path) is RUN
    assert order == ["started", "happened", "ended"]


def test_nothing_happens_when_the_load_cannot_begin(tmp_path: Path) -> None:
    def measure(plan: Plan, **_: Any) -> Run:
        raise InfrastructureError("no network")

    with pytest.raises(InfrastructureError, match=r"^no network$"):
        measured(lambda: pytest.fail("it happened"), measure, tmp_path)


def test_what_happens_may_fail_once_the_load_has_ended(tmp_path: Path) -> None:
    ended: list[bool] = []
    happened = threading.Event()

    def measure(plan: Plan, *, progress: Callable[[str], None], **_: Any) -> Run:
        progress("measuring for 1 s")
        assert happened.wait(PATIENCE)
        ended.append(True)
        return RUN

    def happen() -> None:
        happened.set()
        raise InfrastructureError("no cluster")

    with pytest.raises(InfrastructureError, match=r"^no cluster$"):
        measured(happen, measure, tmp_path)
    assert ended == [True]
