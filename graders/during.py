"""Load while something happens to the server: an upgrade, the loss of a replica.

Place: lab checks call `run_during`. Limits: the load's length is planned before, so whether what happened was over when
it ended is the caller's to judge.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from graders import load
from graders.plan import Plan
from graders.samples import Run

START_SECONDS = 60.0
"""A load generator that has not begun within this time has failed, and its own error says why."""


def run_during(
    plan: Plan,
    happen: Callable[[], None],
    *,
    enter: Callable[[Sequence[str]], list[str]],
    folder: Path,
    measure: Callable[..., Run] = load.run,
) -> Run:
    """Carries out a plan and calls `happen` once its ramp has begun; returns when both have ended.

    Args:
        plan: what to do.
        happen: what happens meanwhile, in the caller's thread.
        enter: as for `load.run`.
        folder: as for `load.run`.
        measure: carries out the plan, as `load.run` does.

    Raises:
        BaseException: what the load raised, else what `happen` raised.
    """
    begun = threading.Event()

    def follow(text: str) -> None:
        # The generator tells its phases; all but the first are told after t0.
        if not text.startswith("starting"):
            begun.set()

    # Load workers die with the thread that started them, which lives until they have ended.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="load") as pool:
        measured = pool.submit(measure, plan, enter=enter, folder=folder, progress=follow)
        measured.add_done_callback(lambda _: begun.set())
        begun.wait(START_SECONDS)
        if not measured.done():
            happen()
        return measured.result()
