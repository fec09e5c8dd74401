"""The client's diagnosis of itself: each sign that it was the bottleneck is said with what would help."""

import sys
from pathlib import Path
from typing import Any

import pytest

from graders import arrivals, workers, workload
from graders import floor as floors
from graders.arrivals import Schedule
from graders.diagnosis import Floor, Health
from graders.errors import HarnessError
from graders.plan import Plan, Target
from graders.samples import Run, Sample

REQUESTS = workload.completions(
    seed=1, count=100, ids=range(100, 9000), prompt_tokens=8, output_tokens=32, model="stub"
)


def floor(late: float) -> Floor:
    """A floor of 64 streams whose tokens are seen so late."""
    return Floor(streams=64, workers=1, tls=False, events=1000, ttft=0.0, late=late, late_p99=late, cpu=1e-5)


def fake_run(schedule: Schedule, lateness: float, floor: Floor | None = None, **health: Any) -> Run:
    """A run of requests that were sent `lateness` late and refused."""
    fields: dict[str, Any] = {"cpu": 1.0, "wall": 10.0, "lags": (0.0,), "ran_out": 0, **health}
    worker = Health(worker=0, pauses=(), uvloop=True, scheduling="normal", **fields)
    plan = Plan(
        target=Target(host="::1", port=1), requests=REQUESTS[: len(schedule.times)], schedule=schedule, window=10.0
    )
    samples = [
        Sample(index=index, planned=time, started=time + lateness, end=time + lateness, failure="connection refused")
        for index, time in enumerate(schedule.times)
    ]
    return Run(plan, 0.0, 0.0, (worker,), tuple(samples), floor)


@pytest.mark.parametrize(
    ("run", "bounds", "said"),
    [
        (fake_run(arrivals.constant(10, 10), 0.001), {"ttft": 0.01}, []),
        (fake_run(arrivals.constant(10, 10), 0.02), {"ttft": 0.5}, []),
        (fake_run(arrivals.constant(10, 10), 0.02), {}, []),
        (
            fake_run(arrivals.constant(10, 10), 0.02),
            {"ttft": 0.2},
            [
                "1 % of the requests were 20.0 ms late or more, where 10.0 ms are allowed; "
                "free cores for it, or use fewer streams"
            ],
        ),
        (
            fake_run(arrivals.constant(10, 10), 0.0, lags=(0.0, 0.03)),
            {"tpot": 0.001},
            [
                "1 % of the looks at the sockets were 30.0 ms late or more, where 2.0 ms are allowed; "
                "free cores for it, or use fewer streams"
            ],
        ),
        (
            fake_run(arrivals.constant(10, 10), 0.02, waited=0.5),
            {"ttft": 0.2},
            [
                "1 % of the requests were 20.0 ms late or more, where 10.0 ms are allowed; "
                "it waited for a core in 5 % of the window: free cores for it"
            ],
        ),
        (
            fake_run(arrivals.constant(10, 10), 0.0, lags=(0.03,), cpu=9.0, waited=0.01),
            {"ttft": 0.2},
            [
                "1 % of the looks at the sockets were 30.0 ms late or more, where 10.0 ms are allowed; "
                "it was busy itself: use more workers, or fewer streams",
                "a worker used 90 % of a core, where 70 % are allowed; use more workers, or fewer streams",
            ],
        ),
        (fake_run(arrivals.constant(10, 10), 0.0, waited=9.0), {"ttft": 0.2}, []),
        (
            fake_run(arrivals.constant(10, 10), 0.0, waited=0.5),
            {"ttft": 0.05},
            [
                "it waited for a core in 5 % of the window, up to 4 ms at a time, where 2.5 ms are allowed; "
                "free cores for it"
            ],
        ),
        (fake_run(arrivals.constant(10, 10), 0.0, waited=0.05), {"ttft": 0.05}, []),
        (fake_run(arrivals.constant(10, 10), 0.0, floor(0.0015)), {"ttft": 0.02, "tpot": 0.001}, []),
        (
            fake_run(arrivals.constant(10, 10), 0.0, floor(0.004)),
            {"ttft": 0.02, "tpot": 0.001},
            [
                "the client of itself sees a token 4.00 ms late at 64 streams, where 2.00 ms are allowed of the TTFT; "
                "use fewer streams, more workers, or free cores",
                "the client of itself sees a token 4.00 ms late at 64 streams, where 3.10 ms are allowed of the time "
                "of an answer's tokens; use fewer streams, more workers, or free cores",
            ],
        ),
        (
            fake_run(arrivals.constant(10, 10), 0.0, cpu=9.0),
            {},
            ["a worker used 90 % of a core, where 70 % are allowed; use more workers, or fewer streams"],
        ),
        (
            fake_run(arrivals.constant(10, 10), 0.5),
            {"ttft": 20.0},
            [
                "9.50 requests/s were sent in the window, where 10.00 were planned; use more workers, or free cores",
                "arrivals had a dispersion of 0.26, where 0.00 was planned; use more workers, or free cores",
            ],
        ),
        (
            fake_run(arrivals.constant(10, 10), 0.0, ran_out=2),
            {},
            ["2 streams had no request left before the window ended; give the plan more requests"],
        ),
    ],
)
def test_a_client_that_is_the_bottleneck_says_why(run: Run, bounds: dict[str, float], said: list[str]) -> None:
    assert run.client_limits(**bounds) == said


