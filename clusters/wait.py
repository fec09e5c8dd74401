"""Poll with a deadline, and say at the end what was seen last.

Place: everything that waits for a cluster uses `until`. Limits: polling only; the interval is the latency.
"""

import time
from collections.abc import Callable
from typing import TypeVar

State = TypeVar("State")


class WaitTimeout(Exception):
    """The deadline passed; the message carries what was waited for and the last state seen."""


def until(
    look: Callable[[], State],
    done: Callable[[State], bool],
    *,
    what: str,
    seconds: float,
    interval: float = 0.05,
    describe: Callable[[State], str] = str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> State:
    """The first state from `look` that is `done`.

    Args:
        look: reads the state; what it raises is passed through.
        done: whether a state ends the wait.
        what: what is waited for, as in "waited 5 s for {what}".
        seconds: how long at most; `look` runs at least once.
        interval: seconds between two looks.
        describe: words for the last state, for the error.
        clock: monotonic seconds.
        sleep: waits that many seconds.

    Raises:
        WaitTimeout: no state was done in time.
    """
    deadline = clock() + seconds
    while not done(state := look()):
        if clock() >= deadline:
            raise WaitTimeout(f"waited {seconds:g} s for {what}; last seen: {describe(state)}")
        sleep(interval)
    return state
