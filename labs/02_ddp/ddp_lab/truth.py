"""The grader's own run: what one process would compute from the samples that a run read, in float64.

Place: the lab's checks compare losses, weights and draws of a run with it. Limits: numpy, no torch; linear layers with
tanh between, the mean squared error, and SGD with momentum as torch.optim.SGD does it. `draws` knows torch's generator
for CPUs only.
"""

import importlib.util
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import ddp_data
else:

    def _load(name: str) -> object:
        """A module of the pods, whose folder is on no path of the harness; the data service has the same one."""
        if name not in sys.modules:
            file = Path(__file__).parents[1] / "pods" / f"{name}.py"
            spec = importlib.util.spec_from_file_location(name, file)
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]

    ddp_data = _load("ddp_data")

Array = npt.NDArray[np.float64]
PIECE = 4096
"""Samples that are computed at once: of a wide layer more would fill the memory."""


@dataclass(frozen=True)
class Problem:
    """What is trained: all that a run's seeds and sizes decide."""

    data: ddp_data.Data
    weights: tuple[Array, ...]
    """At the beginning, a layer's weight and its bias in turn."""
    learning_rate: float
    momentum: float

    @classmethod
    def of(
        cls,
        *,
        samples: int,
        features: int,
        outputs: int,
        hidden: Sequence[int],
        dtype: str,
        learning_rate: float,
        momentum: float,
        data_seed: int,
        weights_seed: int,
    ) -> "Problem":
        """As the data service makes it, so rounded to `dtype`; the arithmetic afterwards is float64."""
        data = ddp_data.make_data(data_seed, samples, features, outputs, dtype)
        shapes = ddp_data.parameters(features, hidden, outputs)
        weights = ddp_data.make_weights(weights_seed, shapes, dtype)
        return cls(
            data=ddp_data.Data(data.x.astype(np.float64), data.y.astype(np.float64)),
            weights=tuple(each.astype(np.float64) for each in weights),
            learning_rate=learning_rate,
            momentum=momentum,
        )


@dataclass(frozen=True)
class Truth:
    """What a run must come to."""

    losses: tuple[float, ...]
    """Of each step's global batch, before its update."""
    weights: dict[int, tuple[Array, ...]]
    """After the updates of the steps that were asked for, and of the last one."""


def replay(problem: Problem, batches: Sequence[Sequence[int]], keep: Collection[int] = ()) -> Truth:
    """Trains on these global batches in order, a step each.

    Args:
        problem: data, first weights and rates.
        batches: the samples of each step.
        keep: steps after which the weights are wanted.
    """
    weights = [each.copy() for each in problem.weights]
    moving = [np.zeros_like(each) for each in weights]
    losses, kept = [], {}
    for step, batch in enumerate(batches):
        rows = np.asarray(batch, np.intp)
        if not rows.size:
            raise ValueError(f"step {step} has no samples; the mean over none is nothing")
        loss, gradients = loss_and_gradients(weights, problem.data.x[rows], problem.data.y[rows])
        losses.append(loss)
        moving = [problem.momentum * m + g for m, g in zip(moving, gradients, strict=True)]
        weights = [w - problem.learning_rate * m for w, m in zip(weights, moving, strict=True)]
        if step in keep or step == len(batches) - 1:
            kept[step] = tuple(weights)
    return Truth(tuple(losses), kept)


def loss_and_gradients(weights: Sequence[Array], x: Array, y: Array) -> tuple[float, list[Array]]:
    """The mean squared error over samples and outputs, and how it changes with each parameter."""
    if len(x) > PIECE:
        loss, found = 0.0, [np.zeros_like(each) for each in weights]
        for at in range(0, len(x), PIECE):
            share = len(x[at : at + PIECE]) / len(x)
            part, gradients = loss_and_gradients(weights, x[at : at + PIECE], y[at : at + PIECE])
            loss += share * part
            for total, each in zip(found, gradients, strict=True):
                total += share * each
        return loss, found
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    inputs = [x]
    for weight, bias in layers[:-1]:
        inputs.append(np.tanh(inputs[-1] @ weight.T + bias))
    error = inputs[-1] @ layers[-1][0].T + layers[-1][1] - y
    back = 2.0 * error / error.size
    found = []
    for (weight, _), entered in zip(layers[::-1], inputs[::-1], strict=True):
        found = [back.T @ entered, back.sum(axis=0), *found]
        back = (back @ weight) * (1.0 - entered**2)
    return float(np.mean(error**2)), found


def draws(seed: int) -> Iterator[float]:
    """What torch.rand(()) gives again and again after torch.manual_seed(seed), on a CPU: float32, 24 bits of a word."""
    generator = np.random.RandomState(seed & 0xFFFFFFFF)
    while True:
        for word in generator.randint(0, 2**32, size=64, dtype=np.uint32):
            yield (int(word) & 0xFFFFFF) * 2.0**-24
