"""The GPUs of a running node: offered to its kubelet, watched for faults, their telemetry served.

Place: a task of the node's runtime process, when the node has devices. Limits: faults are looked for five times a
second, telemetry is taken once a second.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc.aio
import msgspec
import pynvml

from clusters.embedded import protos
from clusters.embedded.gpu import attribution, exporter, faults, nvml, telemetry
from clusters.embedded.gpu.attribution import Holder
from clusters.embedded.gpu.nvml_watch import Watch
from clusters.embedded.gpu.simulation import Simulation
from clusters.embedded.gpu.telemetry import Reading, Usage
from clusters.embedded.runtime.config import NodeConfig
from clusters.embedded.runtime.device_plugin import DevicePlugin

LOOK = 0.2
"""Seconds between two looks for faults."""

SAMPLE = 1.0
"""Seconds between two readings."""

UsageOf = Callable[[Holder], Usage | None]
"""What a container has used; None when it does not run."""

_log = logging.getLogger(__name__)


async def serve(config: NodeConfig, usage: UsageOf, library: nvml.Library = pynvml) -> None:
    """Serves the node's GPUs until cancelled; at once done when it has none.

    Args:
        config: the node.
        usage: what a container has used.
        library: NVML, for real devices.
    """
    if not config.gpus.devices:
        return
    plugin_api = protos.load(Path(config.descriptors) / "deviceplugin.binpb")
    holders_api = protos.load(Path(config.descriptors) / "podresources.binpb")
    node = NodeGpus(config, DevicePlugin(plugin_api, config.gpus, Path(config.kubelet) / "device-plugins"), usage)
    with node.watching(library) as loops:
        async with asyncio.TaskGroup() as tasks:
            for loop in (node.plugin.run(), node.follow_faults(), node.follow_telemetry(holders_api), *loops):
                tasks.create_task(loop)
            server = await exporter.serve(config.address, exporter.PORT, node.page)
            async with server:
                await server.serve_forever()


class NodeGpus:
    """What is known of a node's GPUs, and the loops that keep it true."""

    def __init__(self, config: NodeConfig, plugin: DevicePlugin, usage: UsageOf) -> None:
        self.plugin = plugin
        self._watch: Watch | None = None
        self._config, self._usage = config, usage
        self._simulation = Simulation(config.gpus) if config.gpus.simulated else None
        self._told: tuple[faults.Event, ...] = ()
        self._seen: list[faults.Event] = []
        self._holders: Mapping[str, Holder] = {}
        self._readings: Mapping[str, Reading] = {}
        self._page = ""
        self._written = -math.inf

    def page(self) -> str:
        """The telemetry in text; written anew after LOOK only, so that those who ask often do not slow the node."""
        now = time.monotonic()
        if now - self._written >= LOOK:
            self._page, self._written = exporter.page(self.snapshot()), now
        return self._page

    def snapshot(self) -> exporter.Snapshot:
        """The devices now; one that has fallen off the bus shows its errors only."""
        offer = self._config.gpus
        health = {gpu: self._health(gpu) for gpu in range(offer.gpus)}
        lost = {device.id for device in offer.devices if health[device.index].lost}
        readings = {id_: reading for id_, reading in self._readings.items() if id_ not in lost}
        return exporter.Snapshot(self._config.name, offer, readings, self._holders, health, time.time())

    async def follow_faults(self) -> None:
        """Reads what is told of simulated faults, and tells the kubelet which devices are healthy."""
        path, size = Path(self._config.faults), 0
        while True:
            if path.is_file() and path.stat().st_size != size:
                size = path.stat().st_size
                try:
                    self._told = faults.read(path)
                except msgspec.MsgspecError as error:
                    _log.warning("%s cannot be read: %s; what was told of GPUs before still holds", path, error)
            self.plugin.tell(gpu for gpu in range(self._config.gpus.gpus) if not self._health(gpu).healthy)
            await asyncio.sleep(LOOK)

    @contextmanager
    def watching(self, library: nvml.Library) -> Iterator[list[Coroutine[None, None, None]]]:
        """With real devices NVML is open and watched; gives the loops to be run that it takes."""
        with ExitStack() as stack:
            loops = []
            if not self._config.gpus.simulated and stack.enter_context(nvml.opened(library)):
                self._watch = Watch(self._config.gpus.devices, library)
                stack.callback(self._watch.close)
                loops.append(self._follow_xids(self._watch, library))
            yield loops

    async def _follow_xids(self, watch: Watch, library: nvml.Library) -> None:
        """Takes notice of real devices' errors."""
        while True:
            try:
                found = await asyncio.to_thread(watch.xids, round(SAMPLE * 1000))
            except library.NVMLError as error:
                _log.warning("NVML cannot be asked for errors: %s", error)
                found = []
                await asyncio.sleep(SAMPLE)
            self._seen += [faults.Xid(gpu, xid, time.time()) for gpu, xid in found]

    async def follow_telemetry(self, api: protos.Api) -> None:
        """Takes a reading of each device, and asks the kubelet by the pod-resources API who holds it."""
        before = time.monotonic()
        socket = Path(self._config.kubelet) / attribution.SOCKET
        while True:
            await asyncio.sleep(SAMPLE)
            try:
                self._holders = await attribution.holders(api, socket, self._config.gpus.resource)
            except grpc.aio.AioRpcError:  # the kubelet is starting or has ended
                self._holders = {}
            now = time.monotonic()
            self._readings = await self._read(now - before)
            before = now

    async def _read(self, seconds: float) -> Mapping[str, Reading]:
        if self._watch is not None:
            return await asyncio.to_thread(self._watch.read)
        if self._simulation is None:  # real devices whose driver has gone
            return {}
        found = {holder: self._usage(holder) for holder in set(self._holders.values())}
        usages = {holder: usage for holder, usage in found.items() if usage is not None}
        return self._simulation.step(self._holders, usages, seconds, faults.inlet(self._told, telemetry.INLET))

    def _health(self, gpu: int) -> faults.Health:
        return faults.health([*self._told, *self._seen], gpu)
