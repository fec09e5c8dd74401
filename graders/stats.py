"""What numbers prove: percentiles, intervals and exact tests, each with its source. Pure.

Place: lab checks turn samples into findings with these. Limits: samples are taken as independent, except by
`effective` and `share_over_time`; requests that overlap are not quite, so thresholds need a margin. A failed request is
`math.inf` among latencies, never left out.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from graders.errors import HarnessError

Outcome = Literal["passed", "failed", "inconclusive"]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number with what it rests on.

    Attributes:
        value: the estimate; None when there are too few samples to give one.
        n: samples.
        interval: lower and upper bound; None when there are too few samples.
        confidence: exact coverage of the interval, which is at least what was asked for unless `note` says otherwise.
        note: why there is no value, or what falls short; None when nothing does.
    """

    value: float | None
    n: int
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    note: str | None = None


def nearest_rank(values: Sequence[float], p: float) -> float:
    """The ceil(p·n)-th smallest of n values (Hyndman and Fan 1996, definition 1): a value that was measured.

    Interpolating definitions turn infinities, our failures, into not-a-number. `p` is in (0, 1].

    Raises:
        HarnessError: there are no values, or p is out of range.
    """
    if not values or not 0 < p <= 1:
        raise HarnessError(f"a percentile of {len(values)} values at p={p:g} was asked for; give values and 0 < p <= 1")
    return ordered(values)[_rank(len(values), p) - 1]


def ordered(values: Sequence[float]) -> list[float]:
    """The values in ascending order; raises HarnessError for one that is not a number, which has no place in it."""
    if any(math.isnan(value) for value in values):
        raise HarnessError("one of the values is not a number; a failure counts as infinite, not as nothing")
    return sorted(values)


def smallest_n(p: float, confidence: float = 0.95, misses: int = 0) -> int:
    """Fewest samples of which at most `misses` above a bound prove, at `confidence`, that the p-quantile is below it.

    The least n with P(Binomial(n, 1-p) <= misses) <= 1 - confidence; for no misses that is p**n <= 1 - confidence
    (Wilks 1941; with misses, the early stopping rule of MLPerf LoadGen without its margin d).
    """
    _share("p", p)
    _share("confidence", confidence)
    n = misses + 1
    while binomial_cdf(misses, n, 1.0 - p) > 1.0 - confidence:
        n += 1
    return n


def percentile(values: Sequence[float], p: float, *, confidence: float = 0.95) -> Estimate:
    """Nearest-rank p-quantile with a distribution-free interval between two order statistics.

    With B ~ Binomial(n, p), the interval from the l-th to the u-th smallest value covers the quantile with probability
    P(l <= B <= u-1) (David and Nagaraja 2003, Order Statistics, section 7.1). Each tail gets half of what confidence
    leaves, where the outermost values allow that; else one tail is what its outermost value leaves, p**n or (1-p)**n,
    and the other gets the rest.

    Where the two together leave too much, not even the outermost values bound the quantile, so there is no estimate.
    """
    n, spare = len(values), 1.0 - confidence
    need = smallest_n(max(p, 1.0 - p), confidence)
    while p**need + (1.0 - p) ** need > spare:
        need += 1
    if n < need:
        return Estimate(value=None, n=n, note=f"n too small: {n} of the {need} that p{100 * p:g} needs")
    above, under = max(spare / 2, p**n), max(spare / 2, (1.0 - p) ** n)
    above, under = min(above, spare - (1.0 - p) ** n), min(under, spare - p**n)
    below = _cumulative(n, p)
    upper = next((u for u in range(1, n) if 1.0 - below[u - 1] <= above), n)
    lower = max((rank for rank in range(2, upper) if below[rank - 1] <= under), default=1)
    inside = ordered(values)
    return Estimate(
        value=inside[_rank(n, p) - 1],
        n=n,
        interval=(inside[lower - 1], inside[upper - 1]),
        confidence=below[upper - 1] - below[lower - 1],
    )


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p), by summing the exact terms."""
    if k < 0 or p >= 1.0:
        return 1.0 if k >= n else 0.0
    if p <= 0.0 or k >= n:
        return 1.0
    return min(1.0, math.fsum(_terms(min(k, n), n, p)))


def share_interval(hits: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided bounds of a share from `hits` of `n` (Clopper and Pearson 1934): coverage at least `confidence`."""
    tail = (1.0 + confidence) / 2
    return share_at_least(hits, n, confidence=tail), share_at_most(hits, n, confidence=tail)


