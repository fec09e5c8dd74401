"""The devices of a node and what it offers of them: whole, as MIG partitions, or several times (time-slicing).

Place: backend.py checks what cluster.yaml asks for; node.py gives each node its devices and labels; the device plugin
(`runtime/device_plugin.py`) offers them to the kubelet. Limits: a node's devices are of one model, all offered in one
way, and either all real or all simulated.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from clusters.api import Gpus, NodeSpec, SpecError
from clusters.embedded.gpu.models import MODELS, SLICES, profiles

GPU = "nvidia.com/gpu"
_ids = uuid.UUID(
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
)  # RFC 9562's namespace for names, so ids repeat from run to run


class Partition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes a device a MIG partition.

    Attributes:
        profile: as in 1g.10gb.
        instance: the GPU instance's id.
        gpu: UUID of the GPU that it is a part of.
        gpu_memory_mib: that GPU's memory.
        share: its part of that GPU's multiprocessors, 0 to 1.
    """

    profile: str
    instance: int
    gpu: str
    gpu_memory_mib: int
    share: float


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One GPU or one partition of a GPU.

    Attributes:
        id: its UUID as NVML prints it, GPU-... or MIG-...
        name: the product as NVML prints it.
        memory_mib: in total.
        simulated: no hardware stands behind it.
        index: its GPU's place on the node, from 0.
        bus: PCI bus id of its GPU.
        compute: CUDA compute capability.
        mig_capable: whether its GPU can be partitioned.
        partition: None for a whole GPU.
        files: device files that a container needs to use it.
    """

    id: str
    name: str
    memory_mib: int
    simulated: bool
    index: int
    bus: str
    compute: tuple[int, int]
    mig_capable: bool
    partition: Partition | None = None
    files: tuple[str, ...] = ()

    @property
    def product(self) -> str:
        """The product as GPU feature discovery prints it."""
        return "-".join(re.sub(r"[^\w. -]", "", self.name, flags=re.ASCII).split())

    @property
    def gpu(self) -> str:
        """UUID of the GPU that it is, or is a part of."""
        return self.partition.gpu if self.partition else self.id


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node offers: its devices, each `replicas` times, as `nvidia.com/gpu.shared` when `renamed`."""

    devices: tuple[Device, ...] = ()
    replicas: int = 1
    renamed: bool = False

    @property
    def resource(self) -> str:
        """The name by which pods ask for one unit, with the `mixed` MIG strategy's names for partitions."""
        partition = self.devices[0].partition if self.devices else None
        if partition:
            return f"nvidia.com/mig-{partition.profile.replace('+', '.')}"
        return f"{GPU}.shared" if self.renamed else GPU

    @property
    def units(self) -> dict[str, Device]:
        """What the kubelet counts, by id: the devices, or `<id>::<replica>` as NVIDIA's device plugin writes it."""
        if self.replicas == 1:
            return {device.id: device for device in self.devices}
        return {f"{device.id}::{replica}": device for device in self.devices for replica in range(self.replicas)}

    def units_of(self, device: Device) -> list[str]:
        """The ids of the units that a device is offered as."""
        return [unit for unit, each in self.units.items() if each.id == device.id]

    @property
    def gpus(self) -> int:
        """How many GPUs there are, whole or in parts."""
        return len({device.gpu for device in self.devices})

    @property
    def simulated(self) -> bool:
        """Whether no hardware stands behind it."""
        return any(device.simulated for device in self.devices)


def kind(offers: Sequence[Offer]) -> Literal["none", "simulated", "real"]:
    """What a cluster's traits say of its GPUs: "real" when all that are offered are."""
    some = [offer for offer in offers if offer.devices]
    if not some:
        return "none"
    return "simulated" if any(offer.simulated for offer in some) else "real"


def check(node: NodeSpec) -> None:
    """Raises SpecError when a node asks for GPUs that cannot be."""
    gpus, name = node.gpus, node.name
    if gpus is None:
        return
    if gpus.model not in MODELS:
        raise SpecError(
            f"node {name!r} asks for GPUs of the model {gpus.model!r}, which is not known; known are: "
            f"{', '.join(MODELS)}"
        )
    if gpus.count < 1:
        raise SpecError(f"node {name!r} asks for {gpus.count} GPUs; ask for at least 1, or leave `gpus` out")
    if gpus.replicas < 1:
        raise SpecError(f"node {name!r} shares each GPU {gpus.replicas} times; `replicas` is at least 1")
    if gpus.rename_by_default and gpus.replicas == 1:
        raise SpecError(
            f"node {name!r} sets `renameByDefault`, which names GPUs that are shared; set `replicas` to 2 or more too"
        )
    if gpus.mig and gpus.replicas > 1:
        raise SpecError(f"node {name!r} asks for both `mig` and `replicas`; choose one way to divide its GPUs")
    if gpus.mig:
        _check_mig(name, gpus)


def _check_mig(node: str, gpus: Gpus) -> None:
    asked = gpus.mig
    known = profiles(MODELS[gpus.model])
    if asked is None:
        return
    if not known:
        able = ", ".join(product for product, model in MODELS.items() if model.mig_gb)
        raise SpecError(
            f"node {node!r} asks for MIG partitions of {gpus.model}, which has none; models with MIG are: {able}"
        )
    if asked.profile not in known:
        raise SpecError(
            f"node {node!r} asks for the MIG profile {asked.profile!r}, which {gpus.model} does not have; "
            f"it has: {', '.join(known)}"
        )
    if not 1 <= asked.count <= known[asked.profile].most:
        raise SpecError(
            f"node {node!r} asks for {asked.count} partitions {asked.profile} on each GPU; "
            f"{gpus.model} holds 1 to {known[asked.profile].most} of them"
        )


def assign(nodes: Sequence[NodeSpec], found: Sequence[Device]) -> tuple[Offer, ...]:
    """What each node offers: real devices first where there are enough for all that it asks for, else simulated ones.

    The same nodes and devices always give the same answer. A node's model counts for simulated devices only.

    Args:
        nodes: the cluster's nodes, in the order in which they joined.
        found: the machine's real devices, whole ones and partitions.

    Raises:
        SpecError: what a node asks for cannot be, or it insists on real devices and there are too few.
    """
    free, offers = list(found), []
    for node in nodes:
        check(node)
        if node.gpus is None:
            offers.append(Offer())
            continue
        real = _real(node.gpus, free) if node.gpus.source != "simulated" else ()
        if not real and node.gpus.source == "real":
            raise SpecError(
                f"node {node.name!r} insists on real GPUs ({_asked(node.gpus)}), but NVML finds {len(free)} that no "
                "other node has and none of them fit; let `source` be any or simulated, or ask for what there is"
            )
        free = [device for device in free if device not in real]
        devices = _numbered(real) or simulated(node.name, node.gpus)
        offers.append(Offer(devices, node.gpus.replicas, node.gpus.rename_by_default))
    return tuple(offers)


def _asked(gpus: Gpus) -> str:
    return f"{gpus.count} with {gpus.mig.count} partitions {gpus.mig.profile} each" if gpus.mig else f"{gpus.count}"


def _real(gpus: Gpus, free: Sequence[Device]) -> tuple[Device, ...]:
    """As many free devices as are asked for, of one product; none when there are too few."""
    profile = gpus.mig.profile if gpus.mig else None
    wanted = gpus.count * (gpus.mig.count if gpus.mig else 1)
    fit = [device for device in free if (device.partition.profile if device.partition else None) == profile]
    for product in dict.fromkeys(device.name for device in fit):
        same = [device for device in fit if device.name == product]
        if len(same) >= wanted:
            return tuple(same[:wanted])
    return ()


def _numbered(devices: Sequence[Device]) -> tuple[Device, ...]:
    """The devices with the places that their GPUs have on the node."""
    places = {gpu: index for index, gpu in enumerate(dict.fromkeys(device.gpu for device in devices))}
    return tuple(msgspec.structs.replace(device, index=places[device.gpu]) for device in devices)


def simulated(node: str, gpus: Gpus) -> tuple[Device, ...]:
    """Simulated devices of a node; the same node always gets the same ids."""
    model = MODELS[gpus.model]
    profile = profiles(model)[gpus.mig.profile] if gpus.mig else None
    devices = []
    for index in range(gpus.count):
        whole = Device(
            id=f"GPU-{uuid.uuid5(_ids, f'{node}/{index}')}",
            name=model.name,
            memory_mib=model.memory_mib,
            simulated=True,
            index=index,
            bus=f"00000000:{index + 1:02X}:00.0",
            compute=model.compute,
            mig_capable=model.mig_gb is not None,
        )
        if gpus.mig is None or profile is None:
            devices.append(whole)
            continue
        devices += [
            msgspec.structs.replace(
                whole,
                id=f"MIG-{uuid.uuid5(_ids, f'{node}/{index}/{instance}')}",
                memory_mib=model.memory_mib * profile.eighths // 8,
                partition=Partition(gpus.mig.profile, instance, whole.id, model.memory_mib, profile.slices / SLICES),
            )
            for instance in range(1, gpus.mig.count + 1)
        ]
    return tuple(devices)


def node_labels(offer: Offer) -> dict[str, str]:
    """The labels that GPU feature discovery and the GPU operator give a node with these devices.

    Names and rules: github.com/NVIDIA/k8s-device-plugin, internal/lm/resource.go and mig-strategy.go (strategy `mixed`
    for partitions). Driver and CUDA versions are left out. `gpulab/simulated` says that no hardware is behind them.
    """
    if not offer.devices:
        return {}
    first = offer.devices[0]
    labels = {
        f"{GPU}.present": "true",
        **_base(GPU, first.product, offer.gpus, offer),
        f"{GPU}.memory": str(first.partition.gpu_memory_mib if first.partition else first.memory_mib),
        f"{GPU}.mode": "compute",
        f"{GPU}.compute.major": str(first.compute[0]),
        f"{GPU}.compute.minor": str(first.compute[1]),
        "nvidia.com/mig.capable": str(first.mig_capable).lower(),
        "nvidia.com/mps.capable": "false",
        "nvidia.com/vgpu.present": "false",
    }
    if family := FAMILIES.get(first.compute):
        labels[f"{GPU}.family"] = family
    if first.partition:
        product = f"{first.product}-MIG-{first.partition.profile}"
        labels |= {
            "nvidia.com/mig.strategy": "mixed",
            f"{GPU}.replicas": "0",  # GPUs in parts are not offered whole
            **_base(offer.resource, product, len(offer.devices), Offer()),
            f"{offer.resource}.memory": str(first.memory_mib),
            f"{offer.resource}.slices.gi": str(round(first.partition.share * SLICES)),
        }
    if offer.simulated:
        labels["gpulab/simulated"] = "true"
    return labels


def _base(resource: str, product: str, count: int, offer: Offer) -> Mapping[str, str]:
    shared = offer.replicas > 1
    return {
        f"{resource}.product": f"{product}-SHARED" if shared and not offer.renamed else product,
        f"{resource}.count": str(count),
        f"{resource}.replicas": str(offer.replicas),
        f"{resource}.sharing-strategy": "time-slicing" if shared else "none",
    }


FAMILIES = {model.compute: model.family for model in MODELS.values()}
"""Names of architectures by compute capability."""
