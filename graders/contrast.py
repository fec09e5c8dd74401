"""Do two groups of requests of one run fare differently? Exact tests, and what they may be asked. Pure.

Place: `honesty` compares requests that a server has no honest reason to treat differently. Limits: the groups must be
interleaved in one run, so that whatever the machine did fell on both.
"""

import math
import statistics
from collections.abc import Sequence

from graders import stats

CHANCE = 1e-5
"""A contrast that chance alone gives more often than this says nothing; many are looked at in many runs."""
CHANCE_OF_FAILURES = 1e-3
"""The same for failures: that there are some is a fact already, only on whom they fall may be chance."""
FACTOR = 1.5
"""Of the medians; a smaller contrast is left to the statistics of the lab."""


def fisher(hits: int, n: int, others: int, m: int) -> float:
    """Chance of at least `hits` among n where all `hits + others` fell by lot on n and m (Fisher 1935, one-sided)."""
    total = hits + others
    terms = (_log_ways(n, k) + _log_ways(m, total - k) for k in range(max(hits, total - m), min(n, total) + 1))
    return min(1.0, math.fsum(math.exp(term - _log_ways(n + m, total)) for term in terms))


def slower(some: Sequence[float], others: Sequence[float]) -> float | None:
    """By what factor the median of `some` lies above that of `others`, if chance does not explain it; else None.

    Mood's median test (Mood 1950, section 16.4): how many of each group lie above the median of both. Infinities count.
    """
    if not some or not others:
        return None
    slow, fast = stats.nearest_rank(some, 0.5), stats.nearest_rank(others, 0.5)
    middle = statistics.median_low([*some, *others])
    above = [sum(each > middle for each in group) for group in (some, others)]
    if slow < FACTOR * fast or fisher(above[0], len(some), above[1], len(others)) > CHANCE:
        return None
    return slow / fast if fast else math.inf


def fails_more(some: Sequence[bool], others: Sequence[bool], *, looks: int = 1) -> bool:
    """Whether failures (True) are so much more frequent among `some` that chance does not explain it.

    `looks` is at how many pairs of groups of the same requests one looks (Bonferroni).
    """
    hits, rest = sum(some), sum(others)
    if not some or not others or hits * len(others) <= FACTOR * rest * len(some):
        return False
    return fisher(hits, len(some), rest, len(others)) <= CHANCE_OF_FAILURES / looks


def _log_ways(n: int, k: int) -> float:
    """Logarithm of the number of ways to choose k of n; of thousands, the number itself has thousands of digits."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
