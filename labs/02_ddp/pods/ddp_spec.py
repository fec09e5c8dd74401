"""What a run of the lab is, read from the JSON that the grader sends, and what is wrong with JSON that is refused.

Place: `ddp_runs` runs what is read here, `ddp_api` reads other bodies with the same readers. Limits: standard library
only, for this runs in a pod.
"""

import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from ddp_data import DTYPES, Parameter, parameters

MAX_DATA_BYTES = 512 * 2**20
MAX_WEIGHTS_BYTES = 64 * 2**20
MAX_SEED = 2**63 - 1
DEVICES = ("cpu", "cuda")
BACKENDS = ("gloo", "nccl")
KINDS = ("hang", "loader", "slow", "model_order", "unused", "wrong_rank", "short_timeout", "rendezvous")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


class Refused(Exception):
    """A request that is not served: an HTTP status, and a sentence with what was asked and what belongs there."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def fields_of(given: object, what: str, *, need: Iterable[str], may: Iterable[str] = ()) -> Mapping[str, Any]:
    """A JSON object with these fields and no others."""
    if not isinstance(given, dict):
        raise Refused(400, f"{what} is {shown(given)}, where a JSON object belongs")
    if missing := [name for name in need if name not in given]:
        raise Refused(400, f"{what} has no {' and no '.join(missing)}; it needs {', '.join(need)}")
    if unknown := [shown(name) for name in given if name not in (*need, *may)]:
        raise Refused(400, f"{what} has {', '.join(unknown[:5])}; it may have {', '.join((*need, *may))}")
    return given


def whole(given: object, what: str, least: int, most: int) -> int:
    """A whole number in a range, ends included."""
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise Refused(400, f"{what} is {shown(given)}, where a whole number from {least} to {most} belongs")
    return given


def number(given: object, what: str, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number in a range, ends included."""
    value = math.nan
    if isinstance(given, int | float) and not isinstance(given, bool):
        with suppress(OverflowError):
            value = float(given)
    if not math.isfinite(value) or not least <= value <= most:
        span = "" if math.isinf(least) and math.isinf(most) else f" from {least:g} to {most:g}"
        raise Refused(400, f"{what} is {shown(given)}, where a finite number{span} belongs")
    return value


def text(given: object, what: str, longest: int) -> str:
    """Text that is not empty."""
    if not isinstance(given, str) or not 0 < len(given) <= longest:
        raise Refused(400, f"{what} is {shown(given)}, where text of 1 to {longest} characters belongs")
    return given


def one_of(given: object, what: str, known: Iterable[str]) -> str:
    """A word of those that are known."""
    if not isinstance(given, str) or given not in known:
        raise Refused(400, f"{what} is {shown(given)}, where one of {', '.join(known)} belongs")
    return given


def truth(given: object, what: str) -> bool:
    """Yes or no."""
    if not isinstance(given, bool):
        raise Refused(400, f"{what} is {shown(given)}, where true or false belongs")
    return given


def listed(given: object, what: str, most: int) -> list[Any]:
    """A list that is not too long."""
    if not isinstance(given, list):
        raise Refused(400, f"{what} is {shown(given)}, where a list belongs")
    if len(given) > most:
        raise Refused(400, f"{what} has {len(given)} entries, {most} at most")
    return given


def shown(given: object) -> str:
    """What came, short enough for a sentence."""
    try:
        said = repr(given)
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        said = f"an object too large to show ({type(given).__name__})"
    return said if len(said) <= 60 else f"{said[:57]}..."


def run_name(given: str) -> str:
    """A run is named as its Helm release."""
    if not _NAME.fullmatch(given):
        raise Refused(400, f"{shown(given)} is no name of a run; it has small letters, digits, - and ., 63 at most")
    return given


