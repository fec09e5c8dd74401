"""The worker processes of a load run: starts them inside the cluster's network, lets them begin together, merges.

Place: `load` and `floor` call `carry_out`. Limits: workers share this machine, its files and its monotonic clock; they
die with the thread that called it.
"""

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from graders.client import Job
from graders.diagnosis import Floor, Health
from graders.errors import HarnessError, InfrastructureError
from graders.plan import Plan
from graders.process import Child
from graders.samples import Run, Sample

START_SECONDS = 30.0
"""A worker imports Python and opens its connections within this time."""
LEAD_SECONDS = 0.2
"""From the moment t0 is told to t0."""
SPARE_SECONDS = 60.0
"""After the drain a worker writes its file within this time."""
POLL_SECONDS = 0.2
"""How long one worker is listened to before the next."""

Progress = Callable[[str], None]


def default_count(plan: Plan) -> int:
    """One less than the cores this process may use, at least one, and no more than have something to send."""
    return min(max(1, len(os.sched_getaffinity(0)) - 1), most_workers(plan))


def most_workers(plan: Plan) -> int:
    """A worker without a request of its own would have nothing to end on."""
    return plan.schedule.streams or len(plan.schedule.times)


def carry_out(
    plan: Plan,
    *,
    count: int,
    folder: Path,
    enter: Callable[[Sequence[str]], list[str]] = list,
    progress: Progress = lambda _: None,
    floor: Floor | None = None,
) -> Run:
    """Carries out a plan that was checked; failed requests are samples, not errors.

    Args:
        plan: what to do.
        count: worker processes to send from.
        folder: for files in passing, which are removed again.
        enter: turns an argument list into one that runs where the target's address answers.
        progress: told what is being waited for.
        floor: what the client adds of itself, for the record.

    Raises:
        HarnessError: a worker broke.
        InfrastructureError: a worker could not be started there.
    """
    with tempfile.TemporaryDirectory(prefix="load-", dir=folder) as name, contextlib.ExitStack() as stack:
        place = Path(name)
        children = [stack.enter_context(_start(plan, number, count, enter, place)) for number in range(count)]
        for child in children:
            _await_ready(child)
        t0 = time.monotonic() + LEAD_SECONDS
        started_at = time.time() + LEAD_SECONDS
        for child in children:
            child.tell(repr(t0))
        _follow(plan, t0, children, progress)
        files = [place / f"samples-{number}.jsonl" for number in range(count)]
        return _merge(Run(plan, t0, started_at, (), (), floor), files)


def _start(plan: Plan, number: int, count: int, enter: Callable[[Sequence[str]], list[str]], place: Path) -> Child:
    job = Job(plan=plan, worker=number, workers=count, out=str(place / f"samples-{number}.jsonl"))
    path = place / f"job-{number}.json"
    path.write_bytes(msgspec.json.encode(job))
    return Child(enter([sys.executable, "-m", "graders.client", str(path)]), log=place / f"worker-{number}.log")


def _await_ready(child: Child) -> None:
    if child.hear(START_SECONDS) == "ready":
        return
    status = child.status(1.0)
    how = f"was not ready after {START_SECONDS:g} s" if status is None else f"ended with status {status}"
    raise InfrastructureError(
        f"the load generator could not start in the cluster's network: it {how}; its log ends: {child.last_words()}"
    )


def _follow(plan: Plan, t0: float, children: Sequence[Child], progress: Progress) -> None:
    """Waits until every worker has written its file, and tells the phases."""
    phases = [(t0 + plan.ramp, f"ramping up for {plan.ramp:g} s")] if plan.ramp else []
    phases.append((t0 + plan.window_end, f"measuring for {plan.window:g} s"))
    phases.append((t0 + plan.end + SPARE_SECONDS, "waiting for the last answers"))
    waiting = list(children)
    for end, words in phases:
        if waiting:
            progress(words)
        while waiting and (left := end - time.monotonic()) > 0:
            if _is_done(waiting[0], min(left, POLL_SECONDS)):
                waiting.pop(0)
            else:
                waiting.append(waiting.pop(0))
    if waiting:
        raise HarnessError(
            f"a load worker had not written its samples {SPARE_SECONDS:g} s after the load; measure again on a machine "
            f"that is less busy; its log ends: {waiting[0].last_words()}"
        )


def _is_done(child: Child, seconds: float) -> bool:
    if child.hear(seconds) == "done":
        return True
    if (status := child.status()) is None:
        return False
    if child.hear(0) == "done":  # said between the two looks
        return True
    raise HarnessError(
        f"a load worker ended with status {status} before it had written its samples; measure again; its log ends: "
        f"{child.last_words()}"
    )


def _merge(run: Run, files: Sequence[Path]) -> Run:
    workers: list[Health] = []
    samples: list[Sample] = []
    for file in files:
        first, _, rest = file.read_bytes().partition(b"\n")
        workers.append(msgspec.json.decode(first, type=Health))
        samples += msgspec.json.Decoder(Sample).decode_lines(rest)
    samples.sort(key=lambda each: each.index)
    return dataclasses.replace(run, workers=tuple(workers), samples=tuple(samples))
