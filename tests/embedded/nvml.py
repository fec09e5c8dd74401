"""A stand-in for the module `pynvml`: a machine with the GPUs that a test describes.

It has the functions that gpulab calls and no others; `test_gpu_nvml.py` holds their names and parameters against the
real module, and what they answer against real GPUs where there are any.
"""

import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml


class NVMLError(Exception):
    """What NVML raises."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


@dataclass(eq=False)
class Gpu:
    """A GPU, or a partition of one.

    `readings` are answers by the name of what they answer; a question without one is not supported.
    """

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

    def answer(self, question: str) -> Any:
        if question not in self.readings:
            raise NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return self.readings[question]


class Nvml:
    """The module. `errors` are the Xid events to come; `samples` counts the GPM samples that are not freed."""

    NVMLError = NVMLError
    NVML_SUCCESS = pynvml.NVML_SUCCESS
    NVML_ERROR_TIMEOUT = pynvml.NVML_ERROR_TIMEOUT
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU
    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_CLOCK_MEM = pynvml.NVML_CLOCK_MEM
    NVML_PERF_POLICY_POWER = pynvml.NVML_PERF_POLICY_POWER
    NVML_PERF_POLICY_THERMAL = pynvml.NVML_PERF_POLICY_THERMAL
    NVML_GPM_METRICS_GET_VERSION = pynvml.NVML_GPM_METRICS_GET_VERSION
    NVML_GPM_METRIC_GRAPHICS_UTIL = pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL
    NVML_GPM_METRIC_SM_UTIL = pynvml.NVML_GPM_METRIC_SM_UTIL
    nvmlMemory_v2 = pynvml.nvmlMemory_v2
    nvmlEventTypeXidCriticalError = pynvml.nvmlEventTypeXidCriticalError
    nvmlEventTypeClock = pynvml.nvmlEventTypeClock

    def __init__(self, *gpus: Gpu, driver: bool = True) -> None:
        self._gpus, self._driver = gpus, driver
        self.opened = self.sets = self.samples = 0
        self.watched: list[Gpu] = []
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def xid(self, gpu: Gpu, xid: int) -> None:
        """An Xid error happens."""
        event = SimpleNamespace(device=gpu, eventType=self.nvmlEventTypeXidCriticalError, eventData=xid)
        self.events.put(event)

    def nvmlInit(self) -> None:
        if not self._driver:
            raise NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        return self._gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu:
        for gpu in self._gpus:
            for each in (gpu, *gpu.parts):
                if each.uuid == uuid:
                    return each
        raise NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetMinorNumber(self, handle: Gpu) -> int:
        return handle.minor

    def nvmlDeviceGetMigMode(self, device: Gpu) -> list[int]:
        if device.mig is None:
            raise NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(device.mig), int(device.mig)]

    def nvmlDeviceGetUUID(self, handle: Gpu) -> str:
        if "lost" in handle.readings:
            raise NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Gpu) -> str:
        return handle.name

    def nvmlDeviceGetMemoryInfo(self, handle: Gpu, version: int | None = None) -> Any:
        return SimpleNamespace(total=handle.total, used=handle.used, free=handle.total - handle.used)

    def nvmlDeviceGetPciInfo(self, handle: Gpu) -> Any:
        return SimpleNamespace(busId=f"00000000:0{handle.minor}:00.0".encode())

    def nvmlDeviceGetCudaComputeCapability(self, handle: Gpu) -> tuple[int, int]:
        return (9, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, device: Gpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Gpu, index: int) -> Gpu:
        if index >= len(device.parts):
            raise NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return device.parts[index]

    def nvmlDeviceGetAttributes_v2(self, device: Gpu) -> Any:
        return SimpleNamespace(memorySizeMB=device.total >> 20, gpuInstanceSliceCount=device.slices)

    def nvmlDeviceGetGpuInstanceId(self, device: Gpu) -> int:
        return device.instance

    def nvmlDeviceGetComputeInstanceId(self, device: Gpu) -> int:
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle: Gpu) -> Any:
        gpu, memory = handle.answer("rates")
        return SimpleNamespace(gpu=gpu, memory=memory)

    def nvmlDeviceGetPowerUsage(self, handle: Gpu) -> Any:
        return handle.answer("power")

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Gpu) -> Any:
        return handle.answer("energy")

    def nvmlDeviceGetTemperature(self, handle: Gpu, sensor: int) -> Any:
        return handle.answer(f"temperature {sensor}")

    def nvmlDeviceGetClockInfo(self, handle: Gpu, type: int) -> Any:
        return handle.answer(f"clock {type}")

    def nvmlDeviceGetViolationStatus(self, device: Gpu, perfPolicyType: int) -> Any:
        return SimpleNamespace(violationTime=device.answer(f"violation {perfPolicyType}"))

    def nvmlEventSetCreate(self) -> object:
        self.sets += 1
        return object()

    def nvmlEventSetFree(self, eventSet: object) -> None:
        self.sets -= 1

    def nvmlDeviceRegisterEvents(self, handle: Gpu, eventTypes: int, eventSet: object) -> None:
        self.watched.append(handle)

    def nvmlEventSetWait(self, eventSet: object, timeoutms: int) -> Any:
        try:
            event = self.events.get(timeout=timeoutms / 1000)
        except queue.Empty:
            raise NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None
        if isinstance(event, NVMLError):
            raise event
        return event

    def nvmlGpmQueryDeviceSupport(self, device: Gpu) -> Any:
        return SimpleNamespace(isSupportedDevice=int("gpm" in device.readings))

    def nvmlGpmSampleAlloc(self) -> Any:
        self.samples += 1
        return SimpleNamespace(freed=False)

    def nvmlGpmSampleFree(self, gpmSample: Any) -> None:
        assert not gpmSample.freed
        gpmSample.freed = True
        self.samples -= 1

    def nvmlGpmSampleGet(self, device: Gpu, gpmSample: Any) -> Any:
        gpmSample.values = device.answer("gpm")
        return gpmSample

    def nvmlGpmMigSampleGet(self, device: Gpu, gpuInstanceId: int, gpmSample: Any) -> Any:
        gpmSample.values = device.answer(f"gpm {gpuInstanceId}")
        return gpmSample

    def c_nvmlGpmMetricsGet_t(self) -> Any:
        return SimpleNamespace(metrics=[SimpleNamespace(nvmlReturn=0, value=0.0) for _ in range(4)])

    def nvmlGpmMetricsGet(self, metricsGet: Any) -> Any:
        assert metricsGet.version == self.NVML_GPM_METRICS_GET_VERSION
        assert not metricsGet.sample1.freed
        for metric in metricsGet.metrics[: metricsGet.numMetrics]:
            value = metricsGet.sample2.values.get(metric.metricId)
            metric.value = value or 0.0
            metric.nvmlReturn = self.NVML_SUCCESS if value is not None else pynvml.NVML_ERROR_NOT_SUPPORTED
        return metricsGet
