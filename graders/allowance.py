"""What a submission's chart values may set and how much they may use, judged before anything is installed. Pure.

Place: labs join values with `layered`, refuse what is not the learner's with `strangers` and what costs too much with
`overdrawn`. Limits: it reads values, not what runs; a chart with a closed schema makes nothing of values unknown to it.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kubernetes.utils import parse_quantity

from graders.errors import SubmissionError

Path = tuple[str, ...]
_PERCENT = re.compile(r"[0-9]{1,9}%")


class Use(NamedTuple):
    """How much of something values ask for, and how much the lab gives; both in the unit that `what` names."""

    what: str
    used: float
    given: float


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """One set of values of several: the later one wins, mappings are joined, as Helm joins its values files."""
    joined: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            before = joined.get(key)
            both = isinstance(before, Mapping) and isinstance(value, Mapping)
            joined[key] = layered(before, value) if both else value  # type: ignore[arg-type]  # both are mappings
    return joined


def strangers(values: Mapping[str, Any], free: Sequence[Path], fixed: Mapping[str, Any]) -> list[str]:
    """Names of the values that a submission sets and may not, as in `engine.extraArgs`.

    Args:
        values: the submission's.
        free: paths of what it may set, with all that is below them.
        fixed: what the lab sets; saying the same is no change.
    """
    return [".".join(path) for path, value in _leaves(values) if not _allowed(path, value, free, fixed)]


def overdrawn(uses: Sequence[Use]) -> list[Use]:
    """What is used beyond what is given."""
    return [use for use in uses if not use.used <= use.given]


def quantity(value: object, what: str) -> float:
    """A Kubernetes quantity, as in 500m or 2Gi, as a number; raises SubmissionError for anything else."""
    try:
        found = float(parse_quantity(value))
    except (ValueError, TypeError) as error:
        raise SubmissionError(f"{what} is {value!r}, which is no quantity such as 500m or 2Gi; correct it") from error
    if not math.isfinite(found) or found < 0:
        raise SubmissionError(f"{what} is {value!r}, where a quantity is a number from 0 on; correct it")
    return found


def surge(replicas: int, most: object, what: str) -> int:
    """How many pods an upgrade may add: a number, or percent of the replicas, which Kubernetes rounds up.

    Raises:
        SubmissionError: it is neither.
    """
    if isinstance(most, int) and not isinstance(most, bool):
        return most
    if isinstance(most, str) and _PERCENT.fullmatch(most):
        return math.ceil(replicas * int(most[:-1]) / 100)
    raise SubmissionError(f"{what} is {most!r}, where a number of pods or a percentage such as 25% belongs; correct it")


def at(values: Mapping[str, Any], *path: str) -> object:
    """What values say there; None where they say nothing."""
    found: object = values
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def number(values: Mapping[str, Any], *path: str) -> float:
    """The number that values say there; raises SubmissionError for anything else."""
    found = at(values, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise SubmissionError(f"{'.'.join(path)} is {found!r}, where a number belongs; correct it")
    return float(found)


def says(values: Mapping[str, Any], *path: str) -> bool:
    """Whether values say something there, be it that there is nothing."""
    found: object = values
    for key in path:
        if not isinstance(found, Mapping):
            return True
        if key not in found:
            return False
        found = found[key]
    return True


def most(values: Mapping[str, Any], resource: str) -> float:
    """The larger one of request and limit of a container's resource; 0 where there is neither."""
    asked = {f"resources.{kind}.{resource}": at(values, "resources", kind, resource) for kind in ("requests", "limits")}
    return max((quantity(value, what) for what, value in asked.items() if value is not None), default=0.0)


def _leaves(values: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in values.items():
        path = (*above, str(key))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def _allowed(path: Path, value: object, free: Sequence[Path], fixed: Mapping[str, Any]) -> bool:
    return any(path[: len(each)] == each for each in free) or _says_the_same(path, value, fixed)


def _says_the_same(path: Path, value: object, fixed: Mapping[str, Any]) -> bool:
    found: Any = fixed
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            return False
        found = found[key]
    return bool(found == value)
