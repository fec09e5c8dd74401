"""The device plugin, with a fake kubelet on the other side of its sockets."""

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from clusters.embedded import protos
from clusters.embedded.gpu import devices
from clusters.embedded.protos import Api, Message
from clusters.embedded.runtime.device_plugin import DevicePlugin

GPUS = devices("node-1", "NVIDIA-L4", 3)


@pytest.fixture(scope="module")
def api(descriptors: Path) -> Api:
    return protos.load(descriptors / "deviceplugin.binpb")


class Kubelet:
    """Takes registrations, and empties its folder when it starts, as the kubelet does."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.registered: asyncio.Queue[Message] = asyncio.Queue()

    async def __aenter__(self) -> "Kubelet":
        for left in self.folder.iterdir():
            left.unlink()
        offer = self.api.handlers("Registration", self, speaker="the kubelet", codes={})
        self.server = protos.server(self.folder / "kubelet.sock", offer)
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop(0)

    async def Register(self, request: Message, _context: object) -> Message:  # noqa: N802 - the API's name
        self.registered.put_nowait(request)
        return self.api.Empty()


def test_devices_are_registered_listed_and_allocated(api: Api, tmp_path: Path) -> None:
    async def scenario() -> tuple[Message, Message, Message]:
        task = asyncio.create_task(DevicePlugin(api, GPUS, tmp_path).run(interval=0.002))
        async with Kubelet(api, tmp_path) as kubelet, asyncio.timeout(5):
            registration = await kubelet.registered.get()
            async with protos.channel(tmp_path / registration.endpoint) as channel:
                plugin = api.stub("DevicePlugin", channel)
                stream = plugin.ListAndWatch(api.Empty())
                listed = await stream.read()
                asked = [{"devices_ids": [GPUS[2].id, GPUS[0].id]}, {"devices_ids": [GPUS[1].id]}]
                given = await plugin.Allocate(api.AllocateRequest(container_requests=asked))
                task.cancel()
                assert await stream.read() is grpc.aio.EOF
        await asyncio.gather(task, return_exceptions=True)
        return registration, listed, given

    registration, listed, given = asyncio.run(scenario())
    assert (registration.version, registration.resource_name) == ("v1beta1", "nvidia.com/gpu")
    assert [(each.ID, each.health) for each in listed.devices] == [(gpu.id, "Healthy") for gpu in GPUS]
    assert [dict(each.envs) for each in given.container_responses] == [
        {"NVIDIA_VISIBLE_DEVICES": f"{GPUS[0].id},{GPUS[2].id}"},
        {"NVIDIA_VISIBLE_DEVICES": GPUS[1].id},
    ]


def test_every_new_kubelet_gets_them(api: Api, tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        task = asyncio.create_task(DevicePlugin(api, GPUS, tmp_path).run(interval=0.002))
        endpoints = []
        for _ in range(3):
            async with Kubelet(api, tmp_path) as kubelet, asyncio.timeout(5):
                endpoints.append((await kubelet.registered.get()).endpoint)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return endpoints

    assert asyncio.run(scenario()) == ["gpulab-gpu.sock"] * 3


def test_a_socket_that_a_dead_kubelet_left_is_no_error(api: Api, tmp_path: Path) -> None:
    async def scenario() -> str:
        (tmp_path / "kubelet.sock").touch()
        task = asyncio.create_task(DevicePlugin(api, GPUS, tmp_path).run(interval=0.002))
        async with asyncio.timeout(5):
            while not (tmp_path / "gpulab-gpu.sock").exists():
                await asyncio.sleep(0.002)
            async with Kubelet(api, tmp_path) as kubelet:
                name = (await kubelet.registered.get()).resource_name
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return str(name)

    assert asyncio.run(scenario()) == "nvidia.com/gpu"
