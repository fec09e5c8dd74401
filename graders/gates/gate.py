"""What a gate found.

Place: `structure` and `measured` return gates, `matrix` and `gpulab verify` show them. Limits: data only.
"""

from collections.abc import Iterable
from typing import Self

import msgspec


def counted(count: int, what: str) -> str:
    """A number of things: 1 node, 2 nodes."""
    return f"{count} {what}{'' if count == 1 else 's'}"


class Gate(msgspec.Struct, frozen=True):
    """One gate: what it is called, what it looked at, and what is wrong, a sentence each."""

    name: str
    seen: str
    mistakes: tuple[str, ...]

    @classmethod
    def over(cls, name: str, seen: str, count: int, mistakes: Iterable[str], *, nothing: str) -> Self:
        """A gate that looked at `count` things; one that found nothing to prove fails with the sentence `nothing`."""
        found = tuple(mistakes)
        return cls(name, seen, found or (() if count else (nothing,)))

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.mistakes
