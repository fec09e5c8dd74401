"""The device plugin: offers a node's GPUs to its kubelet.

Place: a task of the node's runtime process, when the node has devices. Limits: one resource per node; no topology.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc.aio

from clusters.embedded import protos
from clusters.embedded.gpu.devices import Offer
from clusters.embedded.protos import Message

ENDPOINT = "gpulab-gpu.sock"
_log = logging.getLogger(__name__)


class DevicePlugin:
    """Offers a node's devices to its kubelet, and again to each kubelet that comes after it."""

    def __init__(self, api: protos.Api, offer: Offer, folder: Path) -> None:
        """Args: the device plugin API, what is offered, and the kubelet's device plugin folder."""
        self._api, self._offer, self._folder = api, offer, folder
        self._units = offer.units
        self._order = {unit: place for place, unit in enumerate(self._units)}
        self._unhealthy: frozenset[int] = frozenset()
        self._changed = asyncio.Event()
        self._stopped = False
        self._server: grpc.aio.Server | None = None

    async def run(self, interval: float = 0.05) -> None:
        """Serves and registers until cancelled; looks every `interval` s, 20 times as seldom once registered."""
        registered: tuple[int, int] | None = None
        try:
            while True:
                kubelet = _identity(self._folder / "kubelet.sock")
                # A kubelet that starts empties this folder, our socket included.
                serving = self._server is not None and (self._folder / ENDPOINT).exists()
                if kubelet is not None and (kubelet != registered or not serving):
                    registered = kubelet if await self._register() else None
                await asyncio.sleep(interval if registered is None else 20 * interval)
        finally:
            await self.stop()

    def tell(self, unhealthy: Iterable[int]) -> None:
        """Tells the kubelet which GPUs, by index on the node, have failed; all others are healthy."""
        failed = frozenset(unhealthy)
        if failed != self._unhealthy:
            self._unhealthy = failed
            self._wake()

    async def stop(self) -> None:
        """Ends the streams to the kubelet and the server."""
        self._stopped = True
        self._wake()
        if self._server is not None:
            await self._server.stop(0.5)
            self._server = None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _register(self) -> bool:
        await self.stop()
        self._stopped = False
        (self._folder / ENDPOINT).unlink(missing_ok=True)
        offer = self._api.handlers("DevicePlugin", self, speaker="gpulab's device plugin", codes={})
        self._server = protos.server(self._folder / ENDPOINT, offer)
        await self._server.start()
        options = self._api.DevicePluginOptions(get_preferred_allocation_available=True)
        request = self._api.RegisterRequest(
            version="v1beta1", endpoint=ENDPOINT, resource_name=self._offer.resource, options=options
        )
        async with protos.channel(self._folder / "kubelet.sock") as channel:
            with contextlib.suppress(grpc.aio.AioRpcError):  # a socket that a dead kubelet left: ask again later
                await self._api.stub("Registration", channel).Register(request, timeout=5)
                _log.info("registered %d devices as %s", len(self._units), self._offer.resource)
                return True
        return False

    async def GetDevicePluginOptions(self, _request: Message, _context: Message) -> Message:  # noqa: N802 - the API's name
        """It has a preference; it need not be called before a container starts."""
        return self._api.DevicePluginOptions(get_preferred_allocation_available=True)

    async def ListAndWatch(self, _request: Message, _context: Message) -> AsyncIterator[Any]:  # noqa: N802
        """All devices and their health, again whenever that changes; the stream stays open until the plugin stops."""
        while not self._stopped:
            changed = self._changed
            yield self._api.ListAndWatchResponse(
                devices=[
                    {"ID": unit, "health": "Unhealthy" if device.index in self._unhealthy else "Healthy"}
                    for unit, device in self._units.items()
                ]
            )
            await changed.wait()

    async def GetPreferredAllocation(self, request: Message, _context: Message) -> Message:  # noqa: N802
        """Units of the GPUs that the fewest share, as NVIDIA's device plugin prefers them; else in the node's order."""
        answers = []
        for asked in request.container_requests:
            chosen = self._prefer(asked.available_deviceIDs, list(asked.must_include_deviceIDs), asked.allocation_size)
            answers.append({"deviceIDs": chosen})
        return self._api.PreferredAllocationResponse(container_responses=answers)

    def _prefer(self, available: Sequence[str], chosen: list[str], size: int) -> list[str]:
        left = sorted(set(available) - set(chosen), key=self._place)
        taken = Counter(self._units[unit].id for unit in self._units if unit not in left)
        while left and len(chosen) < size:
            best = min(left, key=lambda unit: (taken[self._units[unit].id], self._place(unit)))
            left.remove(best)
            chosen.append(best)
            taken[self._units[best].id] += 1
        return chosen

    def _place(self, unit: str) -> int:
        return self._order.get(unit, len(self._order))

    async def Allocate(self, request: Message, _context: Message) -> Message:  # noqa: N802
        """Names the container's devices in NVIDIA_VISIBLE_DEVICES, in the node's order, and gives it their files."""
        answers = []
        for asked in request.container_requests:
            units = sorted(asked.devices_ids, key=self._place)
            devices = list({self._units[unit].id: self._units[unit] for unit in units}.values())
            files = dict.fromkeys(file for device in devices for file in device.files)
            answers.append(
                {
                    "envs": {"NVIDIA_VISIBLE_DEVICES": ",".join(device.id for device in devices)},
                    "devices": [{"host_path": file, "container_path": file, "permissions": "rw"} for file in files],
                }
            )
        return self._api.AllocateResponse(container_responses=answers)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns
