"""The runs of one grading: what the data service is told of each, drawn anew every time.

Place: `bench` hands a `RunSpec` to the data service before the pods of a run start. Limits: sizes are for two processor
cores; each draw is kept in the record, so that a run can be looked at again.

Why these sizes: a proof has one sample more than batches divide, so that an epoch's last step leaves all ranks but one
without any, however they split it: of two samples strided parts are equal, and the mean of their means is right. A
scaling run computes about 4.8 GFLOP a rank and step, and sends 6.3 MB from each rank. A recovery run has checkpoints of
18 MB, so that a save can be caught, and seven steps in an epoch, so that most checkpoints are in the middle of one. A
run of endurance computes about 1.6 TFLOP a rank and step, in eight pieces of 0.3 MB of samples, so that a GPU, and not
the data service, is what it waits for; it sends 64.5 MB from each rank. As GPUs take some 100,000 samples a second, its
ledger names few of them.
"""

import random
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

DrillKind = Literal["hang", "loader", "slow", "model_order", "unused", "wrong_rank", "short_timeout", "rendezvous"]
FAULTS: Mapping[DrillKind, str] = {
    "hang": "hang",
    "loader": "loader",
    "slow": "slow",
    "model_order": "model_order",
    "unused": "unused_parameter",
    "wrong_rank": "wrong_rank",
    "short_timeout": "short_timeout",
    "rendezvous": "rendezvous",
}
"""What diagnosis.json is to say of each drill."""
STEPS_AN_EPOCH = 8
"""Of trainings that are timed."""


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What pods are told of their training; the data service adds what differs between them.

    Attributes:
        samples: in the dataset.
        features: numbers of each sample.
        outputs: numbers that are to be predicted of each.
        hidden: sizes of the hidden layers.
        epochs: how often each sample is trained on.
        batch: samples of a global batch; the last one of an epoch has what is left.
        micro_batches: pieces in which each rank computes its part.
        learning_rate: of SGD.
        momentum: of SGD.
        dtype: of data and weights.
        seed: of the order of samples, and of the draws that each step makes.
        timeout_seconds: for collective operations.
        patience_seconds: what a healthy step never takes.
        checkpoint_every: steps between checkpoints; 0 for none.
        checkpoint_folder: where they belong.
        device: where models and samples are; see `placed`.
        backend: of the process group.
    """

    samples: int
    features: int
    outputs: int
    hidden: tuple[int, ...]
    epochs: int
    batch: int
    micro_batches: int
    learning_rate: float
    momentum: float
    dtype: Literal["float64", "float32"]
    seed: int
    timeout_seconds: float = 60.0
    patience_seconds: float = 5.0
    checkpoint_every: int = 0
    checkpoint_folder: str = "/checkpoints"
    device: Literal["cpu", "cuda"] = "cpu"
    backend: Literal["gloo", "nccl"] = "gloo"

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in an epoch."""
        return -(-self.samples // self.batch)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.epochs * self.steps_per_epoch

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of all layers, from the features to the outputs."""
        return (self.features, *self.hidden, self.outputs)

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum((wide + 1) * narrow for wide, narrow in zip(self.sizes, self.sizes[1:], strict=False))

    @property
    def gradient_bytes(self) -> int:
        """What one all-reduce of all gradients is about."""
        return self.parameters * self._number_bytes

    @property
    def sample_bytes(self) -> int:
        """Of one sample as it is sent."""
        return (self.features + self.outputs) * self._number_bytes

    @property
    def _number_bytes(self) -> int:
        return 8 if self.dtype == "float64" else 4


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that the data service plants: of this kind, at this rank, from this step on."""

    rank: int
    kind: DrillKind
    step: int = 0
    seconds: float = 0.0


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as `PUT /control/runs/NAME` takes it.

    Attributes:
        job: what its pods are told.
        data_seed: of the dataset.
        weights_seed: of the weights that it begins with.
        weights_at: steps after which every rank has to hand in its weights.
        until: the first step whose batches are held back until a turn is given; None for none.
        pace_seconds: the least time between the beginnings of two steps.
        brief: whether the ledger names the samples of the steps in `weights_at` only, and counts bytes of the others.
        drills: planted faults.
    """

    job: JobSpec
    data_seed: int
    weights_seed: int
    weights_at: tuple[int, ...] = ()
    until: int | None = None
    pace_seconds: float = 0.0
    brief: bool = False
    drills: tuple[Drill, ...] = ()

    def encoded(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def placed(spec: RunSpec, *, on_gpus: bool) -> RunSpec:
    """A run whose ranks all compute on GPUs, or all on processors: pods may not decide that, each for itself."""
    job = msgspec.structs.replace(spec.job, device="cuda" if on_gpus else "cpu", backend="nccl" if on_gpus else "gloo")
    return msgspec.structs.replace(spec, job=job)


def proof(draw: random.Random) -> RunSpec:
    """A small training in float64 that is replayed in one process; its weights are asked for at three steps."""
    batch, whole, epochs = 32, draw.randint(5, 7), 4
    job = JobSpec(
        samples=batch * whole + 1,
        features=16,
        outputs=4,
        hidden=(32, 24),
        epochs=epochs,
        batch=batch,
        micro_batches=2,
        learning_rate=0.05,
        momentum=0.9,
        dtype="float64",
        seed=draw.getrandbits(31),
    )
    return RunSpec(job=job, weights_at=tuple(sorted(draw.sample(range(job.steps - 1), 3))), **_seeds(draw))


def scaling(draw: random.Random, *, ranks: int, micro_batches: int, steps: int) -> RunSpec:
    """A larger training in float32 that computes only while it is its turn: the same work for each of so many ranks."""
    batch, hidden, epochs = 512 * ranks, (1024, 1024), -(-steps // STEPS_AN_EPOCH)
    job = _plain(draw, batch=batch, width=256, hidden=hidden, epochs=epochs, micro_batches=micro_batches)
    return RunSpec(job=job, until=0, **_seeds(draw))


def endurance(draw: random.Random, *, ranks: int) -> RunSpec:
    """A training in float32 that is large enough for GPUs and goes on until it is ended; few bytes a sample.

    Weights are asked for before and after a step that is drawn, early enough that handing them in is over when the GPUs
    are looked at.
    """
    micro_batches, step = 8, draw.randrange(8, 32)
    batch, hidden = micro_batches * 2048 * ranks, (4000, 4000)
    job = _plain(draw, batch=batch, width=16, hidden=hidden, epochs=10_000, micro_batches=micro_batches)
    return RunSpec(job=job, weights_at=(step - 1, step), brief=True, **_seeds(draw))


def recovery(draw: random.Random, *, epochs: int, pace_seconds: float, checkpoint_every: int) -> RunSpec:
    """A slow training with large checkpoints, whose pods are taken away."""
    job = JobSpec(
        samples=224,
        features=32,
        outputs=32,
        hidden=(1024, 1024),
        epochs=epochs,
        batch=32,
        micro_batches=1,
        learning_rate=0.05,
        momentum=0.9,
        dtype="float64",
        seed=draw.getrandbits(31),
        checkpoint_every=checkpoint_every,
    )
    return RunSpec(job=job, pace_seconds=pace_seconds, **_seeds(draw))


def drill(draw: random.Random, kind: DrillKind, *, ranks: int, timeout_seconds: float) -> RunSpec:
    """A small training in which one thing is wrong at one rank."""
    small = proof(draw)
    job = msgspec.structs.replace(small.job, timeout_seconds=timeout_seconds, epochs=8)
    # Rank 0 may stay right where ranks are counted from it, and where it is whom the others meet.
    rank = draw.randrange(1, ranks) if kind in ("wrong_rank", "rendezvous") else draw.randrange(ranks)
    seconds = {"slow": 1.5, "short_timeout": 0.2}.get(kind, 0.0)
    planted = Drill(rank=rank, kind=kind, step=draw.randint(3, 8), seconds=seconds)
    return msgspec.structs.replace(small, job=job, weights_at=(), drills=(planted,))


def _plain(
    draw: random.Random, *, batch: int, width: int, hidden: tuple[int, ...], epochs: int, micro_batches: int
) -> JobSpec:
    """Plain SGD in float32 on whole batches, of which any steps can be computed again from the weights before them."""
    return JobSpec(
        samples=batch * STEPS_AN_EPOCH,
        features=width,
        outputs=width,
        hidden=hidden,
        epochs=epochs,
        batch=batch,
        micro_batches=micro_batches,
        learning_rate=0.3,  # so large that a gradient of the epoch before leads somewhere else
        momentum=0.0,
        dtype="float32",
        seed=draw.getrandbits(31),
    )


def _seeds(draw: random.Random) -> dict[str, Any]:
    return {"data_seed": draw.getrandbits(31), "weights_seed": draw.getrandbits(31)}
