"""What GPUs did over time, as a run's record keeps it: looks at each node's exporter, and their format. Pure.

Place: `gpu_recorder` writes looks, the report reads them. Limits: DCGM's names, from its exporter or one that takes its
place; utilisation, memory and power only; what an exporter does not tell of a device is None, never zero.
"""

import math
from collections.abc import Iterator

import msgspec

from graders.lines import headed, refuse_format
from graders.metrics import Labels, Metrics
from graders.sampler import brief

FORMAT = "gpulab/gpus/v1"
UTILISATION, ACTIVE = "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
MEMORY, POWER = "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_POWER_USAGE"
XID = "DCGM_FI_DEV_XID_ERRORS"
"""Also told of a device that tells nothing else any more, so that it is seen to be there."""
NAMES = frozenset((UTILISATION, ACTIVE, MEMORY, POWER, XID))


class Gpu(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One device at one look.

    Attributes:
        gpu: its place on the node, as its driver counts.
        uuid: of the GPU, or of the GPU that it is a partition of.
        model: the product's name.
        partition: profile and id of a MIG partition; None for a whole GPU.
        simulated: whether its exporter says that no hardware stands behind it.
        held_by: the pods that hold it, as namespace/name.
        utilisation: percent; of a partition, for which DCGM has none, the share of time with work on its engines.
        memory_mib: in use.
        watts: power; of a partition that of its whole GPU.
    """

    gpu: str
    uuid: str
    model: str = ""
    partition: str | None = None
    simulated: bool = False
    held_by: tuple[str, ...] = ()
    utilisation: float | None = None
    memory_mib: float | None = None
    watts: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether any figure was told."""
        return not (self.utilisation is None and self.memory_mib is None and self.watts is None)


class Look(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node's exporter told once, at a time in seconds since the epoch, or why it told nothing.

    A failure holds until the next look at that node: the same one is not written again.
    """

    at: float
    node: str
    gpus: tuple[Gpu, ...] = ()
    failure: str | None = None


class _Header(msgspec.Struct, frozen=True):
    format: str


def gpus_of(text: str) -> tuple[Gpu, ...]:
    """The devices of an exporter's page, in its order; one that several pods share comes once.

    Raises:
        ValueError: it is no page in Prometheus' text format.
    """
    metrics = Metrics.parse(brief(text, NAMES))
    devices: dict[tuple[str, str, str], list[Labels]] = {}
    for series in metrics.values.values():
        for labels in series:
            devices.setdefault(_device(dict(labels)), []).append(labels)
    return tuple(_gpu(several, metrics) for several in devices.values())


def decode(content: bytes) -> list[Look]:
    """The looks of a file, in order; raises HarnessError for anything else."""
    header, looks = headed(content, _Header, Look, what="looks at GPUs", remedy="grade again")
    refuse_format(header.format, FORMAT)
    return looks


def _device(labels: dict[str, str]) -> tuple[str, str, str]:
    return labels.get("gpu", "?"), labels.get("UUID", ""), labels.get("GPU_I_ID", "")


def _gpu(several: list[Labels], metrics: Metrics) -> Gpu:
    """The device that these series are of."""
    told = dict(several[0])
    profile, instance = told.get("GPU_I_PROFILE"), told.get("GPU_I_ID")
    active = _value(metrics, ACTIVE, several)
    utilisation = _value(metrics, UTILISATION, several)
    if utilisation is None and active is not None:
        utilisation = round(100 * active, 2)
    return Gpu(
        gpu=told.get("gpu", "?"),
        uuid=told.get("UUID", ""),
        model=told.get("modelName", ""),
        partition=f"{profile} ({instance})" if profile else None,
        simulated=told.get("simulated") == "true",
        held_by=tuple(dict.fromkeys(_holders(several))),
        utilisation=utilisation,
        memory_mib=_value(metrics, MEMORY, several),
        watts=_value(metrics, POWER, several),
    )


def _holders(several: list[Labels]) -> Iterator[str]:
    for labels in map(dict, several):
        if labels.get("pod"):
            yield f"{labels.get('namespace', '')}/{labels['pod']}"


def _value(metrics: Metrics, name: str, several: list[Labels]) -> float | None:
    """The first finite value of a metric in these series, to hundredths; who share a device are told the same."""
    found = metrics.values.get(name, {})
    return next((round(found[labels], 2) for labels in several if math.isfinite(found.get(labels, math.nan))), None)
