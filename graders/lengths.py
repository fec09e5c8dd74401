"""How long prompts and answers are: distributions of token counts, drawn by inversion. Pure.

Place: workloads name one for prompts and one for answers. Limits: fixed, uniform, log-normal. Each length takes one
random number, so that another distribution of the same stream shifts nothing.
"""

import math
import random
import sys
from dataclasses import dataclass
from statistics import NormalDist

from graders.errors import HarnessError


@dataclass(frozen=True)
class Fixed:
    """Always so many tokens."""

    tokens: int

    def __post_init__(self) -> None:
        _ordered("a fixed length", self.tokens, self.tokens)

    def draw(self, draws: random.Random) -> int:
        """A length in tokens."""
        draws.random()
        return self.tokens


@dataclass(frozen=True)
class Uniform:
    """Any number of tokens from `low` to `high`, both included, with the same probability."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _ordered("a uniform length", self.low, self.high)

    def draw(self, draws: random.Random) -> int:
        """A length in tokens."""
        return self.low + int(draws.random() * (self.high - self.low + 1))


@dataclass(frozen=True)
class Lognormal:
    """Log-normal with this median and this standard deviation of the logarithm, truncated to `low` up to `high`.

    Truncated, not clipped: nothing heaps up at the ends. By inversion of the normal distribution between the two ends
    (Devroye 1986, II.2), rounded to whole tokens. Raises HarnessError where the ends leave nothing.
    """

    median: float
    sigma: float
    low: int
    high: int

    def __post_init__(self) -> None:
        _ordered("a log-normal length", self.low, self.high)
        if not (self.median > 0 and self.sigma > 0):
            raise HarnessError(
                f"a log-normal length was asked for with a median of {self.median:g} and a sigma of {self.sigma:g}; "
                "both must be above 0"
            )
        low, high = self._ends()
        if not high > low:
            raise HarnessError(
                f"a log-normal length of median {self.median:g} and sigma {self.sigma:g} is never from {self.low} to "
                f"{self.high} tokens; give ends around the median"
            )

    def draw(self, draws: random.Random) -> int:
        """A length in tokens."""
        low, high = self._ends()
        share = low + draws.random() * (high - low)
        share = min(max(share, sys.float_info.min), 1 - sys.float_info.epsilon)  # inv_cdf has no value at 0 and 1
        tokens = round(math.exp(self._normal().inv_cdf(share)))
        return min(max(tokens, self.low), self.high)

    def _normal(self) -> NormalDist:
        return NormalDist(math.log(self.median), self.sigma)

    def _ends(self) -> tuple[float, float]:
        normal = self._normal()
        return normal.cdf(math.log(self.low - 0.5)), normal.cdf(math.log(self.high + 0.5))


Lengths = Fixed | Uniform | Lognormal


def _ordered(what: str, low: int, high: int) -> None:
    if not 1 <= low <= high:
        raise HarnessError(f"{what} was asked for from {low} to {high} tokens; give at least 1, the smaller one first")
