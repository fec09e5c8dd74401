"""The numbers of a run from their seeds: the data to learn from, and the weights that training begins with.

Place: the data service hands these out, and the grader makes the same again for its own run (`ddp_lab.truth`). Limits:
numpy only; one kind of model, linear layers with tanh between them.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Parameter = tuple[str, tuple[int, ...]]
"""Name and shape."""
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}


@dataclass(frozen=True)
class Data:
    """What is to be learned: y from x, a row for each sample."""

    x: Array
    y: Array

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample."""
        return int(self.x.shape[1] * self.x.itemsize + self.y.shape[1] * self.y.itemsize)

    def write(self, rows: Array, to: memoryview) -> None:
        """The rows of x, then those of y; `rows` are in range and `to` has `len(rows) * row_bytes` bytes."""
        at = 0
        for values in (self.x, self.y):
            count = len(rows) * values.shape[1]
            out = np.frombuffer(to, values.dtype, count, offset=at).reshape(len(rows), values.shape[1])
            np.take(values, rows, axis=0, out=out, mode="clip")  # "raise" would go through a copy
            at += out.nbytes


def make_data(seed: int, samples: int, features: int, outputs: int, dtype: str) -> Data:
    """A teacher's answers to normal noise, computed in float64 and then rounded to `dtype`."""
    rng = np.random.default_rng(seed)
    teacher = rng.standard_normal((features, outputs))
    x = rng.standard_normal((samples, features))
    y = np.tanh(x) @ teacher / np.sqrt(features)
    return Data(x.astype(DTYPES[dtype]), y.astype(DTYPES[dtype]))


def parameters(features: int, hidden: Iterable[int], outputs: int) -> tuple[Parameter, ...]:
    """The model's parameters as torch.nn.Sequential names them, where a tanh stands after each layer but the last."""
    sizes = [features, *hidden, outputs]
    found: list[Parameter] = []
    for number, (before, after) in enumerate(itertools.pairwise(sizes)):
        found += [(f"{2 * number}.weight", (after, before)), (f"{2 * number}.bias", (after,))]
    return tuple(found)


def make_weights(seed: int, shapes: Iterable[Parameter], dtype: str) -> list[Array]:
    """The first weights, as torch.nn.Linear draws its own: uniform up to one by the root of the layer's inputs."""
    rng = np.random.default_rng(seed)
    found, bound = [], 1.0
    for _, shape in shapes:
        if len(shape) == 2:  # a bias has the bound of the weight before it
            bound = 1.0 / np.sqrt(shape[1])
        found.append(rng.uniform(-bound, bound, shape).astype(DTYPES[dtype]))
    return found


def to_bytes(weights: Iterable[Array]) -> bytes:
    """Weights as they travel: one after the other."""
    return b"".join(each.tobytes() for each in weights)


def from_bytes(raw: bytes, shapes: Sequence[Parameter], dtype: str) -> list[Array]:
    """The opposite; raises ValueError where the sizes do not fit."""
    sizes = [int(np.prod(shape)) for _, shape in shapes]
    flat = np.frombuffer(raw, DTYPES[dtype])
    if flat.size != sum(sizes):
        raise ValueError(f"{flat.size} numbers came, where {sum(sizes)} belong")
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, (_, shape) in zip(parts, shapes, strict=True)]
