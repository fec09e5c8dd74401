"""GPU telemetry as dcgm-exporter serves it: names, labels and the text format of Prometheus.

Place: `runtime/gpus.py` serves it on port 9400 of each node with GPUs. Limits: no TLS; what is not known of a device is
not served, never a zero; DCGM's fields beyond FIELDS are not there.

Names: etc/default-counters.csv of github.com/NVIDIA/dcgm-exporter; labels and their order: its
internal/pkg/rendermetrics. Beside those, `simulated="true"` is on every series of a simulated device. The text format
is written here because prometheus_client adds `_total` to the names of counters, which DCGM's do not have.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from clusters.embedded.gpu.attribution import Holder
from clusters.embedded.gpu.devices import Device, Offer
from clusters.embedded.gpu.faults import MEANINGS, Health
from clusters.embedded.gpu.telemetry import Reading

PORT = 9400
WINDOW = 300.0
"""Seconds over which DCGM_EXP_XID_ERRORS_COUNT counts."""

_LARGEST = 8192  # bytes of a request
_PATIENCE = 5.0  # seconds for a client to send it
_MOST = 32  # connections at a time
_LINES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


class Field(msgspec.Struct, frozen=True):
    """A metric, and what of a device's reading it shows (None: not known)."""

    name: str
    kind: str
    help: str
    value: Callable[[Reading], float | None]


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100)


def _whole(value: float | None) -> float | None:
    return None if value is None else round(value)


FIELDS = (
    Field("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock in MHz", lambda each: _whole(each.sm_mhz)),
    Field("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock in MHz", lambda each: _whole(each.memory_mhz)),
    Field("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature in C", lambda each: _whole(each.celsius)),
    Field("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw in W", lambda each: each.watts),
    Field(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Energy since the start in mJ",
        lambda each: _whole(each.energy_mj),
    ),
    Field("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilisation in %", lambda each: _percent(each.utilisation)),
    Field("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Memory utilisation in %", lambda each: _percent(each.memory_copy)),
    Field("DCGM_FI_DEV_FB_FREE", "gauge", "Free framebuffer memory in MiB", lambda each: _whole(each.memory_free_mib)),
    Field("DCGM_FI_DEV_FB_USED", "gauge", "Used framebuffer memory in MiB", lambda each: _whole(each.memory_used_mib)),
    Field(
        "DCGM_FI_DEV_POWER_VIOLATION",
        "counter",
        "Time throttled by the power limit in ns",
        lambda each: _whole(each.power_violation_ns),
    ),
    Field(
        "DCGM_FI_DEV_THERMAL_VIOLATION",
        "counter",
        "Time throttled by heat in ns",
        lambda each: _whole(each.thermal_violation_ns),
    ),
    Field(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "gauge",
        "Share of time that the graphics engine is active",
        lambda each: each.engine_active,
    ),
    Field("DCGM_FI_PROF_SM_ACTIVE", "gauge", "Share of the SMs that is active", lambda each: each.sm_active),
)
"""What a reading shows; Xid errors come from a device's health."""


class Snapshot(msgspec.Struct, frozen=True):
    """A node's devices at one time.

    Attributes:
        node: its name.
        offer: its devices.
        readings: by the device's id; a device without one shows its Xid errors only.
        holders: by the unit's id.
        health: by the GPU's place on the node.
        at: seconds since 1970.
    """

    node: str
    offer: Offer
    readings: Mapping[str, Reading]
    holders: Mapping[str, Holder]
    health: Mapping[int, Health]
    at: float


