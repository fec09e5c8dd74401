"""The GPUs of a node: the models that are known, simulated devices, and the labels they give the node.

Place: `node.py` makes devices and labels from cluster.yaml; `runtime/device_plugin.py` offers them to the kubelet.
Limits: devices are simulated and whole (no MIG, no time slicing); one model per node.
"""

import uuid
from collections.abc import Sequence

import msgspec

from clusters.api import SpecError

_ids = uuid.UUID(
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
)  # RFC 9562's namespace for names, so ids repeat from run to run


class Model(msgspec.Struct, frozen=True):
    """What GPU feature discovery tells of a product.

    `memory_mib` is the total that NVML reports (and nvidia-smi prints), `compute` the CUDA compute capability.
    """

    memory_mib: int
    family: str
    compute: tuple[int, int]
    mig: bool


MODELS = {
    "Tesla-T4": Model(15360, "turing", (7, 5), mig=False),
    "Tesla-V100-SXM2-16GB": Model(16384, "volta", (7, 0), mig=False),
    "NVIDIA-A10G": Model(23028, "ampere", (8, 6), mig=False),
    "NVIDIA-L4": Model(23034, "ada-lovelace", (8, 9), mig=False),
    "NVIDIA-L40S": Model(46068, "ada-lovelace", (8, 9), mig=False),
    "NVIDIA-A100-SXM4-40GB": Model(40960, "ampere", (8, 0), mig=True),
    "NVIDIA-A100-SXM4-80GB": Model(81920, "ampere", (8, 0), mig=True),
    "NVIDIA-H100-80GB-HBM3": Model(81559, "hopper", (9, 0), mig=True),
    "NVIDIA-H200": Model(143771, "hopper", (9, 0), mig=True),
    "NVIDIA-B200": Model(183359, "blackwell", (10, 0), mig=True),
}
"""By product name as GPU feature discovery prints it."""


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One GPU: `id` as NVML prints its UUID, `memory_mib` in total; `simulated` when no hardware stands behind it."""

    id: str
    model: str
    memory_mib: int
    simulated: bool


def devices(node: str, model: str, count: int) -> tuple[Device, ...]:
    """The simulated devices of a node; the same node always gets the same ids.

    Raises:
        SpecError: the model is not in MODELS, or the count is below 1.
    """
    if model not in MODELS:
        raise SpecError(
            f"node {node!r} asks for GPUs of the model {model!r}, which is not known; known are: {', '.join(MODELS)}"
        )
    if count < 1:
        raise SpecError(f"node {node!r} asks for {count} GPUs; ask for at least 1, or leave `gpus` out")
    return tuple(
        Device(f"GPU-{uuid.uuid5(_ids, f'{node}/{index}')}", model, MODELS[model].memory_mib, simulated=True)
        for index in range(count)
    )


def node_labels(gpus: Sequence[Device]) -> dict[str, str]:
    """The labels that GPU feature discovery and the GPU operator give a node with these devices.

    Names: github.com/NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery. Driver and CUDA versions are left out, for
    there is no driver. `gpulab/simulated` says that no hardware stands behind the devices.
    """
    if not gpus:
        return {}
    first = gpus[0]
    labels = {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": str(len(gpus)),
        "nvidia.com/gpu.product": first.model,
        "nvidia.com/gpu.memory": str(first.memory_mib),
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/mps.capable": "false",
        "nvidia.com/vgpu.present": "false",
    }
    if model := MODELS.get(first.model):
        labels |= {
            "nvidia.com/gpu.family": model.family,
            "nvidia.com/gpu.compute.major": str(model.compute[0]),
            "nvidia.com/gpu.compute.minor": str(model.compute[1]),
            "nvidia.com/mig.capable": str(model.mig).lower(),
        }
    if any(gpu.simulated for gpu in gpus):
        labels["gpulab/simulated"] = "true"
    return labels
