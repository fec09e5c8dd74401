"""A run computed again by the grader, and how far from it is what a submission handed in. Pure.

Place: the checks compare losses, weights and draws of a run with what `truth` makes of its seeds and ledger. Limits:
weights are compared as a whole, by their largest difference and by their distance.
"""

import itertools
import math
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from ddp_lab import truth
from ddp_lab.runs import RunSpec
from ddp_lab.truth import Truth

Flat = npt.NDArray[np.float64]
MOST = 1e9


def problem(spec: RunSpec) -> truth.Problem:
    """What a run trains."""
    job = spec.job
    return truth.Problem.of(
        samples=job.samples,
        features=job.features,
        outputs=job.outputs,
        hidden=job.hidden,
        dtype=job.dtype,
        learning_rate=job.learning_rate,
        momentum=job.momentum,
        data_seed=spec.data_seed,
        weights_seed=spec.weights_seed,
    )


def replayed(spec: RunSpec, batches: Sequence[Sequence[int]], keep: Collection[int] = ()) -> Truth:
    """The losses of these steps from the first one on, and the weights after some of them and after the last."""
    return truth.replay(problem(spec), batches, keep)


def draws(spec: RunSpec, count: int) -> list[float]:
    """The first random numbers of an unbroken run."""
    return list(itertools.islice(truth.draws(spec.job.seed), count))


@np.errstate(all="ignore")
def error(spec: RunSpec, given: bytes, true: Sequence[Flat]) -> float:
    """The largest difference of any weight, in times of the largest weight; infinite for what are no weights."""
    one, other = _handed_in(spec, given), _flat(true)
    if one.size != other.size or not np.isfinite(one).all():
        return float("inf")
    return float(np.max(np.abs(one - other)) / np.max(np.abs(other)))


@np.errstate(all="ignore")
def strayed(spec: RunSpec, before: bytes, batches: Sequence[Sequence[int]], after: bytes) -> float:
    """How far weights end from where these steps of plain SGD lead, in times of how far they lead.

    Args:
        spec: of the run; its momentum is 0, as what moved before these steps is not known.
        before: weights before the first of the steps.
        batches: samples of each step.
        after: weights after the last of them.
    """
    begin = _handed_in(spec, before)
    shapes, place = [], 0
    run = problem(spec)
    for each in run.weights:
        shapes.append(begin[place : place + each.size].reshape(each.shape))
        place += each.size
    moved = truth.Problem(run.data, tuple(shapes), run.learning_rate, run.momentum)
    end = _flat(truth.replay(moved, batches).weights[len(batches) - 1])
    found = _handed_in(spec, after)
    if found.size != end.size or not np.isfinite(found).all():
        return float("inf")
    far = float(np.linalg.norm(found - end) / max(float(np.linalg.norm(end - begin)), 1e-300))
    return float("inf") if math.isnan(far) else far


@np.errstate(all="ignore")
def ways(spec: RunSpec, marks: Sequence[bytes]) -> list[float]:
    """How far weights went from one mark to the next, from the run's first weights on; infinite for what are none."""
    places = [_flat(problem(spec).weights), *(_handed_in(spec, each) for each in marks)]
    return [
        float(np.linalg.norm(there - here))
        if here.size == there.size and np.isfinite(there).all() and np.isfinite(here).all()
        else float("inf")
        for here, there in itertools.pairwise(places)
    ]


def leap(ways: Sequence[float], usual: float) -> float:
    """The longest of these ways in times of a usual one, at most MOST, as JSON has no word for infinity."""
    return min(max(ways) / max(usual, 1e-300), MOST)


def _handed_in(spec: RunSpec, raw: bytes) -> Flat:
    kind = np.dtype("<f8" if spec.job.dtype == "float64" else "<f4")
    return np.frombuffer(raw, kind).astype(np.float64)


def _flat(weights: Sequence[Flat]) -> Flat:
    return np.concatenate([np.ravel(each) for each in weights])