def page(snapshot: Snapshot) -> str:
    """All metrics of a node's devices in the text format of Prometheus, version 0.0.4."""
    lines: list[str] = []
    series = [(device, labels) for device in snapshot.offer.devices for labels in _series(snapshot, device)]
    for field in FIELDS:
        values = [
            (labels, value)
            for device, labels in series
            if (reading := snapshot.readings.get(device.id)) and (value := field.value(reading)) is not None
        ]
        lines += _metric(field.name, field.kind, field.help, values)
    lines += _metric("DCGM_FI_DEV_XID_ERRORS", "gauge", "The last Xid error", _last_xids(snapshot, series))
    counted = list(_xid_counts(snapshot, series))
    # It falls again, and still dcgm-exporter calls it a counter.
    lines += _metric("DCGM_EXP_XID_ERRORS_COUNT", "counter", "Xid errors within the window", counted)
    return "".join(f"{line}\n" for line in lines)


Labels = dict[str, str]


def _series(snapshot: Snapshot, device: Device) -> Iterator[Labels]:
    """The labels of a device's series: one of each metric, or one for each container that shares it."""
    labels = {
        "gpu": str(device.index),
        "UUID": device.gpu,
        "pci_bus_id": device.bus,
        "device": f"nvidia{device.index}",
        "modelName": device.name,
    }
    if device.partition:
        labels |= {"GPU_I_PROFILE": device.partition.profile, "GPU_I_ID": str(device.partition.instance)}
    labels["Hostname"] = snapshot.node
    if device.simulated:
        labels["simulated"] = "true"
    held = [(unit, snapshot.holders[unit]) for unit in snapshot.offer.units_of(device) if unit in snapshot.holders]
    for unit, holder in held:
        shared = {"vgpu": unit.rpartition("::")[2]} if snapshot.offer.replicas > 1 else {}
        yield labels | {"container": holder.container, "namespace": holder.namespace, "pod": holder.pod} | shared
    if not held:
        yield labels


def _last_xids(snapshot: Snapshot, series: Sequence[tuple[Device, Labels]]) -> Iterator[tuple[Labels, float]]:
    for device, labels in series:
        last = snapshot.health[device.index].last
        meaning = MEANINGS.get(last, "Unknown Error") if last else "No Error"
        yield labels | {"err_code": str(last), "err_msg": meaning}, last


def _xid_counts(snapshot: Snapshot, series: Sequence[tuple[Device, Labels]]) -> Iterator[tuple[Labels, float]]:
    for device, labels in series:
        for xid, count in snapshot.health[device.index].counts(snapshot.at - WINDOW).items():
            yield labels | {"window_size_in_ms": str(round(WINDOW * 1000)), "xid": str(xid)}, count


def _metric(name: str, kind: str, about: str, values: Iterable[tuple[Labels, float]]) -> list[str]:
    rows = [f"{name}{{{_labels(labels)}}} {value:.10g}" for labels, value in values]
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *rows] if rows else []


def _labels(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


async def serve(address: str, port: int, metrics: Callable[[], str]) -> asyncio.Server:
    """A running server of /metrics and /health over HTTP; each connection is answered once and closed.

    More than 32 at a time are closed without an answer: pods can reach it, and its process is the node's.
    """
    connections = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            if connections <= _MOST:
                await answer(reader, writer)
        finally:
            connections -= 1
            writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            try:
                request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _PATIENCE)
                status, kind, body = _respond(request, metrics)
            except asyncio.LimitOverrunError:
                status, kind, body = 400, "text/plain", f"a request has {_LARGEST} bytes at most\n"
            text = body.encode()
            head = f"HTTP/1.1 {status} {_LINES[status]}\r\nContent-Type: {kind}; charset=utf-8\r\n"
            head += f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + text)
            await asyncio.wait_for(writer.drain(), _PATIENCE)

    return await asyncio.start_server(take, address, port, limit=_LARGEST)


def _respond(request: bytes, metrics: Callable[[], str]) -> tuple[int, str, str]:
    words = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return 400, "text/plain", "this is no HTTP request\n"
    if words[0] != "GET":
        return 405, "text/plain", "only GET is answered\n"
    match words[1].partition("?")[0]:
        case "/metrics":
            return 200, "text/plain; version=0.0.4", metrics()
        case "/health":
            return 200, "text/plain", "OK\n"
        case _:
            return 404, "text/plain", "there are /metrics and /health\n"
