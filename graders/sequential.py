"""Looking again and again: decisions and intervals that hold however often one looks and whenever one stops. Pure.

Place: a lab check measures with `until_decided` until its claim is proven or refuted, or its time is spent. Limits:
samples are taken as independent, see `stats`; the price of looking often is about half as many samples again as one
look at a number of samples fixed before (`stats.decide_share`) needs.

Testing a share p0 against larger ones: with k hits in n, the likelihood ratio against p0, averaged over all p above p0
alike, is

    M(k, n) = (1 / (1 - p0)) · integral from p0 to 1 of (p/p0)**k · ((1-p)/(1-p0))**(n-k) dp
            = P(Binomial(n+1, p0) <= k) / ((1 - p0) · (n + 1) · P(Binomial(n, p0) = k)).

When the true share is p0 or less, M is a non-negative supermartingale that begins at 1, so it ever reaches 1/alpha with
probability alpha at most (Ville 1939; Robbins 1970, Annals of Mathematical Statistics 41:1397, mixtures of likelihood
ratios; Howard, Ramdas, McAuliffe and Sekhon 2021, Annals of Statistics 49:1055, confidence sequences). Shares below p0
are tested in the same way with hits and misses exchanged. The values of p0 that are not rejected are the interval.

A median is tested as the share 1/2 of values at or above it (Howard and Ramdas 2022, Bernoulli 28:1704).
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from graders.errors import HarnessError
from graders.stats import Counts, Estimate, Outcome, binomial_cdf, effective, ordered, over_time

Part = TypeVar("Part")


def share_interval(hits: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a share after `hits` of `n` so far; at all n together they cover it with `confidence`."""
    _check(hits, n, confidence)
    spare = (1.0 - confidence) / 2
    return _at_least(hits, n, spare), 1.0 - _at_least(n - hits, n, spare)


def decide_share(hits: int, n: int, share: float, *, confidence: float = 0.95) -> Outcome:
    """Whether a share of at least `share` is proven or refuted so far.

    However often one looks, a share below it is ever called proven with probability 1 - confidence at most, and one of
    at least it refuted with the same.
    """
    _check(hits, n, confidence)
    if not 0 < share < 1:
        raise HarnessError(f"a share of {share:g} cannot be proven or refuted; it lies between 0 and 1")
    if _log_evidence(hits, n, share) >= -math.log(1.0 - confidence):
        return "passed"
    if _log_evidence(n - hits, n, 1.0 - share) >= -math.log(1.0 - confidence):
        return "failed"
    return "inconclusive"


def decide_outcomes(outcomes: Sequence[bool], share: float, *, confidence: float = 0.95) -> Outcome:
    """As `decide_share`, for outcomes in order of time whose neighbours may share their fate, see `stats.effective`."""
    counts = effective(outcomes)
    if not counts.n:
        return "inconclusive"
    if decide_share(counts.fewest, counts.n, share, confidence=confidence) == "passed":
        return "passed"
    refuted = decide_share(counts.most, counts.n, share, confidence=confidence) == "failed"
    return "failed" if refuted else "inconclusive"


def share_over_time(outcomes: Sequence[bool], *, confidence: float = 0.95) -> Estimate:
    """`stats.over_time` so far: it decides as `decide_outcomes` does with (1 + confidence)/2."""
    spare = (1.0 - confidence) / 2

    def bounds(counts: Counts) -> tuple[float, float]:
        return _at_least(counts.fewest, counts.n, spare), 1.0 - _at_least(counts.n - counts.most, counts.n, spare)

    return over_time(outcomes, bounds, confidence=confidence)


def median(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Their median, with an interval between order statistics that covers the true one at all n together."""
    n, spare = len(values), (1.0 - confidence) / 2
    if not n:
        return Estimate(value=None, n=0, note="n too small: there are no values")
    inside = ordered(values)
    # The k-th smallest is a lower bound when so many values at or above it refute any median below it.
    ranks = [rank for rank in range(1, n // 2 + 1) if _log_evidence(n - rank + 1, n, 0.5) >= -math.log(spare)]
    middle = (inside[(n - 1) // 2] + inside[n // 2]) / 2
    if not ranks:
        return Estimate(value=middle, n=n, note=f"n too small: {n} values bound no median at {confidence:.3g}")
    rank = ranks[-1]
    return Estimate(value=middle, n=n, interval=(inside[rank - 1], inside[n - rank]), confidence=confidence)


def until_decided(
    take: Callable[[], Part],
    decide: Callable[[Sequence[Part]], Outcome],
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Outcome, list[Part]]:
    """Measures one part after the other until all of them together decide, or the time is spent.

    Args:
        take: measures one part: a window of requests, or a pair.
        decide: the outcome so far, by a rule of this module.
        seconds: no part is begun that would end later than this if it took as long as the longest before it; the first
            one is always taken.
        clock: seconds.

    Returns:
        How it ended, and all parts.
    """
    begun, longest, taken = clock(), 0.0, list[Part]()
    while True:
        at = clock()
        taken.append(take())
        longest = max(longest, clock() - at)
        outcome = decide(taken)
        if outcome != "inconclusive" or clock() - begun + longest > seconds:
            return outcome, taken


def _at_least(hits: int, n: int, spare: float) -> float:
    """The largest share that `hits` of `n` refute as too small, when 1/spare is enough evidence; 0 where none."""
    low, high = 0.0, hits / n
    for _ in range(50):
        middle = (low + high) / 2
        if 0 < middle < 1 and _log_evidence(hits, n, middle) >= -math.log(spare):
            low = middle
        else:
            high = middle
    return low


def _log_evidence(hits: int, n: int, share: float) -> float:
    """Logarithm of M(hits, n) against that share and all below it."""
    chance = binomial_cdf(hits, n + 1, share)
    if not chance:
        return -math.inf
    choices = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    exactly = choices + hits * math.log(share) + (n - hits) * math.log1p(-share)
    return math.log(chance) - math.log1p(-share) - math.log(n + 1) - exactly


def _check(hits: int, n: int, confidence: float) -> None:
    if not 0 <= hits <= n or n == 0:
        raise HarnessError(
            f"a share of {hits} hits in {n} trials was asked for; hits are from 0 to n, and n is above 0"
        )
    if not 0 < confidence < 1:
        raise HarnessError(f"a confidence of {confidence:g} was asked for; it lies between 0 and 1")
