"""The device plugin: offers a node's GPUs to its kubelet.

Place: a task of the node's runtime process, when the node has devices. Limits: all devices are always healthy, and any
of them is as good as another (no topology).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc.aio

from clusters.embedded import protos
from clusters.embedded.gpu import Device
from clusters.embedded.protos import Message

RESOURCE = "nvidia.com/gpu"
ENDPOINT = "gpulab-gpu.sock"
_log = logging.getLogger(__name__)


class DevicePlugin:
    """Offers a node's devices to its kubelet as `nvidia.com/gpu`, and again to each kubelet that comes after it."""

    def __init__(self, api: protos.Api, gpus: Sequence[Device], folder: Path) -> None:
        """Args: the device plugin API, the devices, and the kubelet's device plugin folder."""
        self._api, self._gpus, self._folder = api, tuple(gpus), folder
        self._order = {gpu.id: index for index, gpu in enumerate(gpus)}
        self._stopped = asyncio.Event()
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

    async def stop(self) -> None:
        """Ends the streams to the kubelet and the server."""
        self._stopped.set()
        if self._server is not None:
            await self._server.stop(0.5)
            self._server = None

    async def _register(self) -> bool:
        await self.stop()
        self._stopped = asyncio.Event()
        (self._folder / ENDPOINT).unlink(missing_ok=True)
        offer = self._api.handlers("DevicePlugin", self, speaker="gpulab's device plugin", codes={})
        self._server = protos.server(self._folder / ENDPOINT, offer)
        await self._server.start()
        request = self._api.RegisterRequest(version="v1beta1", endpoint=ENDPOINT, resource_name=RESOURCE)
        async with protos.channel(self._folder / "kubelet.sock") as channel:
            with contextlib.suppress(grpc.aio.AioRpcError):  # a socket that a dead kubelet left: ask again later
                await self._api.stub("Registration", channel).Register(request, timeout=5)
                _log.info("registered %d devices as %s", len(self._gpus), RESOURCE)
                return True
        return False

    async def GetDevicePluginOptions(self, _request: Message, _context: Message) -> Message:  # noqa: N802 - the API's name
        """No options: no preferred allocation, no call before a container starts."""
        return self._api.DevicePluginOptions()

    async def ListAndWatch(self, _request: Message, _context: Message) -> AsyncIterator[Any]:  # noqa: N802
        """All devices, healthy; the stream stays open until the plugin stops."""
        stopped = self._stopped
        yield self._api.ListAndWatchResponse(devices=[{"ID": gpu.id, "health": "Healthy"} for gpu in self._gpus])
        await stopped.wait()

    async def Allocate(self, request: Message, _context: Message) -> Message:  # noqa: N802
        """Names the container's devices in NVIDIA_VISIBLE_DEVICES, in the order of the node's devices."""
        answers = []
        for asked in request.container_requests:
            ids = sorted(asked.devices_ids, key=lambda id_: self._order.get(id_, len(self._order)))
            answers.append({"envs": {"NVIDIA_VISIBLE_DEVICES": ",".join(ids)}})
        return self._api.AllocateResponse(container_responses=answers)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns
