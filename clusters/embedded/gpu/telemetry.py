"""What a simulated GPU would be doing, from the work of the containers that hold it: a pure model, no measurement.

Place: `simulation.py` takes a step each second with what containers have used; `exporter.py` shows the readings.
Limits: one number for a container's work, its processor time; nothing of memory bandwidth, tensor cores, PCIe or
NVLink. A clock that falls slows nothing down.

The model, for a GPU with a container that holds it and may use P cores of the machine:

    utilisation = busy cores / min(1, P), 1 at most      "a kernel runs": one busy thread is enough, as on a real GPU
    SM activity = busy cores / P, 1 at most              how much of the GPU works
    memory      = resident memory, the device's at most
    clock       = idle clock without work, else the highest, less by the thermal limit
    power       = idle + (limit - idle) * SM activity * clock / highest clock
    temperature   follows inlet + RISE * power / limit with the time constant SECONDS

A container with n GPUs spreads its work evenly over them; containers that share a GPU add up.
"""

import math
from collections.abc import Iterable

import msgspec

from clusters.embedded.gpu.models import Model

INLET = 27.0
"""°C of the air that a server takes in: the upper end of what ASHRAE recommends for data centres (TC 9.9, 2021)."""

RISE = 45.0
"""K above the inlet at the power limit. An assumption, of this model's: boards under load are usually near 70 °C."""

SECONDS = 20.0
"""Time constant of heat sink and fan. An assumption: temperatures settle within about a minute."""

LIMIT = 85.0
"""°C from which clocks fall. An assumption; boards begin between 83 and 90 °C ("GPU Max Operating Temp")."""

FALL = 0.07
"""Share of the highest clock that is lost for each K above LIMIT; an assumption."""

LOWEST = 0.3
"""Share of the highest clock that is left at worst; an assumption."""


class Usage(msgspec.Struct, frozen=True):
    """What a container has used.

    Attributes:
        id: the container's; a restarted one is another.
        cpu_seconds: processor time since its start.
        memory_bytes: resident now.
        cores: how many it may use.
    """

    id: str
    cpu_seconds: float
    memory_bytes: int
    cores: float


class Work(msgspec.Struct, frozen=True):
    """What is asked of a device: utilisation and SM activity from 0 to 1, and memory."""

    utilisation: float = 0.0
    sm_active: float = 0.0
    memory_bytes: float = 0.0


class State(msgspec.Struct, frozen=True):
    """A GPU at one time: `joules` since the start, `throttled` seconds with clocks lowered by the thermal limit."""

    celsius: float
    watts: float
    sm_mhz: float
    joules: float = 0.0
    throttled: float = 0.0


class Reading(msgspec.Struct, frozen=True):
    """What telemetry tells of one device, simulated or real; None is not known or not supported by it.

    Shares are from 0 to 1; energy is since the start of the cluster or of the driver.
    """

    utilisation: float | None = None
    memory_copy: float | None = None
    engine_active: float | None = None
    sm_active: float | None = None
    memory_used_mib: float | None = None
    memory_free_mib: float | None = None
    watts: float | None = None
    energy_mj: float | None = None
    celsius: float | None = None
    sm_mhz: float | None = None
    memory_mhz: float | None = None
    power_violation_ns: float | None = None
    thermal_violation_ns: float | None = None


def work(before: Usage | None, after: Usage, seconds: float, devices: int) -> Work:
    """What a container asked of each of the `devices` that it holds, in the `seconds` between two looks at it."""
    busy = 0.0
    if before is not None and before.id == after.id and seconds > 0:
        busy = max(0.0, after.cpu_seconds - before.cpu_seconds) / seconds / devices
    cores = max(after.cores / devices, 1e-3)
    return Work(min(1.0, busy / min(1.0, cores)), min(1.0, busy / cores), after.memory_bytes / devices)


def together(works: Iterable[Work]) -> Work:
    """What containers that share a device ask of it."""
    listed = list(works)
    return Work(
        min(1.0, sum(each.utilisation for each in listed)),
        min(1.0, sum(each.sm_active for each in listed)),
        sum(each.memory_bytes for each in listed),
    )


def whole(parts: Iterable[tuple[float, Work]]) -> Work:
    """What partitions, each with its share of the GPU, ask of the GPU together."""
    listed = list(parts)
    return Work(
        max((each.utilisation for _, each in listed), default=0.0),
        sum(share * each.sm_active for share, each in listed),
        sum(each.memory_bytes for _, each in listed),
    )


def at_rest(model: Model, inlet: float = INLET) -> State:
    """A GPU that has done nothing for long."""
    celsius = inlet + RISE * model.idle_watts / model.power_watts
    return State(celsius, model.idle_watts, model.sm_mhz[0])


def step(model: Model, state: State, asked: Work, seconds: float, inlet: float = INLET) -> State:
    """The state after `seconds` of that work, with air of `inlet` °C."""
    idle, highest = model.sm_mhz
    share = 1.0
    if asked.utilisation > 0:
        share = max(LOWEST, 1.0 - FALL * max(0.0, state.celsius - LIMIT))
    watts = model.idle_watts + (model.power_watts - model.idle_watts) * asked.sm_active * share
    settled = inlet + RISE * watts / model.power_watts
    return State(
        celsius=settled + (state.celsius - settled) * math.exp(-seconds / SECONDS),
        watts=watts,
        sm_mhz=highest * share if asked.utilisation > 0 else idle,
        joules=state.joules + watts * seconds,
        throttled=state.throttled + (seconds if share < 1 else 0.0),
    )


def reading(model: Model, state: State, asked: Work, memory_mib: float, *, partition: bool) -> Reading:
    """What telemetry tells of a device: the GPU's `state`, the work on the device and its memory.

    GPU_UTIL is not there for MIG partitions, as on real ones.
    """
    used = min(asked.memory_bytes / (1 << 20), memory_mib)
    return Reading(
        utilisation=None if partition else asked.utilisation,
        engine_active=asked.utilisation,
        sm_active=asked.sm_active,
        memory_used_mib=used,
        memory_free_mib=memory_mib - used,
        watts=state.watts,
        energy_mj=state.joules * 1e3,
        celsius=state.celsius,
        sm_mhz=state.sm_mhz,
        memory_mhz=model.memory_mhz,
        thermal_violation_ns=state.throttled * 1e9,
    )