def test_the_floor_is_measured_once_for_configurations_that_hardly_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    carry_out = workers.carry_out

    def counted(plan: Plan, **more: Any) -> Run:
        runs.append(plan)
        return carry_out(plan, **more)

    monkeypatch.setattr(floors, "_known", {})
    monkeypatch.setattr(workers, "carry_out", counted)
    plans = [
        Plan(target=Target(host="::1", port=1), requests=REQUESTS, schedule=schedule, window=1.0)
        for schedule in (
            arrivals.closed(3),
            arrivals.closed(4),
            Schedule(kind="constant", times=(0.0, 0.5, 1.4, 1.45, 1.49, 3.0)),
        )
    ]
    found = [floors.measured(plan, 1, tmp_path) for plan in plans]
    assert found == [found[0]] * 3
    assert {plan.schedule.streams for plan in runs} == {4}
    assert len(runs) <= floors.TRIES
    assert (found[0].streams, found[0].workers, found[0].tls) == (4, 1, False)
    assert found[0].events >= 100
    assert 0 < found[0].late <= found[0].late_p99 < 1
    assert 0 < found[0].ttft < 1
    assert 0 < found[0].cpu < 0.001
    assert list(tmp_path.iterdir()) == []


def test_a_floor_is_measured_again_where_nothing_came_in_its_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt, real = [fake_run(arrivals.constant(10, 1), 0.0)], workers.carry_out
    monkeypatch.setattr(floors, "_known", {})
    monkeypatch.setattr(workers, "carry_out", lambda *args, **more: spoilt.pop() if spoilt else real(*args, **more))
    plan = Plan(target=Target(host="::1", port=1), requests=REQUESTS, schedule=arrivals.closed(2), window=1.0)
    assert floors.measured(plan, 1, tmp_path).streams == 2
    assert spoilt == []


def test_a_floor_without_answers_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused, tries = fake_run(arrivals.constant(10, 1), 0.0), []

    def never(plan: Plan, **_: Any) -> Run:
        tries.append(plan)
        return refused

    monkeypatch.setattr(floors, "_known", {})
    monkeypatch.setattr(workers, "carry_out", never)
    plan = Plan(target=Target(host="::1", port=1), requests=REQUESTS, schedule=arrivals.closed(1), window=1.0)
    with pytest.raises(HarnessError) as caught:
        floors.measured(plan, 1, tmp_path)
    assert len(tries) == floors.TRIES
    assert str(caught.value) == (
        "the null server did not answer as asked, so the client's own floor is not known: {'connection refused': 10}; "
        "measure again on a machine that is less busy"
    )


def test_a_null_server_that_does_not_start_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "_known", {})
    monkeypatch.setattr(sys, "executable", "false")
    plan = Plan(target=Target(host="::1", port=1), requests=REQUESTS, schedule=arrivals.closed(1), window=1.0)
    with pytest.raises(HarnessError) as caught:
        floors.measured(plan, 1, tmp_path)
    assert str(caught.value) == (
        "the null server, against which the client's own floor is measured, did not start within 30 s; measure again "
        "on a machine that is less busy; its log ends: it logged nothing"
    )
