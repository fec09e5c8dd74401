"""Carries out a plan: measures what the client adds of itself, then lets worker processes send.

Place: lab checks call `run`. Limits: those of `workers` and `floor`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from graders import floor as floors
from graders.plan import Plan
from graders.samples import Run
from graders.workers import Progress, carry_out, default_count, most_workers


def run(
    plan: Plan,
    *,
    enter: Callable[[Sequence[str]], list[str]] = list,
    folder: Path,
    progress: Progress = lambda _: None,
    workers: int | None = None,
) -> Run:
    """Carries out a plan; failed requests are samples, not errors.

    Before its first run in a configuration a process measures the client's own floor, which takes some two seconds.

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
    count = min(workers, most_workers(plan)) if workers else default_count(plan)
    progress("starting the load generator")
    floor = floors.measured(plan, count, folder)
    return carry_out(plan, count=count, folder=folder, enter=enter, progress=progress, floor=floor)