def share_at_least(hits: int, n: int, *, confidence: float = 0.95) -> float:
    """One-sided lower Clopper-Pearson bound: the p at which `hits` or more have probability 1 - confidence."""
    _counts(hits, n)
    if hits == 0:
        return 0.0
    return _bisect(lambda p: 1.0 - binomial_cdf(hits - 1, n, p) < 1.0 - confidence)


def share_at_most(hits: int, n: int, *, confidence: float = 0.95) -> float:
    """One-sided upper Clopper-Pearson bound: the p at which `hits` or fewer have probability 1 - confidence."""
    return 1.0 - share_at_least(n - hits, n, confidence=confidence)


def decide_share(hits: int, n: int, share: float, *, confidence: float = 0.95) -> Outcome:
    """Whether a share of at least `share` is proven or refuted by `hits` of `n`, each by an exact one-sided test."""
    if n and share_at_least(hits, n, confidence=confidence) >= share:
        return "passed"
    if n and share_at_most(hits, n, confidence=confidence) < share:
        return "failed"
    return "inconclusive"


def share(hits: int, n: int, *, confidence: float = 0.95) -> Estimate:
    """The share of hits with its Clopper-Pearson interval; neither for n = 0."""
    return Estimate(
        value=hits / n if n else None,
        n=n,
        interval=share_interval(hits, n, confidence=confidence) if n else None,
        confidence=confidence,
    )


class Counts(msgspec.Struct, frozen=True):
    """Independent trials that prove as much as some outcomes in time do: from `fewest` to `most` hits of `n`."""

    fewest: int
    most: int
    n: int


def effective(outcomes: Sequence[bool], *, batches: int = 10) -> Counts:
    """What outcomes in order of time are worth, as neighbours may share their fate: one stall makes several late.

    With the means p_b of batches of m_b outcomes and the mean p of all, the design effect is

        sum of m_b · (p_b - p)**2 / (batches - 1) / (p · (1 - p)),

    about 1 for independent outcomes; n divided by it, where it is above 1, is the size of an independent sample that
    tells as much (Kish 1965, Survey Sampling, section 8.2; for exact binomial bounds Korn and Graubard 1998, Survey
    Methodology 24:193). Hits and misses that are not whole then are rounded against either claim. Fewer than two
    outcomes per batch, or only hits or misses, tell nothing of each other and count as they are.
    """
    n, hits = len(outcomes), sum(outcomes)
    if n < 2 * batches or hits in (0, n):
        return Counts(hits, hits, n)
    share, spread = hits / n, 0.0
    for number in range(batches):
        batch = outcomes[n * number // batches : n * (number + 1) // batches]
        spread += len(batch) * (sum(batch) / len(batch) - share) ** 2
    worth = math.floor(n / max(1.0, spread / (batches - 1) / (share * (1.0 - share))))
    misses = math.ceil(round((1.0 - share) * worth, 9))
    return Counts(worth - misses, math.ceil(round(share * worth, 9)), worth)


def over_time(
    outcomes: Sequence[bool], bounds: Callable[[Counts], tuple[float, float]], *, confidence: float
) -> Estimate:
    """The share of hits among outcomes in order of time, with the bounds at `confidence` of what they are worth.

    It proves a goal that its lower bound reaches, and refutes one that its upper bound does not.
    """
    n = len(outcomes)
    if not n:
        return Estimate(value=None, n=0, note="n too small: there are no outcomes")
    counts = effective(outcomes)
    if not counts.n:
        return Estimate(value=sum(outcomes) / n, n=n, note="neighbours share their fate: nothing is proven")
    note = None if counts.n == n else f"neighbours share their fate: {n} outcomes prove as much as {counts.n}"
    return Estimate(value=sum(outcomes) / n, n=n, interval=bounds(counts), confidence=confidence, note=note)


def share_over_time(outcomes: Sequence[bool], *, confidence: float = 0.95) -> Estimate:
    """`over_time` with Clopper-Pearson bounds, for one look."""
    tail = (1.0 + confidence) / 2

    def bounds(counts: Counts) -> tuple[float, float]:
        low = share_at_least(counts.fewest, counts.n, confidence=tail)
        return low, share_at_most(counts.most, counts.n, confidence=tail)

    return over_time(outcomes, bounds, confidence=confidence)


def decide(estimate: Estimate, goal: float) -> Outcome:
    """Whether the interval of an estimate proves or refutes that what it estimates is at least `goal`.

    Each is an exact one-sided test at (1 + confidence)/2 where both ends of the interval have the same chance to miss.
    """
    low, high = estimate.interval or (-math.inf, math.inf)
    return "passed" if low >= goal else "failed" if high < goal else "inconclusive"


def median_of_pairs(ratios: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Median of the ratios of interleaved pairs, with the interval that the sign test leaves.

    From the k-th smallest to the k-th largest ratio, it covers the median with probability 1 - 2·P(B <= k-1), where
    B ~ Binomial(n, 1/2) (Hollander, Wolfe and Chicken 2014, section 3.6). The largest k that keeps `confidence` is
    taken; below 6 pairs none keeps 95 %, then it is from the smallest to the largest and `note` says what that covers.
    The lower bound alone holds with confidence (1 + confidence)/2.
    """
    n = len(ratios)
    if not n:
        return Estimate(value=None, n=0, note="n too small: there are no pairs")
    inside = ordered(ratios)
    covers = {k: 1.0 - 2.0 * binomial_cdf(k - 1, n, 0.5) for k in range(1, n // 2 + 1)}
    k = max((k for k, coverage in covers.items() if coverage >= confidence), default=1)
    reached = covers.get(k, 0.0)
    note = None if reached >= confidence else f"{n} pairs reach {100 * reached:.1f} %, not {100 * confidence:g} %"
    middle = (inside[(n - 1) // 2] + inside[n // 2]) / 2
    return Estimate(value=middle, n=n, interval=(inside[k - 1], inside[n - k]), confidence=reached, note=note)


def dispersion(times: Sequence[float], start: float, end: float, width: float = 1.0) -> float | None:
    """Index of dispersion of arrivals: variance over mean of their counts in bins of `width` seconds.

    1 for a Poisson process, 0 for a constant one, above 1 for bursts (Cox and Lewis 1966, section 4.4). Whole bins from
    `start` on that end by `end` count; None with fewer than two of them or nothing in them.
    """
    bins = math.floor((end - start) / width + 1e-9)
    if bins < 2:
        return None
    counts = [0] * bins
    for each in times:
        place = math.floor((each - start) / width)
        if 0 <= place < bins:
            counts[place] += 1
    mean = sum(counts) / bins
    return sum((count - mean) ** 2 for count in counts) / (bins - 1) / mean if mean else None


def _rank(n: int, p: float) -> int:
    return max(1, math.ceil(p * n - 1e-9))  # 0.95 * 20 is a hair above 19 in floating point


def _terms(k: int, n: int, p: float) -> list[float]:
    """Binomial probabilities of 0 to k."""
    log_p, log_q, log_n = math.log(p), math.log1p(-p), math.lgamma(n + 1)
    return [
        math.exp(log_n - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q)
        for i in range(k + 1)
    ]


def _cumulative(n: int, p: float) -> list[float]:
    """P(Binomial(n, p) <= i) for i from 0 to n."""
    total, sums = 0.0, []
    for term in _terms(n, n, p):
        total += term
        sums.append(min(1.0, total))
    return sums


def _bisect(is_below: Callable[[float], bool]) -> float:
    """The point of (0, 1) up to which `is_below` holds, to the last bits of a float, rounded down."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if is_below(middle) else (low, middle)
        if high - low < 1e-12:
            break
    return low


def _counts(hits: int, n: int) -> None:
    if not 0 <= hits <= n or n == 0:
        raise HarnessError(
            f"a share of {hits} hits in {n} trials was asked for; hits are from 0 to n, and n is above 0"
        )


def _share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise HarnessError(f"a {name} of {value:g} was asked for; it lies between 0 and 1")
