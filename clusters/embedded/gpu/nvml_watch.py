"""What real GPUs do, and when they fail, through NVML.

Place: `runtime/gpus.py` reads and watches the real devices of its node. Limits: SM and graphics activity come from GPM,
which is there from Hopper on, as the mean between two reads; elsewhere they are not known. A read takes milliseconds, a
wait for errors as long as it is told: both belong into a thread.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pynvml

from clusters.embedded.gpu.devices import Device
from clusters.embedded.gpu.nvml import Handle, Library
from clusters.embedded.gpu.telemetry import Reading

Value = TypeVar("Value")

_MIB = 1 << 20


class Watch:
    """Some real devices, while NVML is open (`nvml.opened`)."""

    def __init__(self, devices: Sequence[Device], library: Library = pynvml) -> None:
        self._library = library
        self._devices = tuple(devices)
        self._handles = {gpu: library.nvmlDeviceGetHandleByUUID(gpu) for gpu in {each.gpu for each in devices}}
        self._parts = {each.id: library.nvmlDeviceGetHandleByUUID(each.id) for each in devices if each.partition}
        self._samples: dict[str, Any] = {}
        self._events = library.nvmlEventSetCreate()
        for handle in self._handles.values():
            self._maybe(library.nvmlDeviceRegisterEvents, handle, library.nvmlEventTypeXidCriticalError, self._events)

    def close(self) -> None:
        """Gives back what NVML holds for it."""
        for sample in self._samples.values():
            self._library.nvmlGpmSampleFree(sample)
        self._samples.clear()
        self._library.nvmlEventSetFree(self._events)

    def read(self) -> dict[str, Reading]:
        """The reading of each device, by its id."""
        return {device.id: self._read(device) for device in self._devices}

    def xids(self, milliseconds: int) -> list[tuple[int, int]]:
        """The Xid errors of the next event within that time, as the GPU's place on the node and the code.

        One whose GPU cannot be told counts for all of them, as NVIDIA's device plugin does it.

        Raises:
            NVMLError: NVML cannot be asked.
        """
        library = self._library
        try:
            event = library.nvmlEventSetWait(self._events, milliseconds)
        except library.NVMLError as error:
            if error.value == library.NVML_ERROR_TIMEOUT:
                return []
            raise
        if event.eventType != library.nvmlEventTypeXidCriticalError:
            return []
        uuid = self._maybe(library.nvmlDeviceGetUUID, event.device)
        places = {device.index for device in self._devices if uuid in (None, device.gpu)}
        return [(place, int(event.eventData)) for place in sorted(places)]

    def _read(self, device: Device) -> Reading:
        library, gpu = self._library, self._handles[device.gpu]
        part = self._parts.get(device.id, gpu)
        rates = None if device.partition else self._maybe(library.nvmlDeviceGetUtilizationRates, gpu)
        memory = self._maybe(library.nvmlDeviceGetMemoryInfo, part, library.nvmlMemory_v2)
        watts = self._maybe(library.nvmlDeviceGetPowerUsage, gpu)
        engine, sm = self._activity(device, gpu)
        return Reading(
            utilisation=rates.gpu / 100 if rates else None,
            memory_copy=rates.memory / 100 if rates else None,
            engine_active=engine,
            sm_active=sm,
            memory_used_mib=memory.used / _MIB if memory else None,
            memory_free_mib=memory.free / _MIB if memory else None,
            watts=None if watts is None else watts / 1000,
            energy_mj=self._maybe(library.nvmlDeviceGetTotalEnergyConsumption, gpu),
            celsius=self._maybe(library.nvmlDeviceGetTemperature, gpu, library.NVML_TEMPERATURE_GPU),
            sm_mhz=self._maybe(library.nvmlDeviceGetClockInfo, gpu, library.NVML_CLOCK_SM),
            memory_mhz=self._maybe(library.nvmlDeviceGetClockInfo, gpu, library.NVML_CLOCK_MEM),
            power_violation_ns=self._violation(gpu, library.NVML_PERF_POLICY_POWER),
            thermal_violation_ns=self._violation(gpu, library.NVML_PERF_POLICY_THERMAL),
        )

    def _violation(self, gpu: Handle, policy: int) -> float | None:
        found = self._maybe(self._library.nvmlDeviceGetViolationStatus, gpu, policy)
        return None if found is None else float(found.violationTime)

    def _activity(self, device: Device, gpu: Handle) -> tuple[float | None, float | None]:
        """Shares of the time that the graphics engine and of the SMs that were busy since the last read."""
        library, part = self._library, device.partition
        support = self._maybe(library.nvmlGpmQueryDeviceSupport, gpu)
        if support is None or not support.isSupportedDevice:
            return None, None
        before, after = self._samples.pop(device.id, None), library.nvmlGpmSampleAlloc()
        try:
            if part:
                library.nvmlGpmMigSampleGet(gpu, part.instance, after)
            else:
                library.nvmlGpmSampleGet(gpu, after)
            self._samples[device.id] = after
            return self._compare(before, after) if before is not None else (None, None)
        except library.NVMLError:
            return None, None
        finally:
            for sample in (before, after):
                if sample is not None and sample is not self._samples.get(device.id):
                    library.nvmlGpmSampleFree(sample)

    def _compare(self, before: Any, after: Any) -> tuple[float | None, float | None]:  # noqa: ANN401 - NVML's samples
        library = self._library
        wanted = library.c_nvmlGpmMetricsGet_t()
        wanted.version = library.NVML_GPM_METRICS_GET_VERSION
        wanted.numMetrics = 2
        wanted.sample1, wanted.sample2 = before, after
        wanted.metrics[0].metricId = library.NVML_GPM_METRIC_GRAPHICS_UTIL
        wanted.metrics[1].metricId = library.NVML_GPM_METRIC_SM_UTIL
        library.nvmlGpmMetricsGet(wanted)
        found = wanted.metrics[:2]
        engine, sm = (each.value / 100 if each.nvmlReturn == library.NVML_SUCCESS else None for each in found)
        return engine, sm

    def _maybe(self, ask: Callable[..., Value], *arguments: object) -> Value | None:
        """The answer; None when the device does not support the question, or cannot be asked any more."""
        try:
            return ask(*arguments)
        except self._library.NVMLError:
            return None