@dataclass(frozen=True)
class Job:
    """What is to be trained and how; the same for all processes of a run but where a drill says otherwise."""

    samples: int
    features: int
    outputs: int
    epochs: int
    batch: int
    micro_batches: int
    learning_rate: float
    momentum: float
    dtype: str
    seed: int
    timeout_seconds: float
    patience_seconds: float
    checkpoint_every: int
    checkpoint_folder: str
    hidden: tuple[int, ...]
    device: str
    backend: str

    @property
    def steps(self) -> int:
        """Updates over all epochs."""
        return self.epochs * -(-self.samples // self.batch)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Names and shapes."""
        return parameters(self.features, self.hidden, self.outputs)

    @property
    def weights_bytes(self) -> int:
        """Bytes of all parameters."""
        return sum(math.prod(shape) for _, shape in self.parameters) * DTYPES[self.dtype].itemsize

    @property
    def data_bytes(self) -> int:
        """Bytes of all samples."""
        return self.samples * (self.features + self.outputs) * DTYPES[self.dtype].itemsize

    @classmethod
    def read(cls, given: object) -> "Job":
        """From JSON; raises Refused."""
        found = fields_of(given, "job", need=[each.name for each in fields(cls)])
        samples = whole(found["samples"], "job.samples", 1, 2**24)
        hidden = listed(found["hidden"], "job.hidden", 16)
        job = cls(
            samples=samples,
            features=whole(found["features"], "job.features", 1, 2**16),
            outputs=whole(found["outputs"], "job.outputs", 1, 2**16),
            epochs=whole(found["epochs"], "job.epochs", 1, 10_000),
            batch=whole(found["batch"], "job.batch", 1, samples),
            micro_batches=whole(found["micro_batches"], "job.micro_batches", 1, 1024),
            learning_rate=number(found["learning_rate"], "job.learning_rate", 0, 1e3),
            momentum=number(found["momentum"], "job.momentum", 0, 1),
            dtype=one_of(found["dtype"], "job.dtype", DTYPES),
            seed=whole(found["seed"], "job.seed", 0, MAX_SEED),
            timeout_seconds=number(found["timeout_seconds"], "job.timeout_seconds", 0, 86400),
            patience_seconds=number(found["patience_seconds"], "job.patience_seconds", 0, 86400),
            checkpoint_every=whole(found["checkpoint_every"], "job.checkpoint_every", 0, 2**31),
            checkpoint_folder=text(found["checkpoint_folder"], "job.checkpoint_folder", 1024),
            hidden=tuple(whole(size, "a size in job.hidden", 1, 2**16) for size in hidden),
            device=one_of(found["device"], "job.device", DEVICES),
            backend=one_of(found["backend"], "job.backend", BACKENDS),
        )
        for what, bytes_, most in (
            ("data", job.data_bytes, MAX_DATA_BYTES),
            ("parameters", job.weights_bytes, MAX_WEIGHTS_BYTES),
        ):
            if bytes_ > most:
                raise Refused(400, f"the {what} of the job would be {bytes_} bytes, {most} at most; make it smaller")
        return job


@dataclass(frozen=True)
class Drill:
    """A fault that one rank of a run is to have."""

    rank: int
    kind: str
    step: int
    seconds: float

    @classmethod
    def read(cls, given: object, job: Job) -> "Drill":
        """From JSON; raises Refused."""
        found = fields_of(given, "a drill", need=("rank", "kind"), may=("step", "seconds"))
        kind = one_of(found["kind"], "a drill's kind", KINDS)
        if kind in ("slow", "short_timeout") and "seconds" not in found:
            raise Refused(400, f"a drill {kind} needs seconds")
        if kind == "model_order" and job.hidden == job.hidden[::-1]:
            raise Refused(400, f"a drill model_order changes nothing where hidden is {list(job.hidden)}")
        return cls(
            rank=whole(found["rank"], "a drill's rank", 0, 1023),
            kind=kind,
            step=whole(found.get("step", 0), "a drill's step", 0, job.steps - 1),
            seconds=number(found.get("seconds", 0.0), "a drill's seconds", 0, 86400),
        )


@dataclass(frozen=True)
class RunSpec:
    """One run as the grader wants it."""

    job: Job
    data_seed: int
    weights_seed: int
    weights_at: frozenset[int] = frozenset()
    until: int | None = None
    pace_seconds: float = 0.0
    brief: bool = False
    drills: tuple[Drill, ...] = ()

    @classmethod
    def read(cls, given: object) -> "RunSpec":
        """From JSON; raises Refused."""
        may = ("weights_at", "until", "pace_seconds", "brief", "drills")
        found = fields_of(given, "the run", need=("job", "data_seed", "weights_seed"), may=may)
        job = Job.read(found["job"])
        at = listed(found.get("weights_at", []), "weights_at", 1000)
        return cls(
            job=job,
            data_seed=whole(found["data_seed"], "data_seed", 0, MAX_SEED),
            weights_seed=whole(found["weights_seed"], "weights_seed", 0, MAX_SEED),
            weights_at=frozenset(whole(step, "a step in weights_at", 0, job.steps - 1) for step in at),
            until=read_until(found.get("until")),
            pace_seconds=number(found.get("pace_seconds", 0.0), "pace_seconds", 0, 600),
            brief=truth(found.get("brief", False), "brief"),
            drills=tuple(Drill.read(each, job) for each in listed(found.get("drills", []), "drills", 100)),
        )


def read_until(given: object) -> int | None:
    """Up to which step batches are handed out; None where that is never waited for."""
    return None if given is None else whole(given, "until", 0, 2**31)
