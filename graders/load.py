"""Carries out a plan: starts workers inside the cluster's network, lets them begin together, merges what they saw.

Place: lab checks call `run`. Limits: workers share this machine, its files and its monotonic clock; they die with the
thread that called `run`.
"""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from graders.client import Job
from graders.diagnosis import Health
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


def run(
    plan: Plan,
    *,
    enter: Callable[[Sequence[str]], list[str]] = list,
    folder: Path,
    progress: Progress = lambda _: None,
    workers: int | None = None,
) -> Run:
    """Carries out a plan; failed requests are samples, not errors.

    Args:
        plan: what to do.
        enter: turns an argument list into one that runs where the target's address answers.
        folder: for files in passing, which are removed again.
        progress: told what is being waited for.
        workers: processes to send from; by default one less than the cores this process may use, at least one.

    Raises:
        HarnessError: the plan is impossible, or a worker broke.
        InfrastructureError: a worker could not be started there.
    """
    plan.check()
    # A worker without a request of its own would have nothing to end on.
    most = plan.schedule.streams or len(plan.schedule.times)
    count = min(workers or max(1, len(os.sched_getaffinity(0)) - 1), most)
    with tempfile.TemporaryDirectory(prefix="load-", dir=folder) as name, contextlib.ExitStack() as stack:
        place = Path(name)
        progress("starting the load generator")
        children = [stack.enter_context(_start(plan, number, count, enter, place)) for number in range(count)]
        for child in children:
            _await_ready(child)
        t0 = time.monotonic() + LEAD_SECONDS
        started_at = time.time() + LEAD_SECONDS
        for child in children:
            child.tell(repr(t0))
        _follow(plan, t0, children, progress)
        return _merge(plan, t0, started_at, [place / f"samples-{number}.jsonl" for number in range(count)])


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
        raise HarnessError(f"a load worker did not end in time; its log ends: {waiting[0].last_words()}")


def _is_done(child: Child, seconds: float) -> bool:
    if child.hear(seconds) == "done":
        return True
    if (status := child.status()) is None:
        return False
    if child.hear(0) == "done":  # said between the two looks
        return True
    raise HarnessError(f"a load worker ended with status {status}; its log ends: {child.last_words()}")


def _merge(plan: Plan, t0: float, started_at: float, files: Sequence[Path]) -> Run:
    workers: list[Health] = []
    samples: list[Sample] = []
    for file in files:
        first, _, rest = file.read_bytes().partition(b"\n")
        workers.append(msgspec.json.decode(first, type=Health))
        samples += msgspec.json.Decoder(Sample).decode_lines(rest)
    return Run(plan, t0, started_at, tuple(workers), tuple(sorted(samples, key=lambda each: each.index)))
