"""Whether other programs kept this machine so busy while a check measured that being slow says nothing. Pure.

Place: `check` asks at every attempt of a check that lab.toml calls `timed`; conftest.py knows which programs are ours.
Limits: this machine only; a mean over the attempt, so a short burst in a long one goes unseen. A learner gains nothing
by keeping it busy: what is inconclusive gives no points either.
"""

import time
from collections.abc import Callable

import msgspec

from graders.rubric import Finding

BUSY_SHARE = 0.125
"""Share of all cores. A reference passed ten times of ten beside a program that used twice as much."""


class Beside:
    """What other programs use meanwhile.

    Args:
        seconds: processor time that they used so far, over all cores; None where that is not known.
        cores: of this machine.
        clock: seconds.
    """

    def __init__(
        self, seconds: Callable[[], float | None], cores: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._cores, self._clock = seconds, cores, clock

    def begin(self) -> Callable[[], float | None]:
        """Begins to count; what it returns says how many cores others used on average since, or None."""
        begun, before = self._clock(), self._seconds()

        def used() -> float | None:
            passed, after = self._clock() - begun, self._seconds()
            return None if before is None or after is None or passed <= 0 else max(0.0, (after - before) / passed)

        return used

    def judge(self, finding: Finding, used: float | None) -> Finding:
        """The finding, or in place of a failure that others may have caused an inconclusive one."""
        if finding.verdict != "failed" or used is None or used <= BUSY_SHARE * self._cores:
            return finding
        said = (
            f"{finding.observed}; meanwhile other programs kept {used:.1f} of {self._cores} cores busy, so this may be "
            "their doing; measure again while the machine is quiet"
        )
        return msgspec.structs.replace(finding, verdict="inconclusive", observed=said, hint=None)
