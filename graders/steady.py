"""When a window became steady, by a rule instead of by eye. Pure.

Place: asked of a series in the order of planned times, TTFTs or tokens per bin of time; no lab asks yet, only its tests
do. Limits: at least eighty values; it sees a level that changes, not a spread that does.

What is excluded before: `plan.Plan` fixes the ramp and the drain before the clock starts, arrivals go on until the
window's last answers came, and only requests planned in the window count. This tells whether that ramp was long enough,
and whether the window has a level at all, which a queue that grows has not.
"""

import itertools
import math
from collections.abc import Sequence

from graders.errors import HarnessError

BATCH = 5
"""Values per batch: MSER-5."""
FEWEST = 16
"""Batches below which nothing is said: half of them must be enough to show a trend."""
TREND, TREND_AT_LIMIT = 3.29, 1.96
"""Standard deviations beyond which a trend counts: a series without one goes beyond them once in a thousand. Where the
rule would leave out as many values as it may, which already speaks against a level, once in twenty is enough."""


def settled(values: Sequence[float]) -> int | None:
    """How many values at the beginning to leave out; None where the rest still rises or falls, so has no level.

    MSER-5 (White 1997, Simulation 69:323; White, Cobb and Spratt 2000, Winter Simulation Conference): of the means of m
    batches of five values, the first d are left out that minimise the squared standard error of the rest,

        MSER(d) = sum over j > d of (z_j - mean of z_(d+1) to z_m)**2 / (m - d)**2,   0 <= d <= m/2.

    The rest has a trend when Kendall's S, the pairs of batches that rise less those that fall, is beyond 3.29 of its
    standard deviations, or beyond 1.96 where d = m/2; they are sqrt(n(n-1)(2n+5)/18) for n batches (Mann 1945,
    Econometrica 13:245; Kendall 1975).

    Args:
        values: in order of time; an infinite one, a failure, counts as the largest finite one.

    Raises:
        HarnessError: there are fewer than 80 values, or one is not a number.
    """
    if len(values) < FEWEST * BATCH or any(math.isnan(value) for value in values):
        raise HarnessError(
            f"the steady part of {len(values)} values was asked for; give at least {FEWEST * BATCH} numbers"
        )
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    batches = _means([min(value, largest) for value in values])
    d = min(range(len(batches) // 2 + 1), key=lambda d: _squared_error(batches[d:]))
    limit = TREND_AT_LIMIT if d == len(batches) // 2 else TREND
    return None if _trend(batches[d:]) > limit else BATCH * d


def _means(values: Sequence[float]) -> list[float]:
    whole = len(values) // BATCH
    return [math.fsum(values[BATCH * number : BATCH * (number + 1)]) / BATCH for number in range(whole)]


def _squared_error(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / len(values) ** 2


def _trend(values: Sequence[float]) -> float:
    """Kendall's S in its standard deviations, whatever its sign."""
    n = len(values)
    rising = sum((later > sooner) - (later < sooner) for sooner, later in itertools.combinations(values, 2))
    # One less: S moves in steps of two, so it is compared half-way (continuity correction).
    return (abs(rising) - 1) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
