"""A stand-in for the module `pynvml`: a machine with the GPUs that a test describes.

It has the functions that gpulab calls and no others; `test_gpu_nvml.py` holds their names and parameters against the
real module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """What NVML raises."""


@dataclass
class Gpu:
    """A GPU, or a partition of one; what is None is not supported by it."""

    uuid: str
    name: str = "NVIDIA H200"
    total: int = 143771 << 20
    used: int = 0
    minor: int = 0
    mig: bool | None = False
    parts: Sequence["Gpu"] = ()
    instance: int = 0
    slices: int = 0
    readings: Mapping[str, Any] = field(default_factory=dict)


class Nvml:
    """The module."""

    NVMLError = NVMLError

    def __init__(self, *gpus: Gpu, driver: bool = True) -> None:
        self._gpus, self._driver = gpus, driver
        self.opened = 0

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names, here and below
        if not self._driver:
            raise NVMLError("Driver Not Loaded")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        return self._gpus[index]

    def nvmlDeviceGetMinorNumber(self, handle: Gpu) -> int:  # noqa: N802
        return handle.minor

    def nvmlDeviceGetMigMode(self, device: Gpu) -> list[int]:  # noqa: N802
        if device.mig is None:
            raise NVMLError("Not Supported")
        return [int(device.mig), int(device.mig)]

    def nvmlDeviceGetUUID(self, handle: Gpu) -> str:  # noqa: N802
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Gpu) -> str:  # noqa: N802
        return handle.name

    def nvmlDeviceGetMemoryInfo(self, handle: Gpu) -> Any:  # noqa: N802
        return SimpleNamespace(total=handle.total, used=handle.used, free=handle.total - handle.used)

    def nvmlDeviceGetPciInfo(self, handle: Gpu) -> Any:  # noqa: N802
        return SimpleNamespace(busId=f"00000000:0{handle.minor}:00.0".encode())

    def nvmlDeviceGetCudaComputeCapability(self, handle: Gpu) -> tuple[int, int]:  # noqa: N802
        return (9, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, device: Gpu) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Gpu, index: int) -> Gpu:  # noqa: N802
        if index >= len(device.parts):
            raise NVMLError("Not Found")
        return device.parts[index]

    def nvmlDeviceGetAttributes_v2(self, device: Gpu) -> Any:  # noqa: N802
        return SimpleNamespace(memorySizeMB=device.total >> 20, gpuInstanceSliceCount=device.slices)

    def nvmlDeviceGetGpuInstanceId(self, device: Gpu) -> int:  # noqa: N802
        return device.instance

    def nvmlDeviceGetComputeInstanceId(self, device: Gpu) -> int:  # noqa: N802
        return 0
