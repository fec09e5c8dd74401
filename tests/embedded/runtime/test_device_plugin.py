"""The device plugin, with a fake kubelet on the other side of its sockets."""

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from clusters.api import Gpus, NodeSpec
from clusters.embedded import protos
from clusters.embedded.gpu.devices import Device, Offer, assign
from clusters.embedded.protos import Api, Message
from clusters.embedded.runtime.device_plugin import DevicePlugin
from tests.patience import PATIENCE

OFFER = assign([NodeSpec("node-1", gpus=Gpus("NVIDIA-L4", 3, source="simulated"))], ())[0]
GPUS = OFFER.devices
SHARED = assign([NodeSpec("node-1", gpus=Gpus("NVIDIA-L4", 2, replicas=3, source="simulated"))], ())[0]


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
        task = asyncio.create_task(DevicePlugin(api, OFFER, tmp_path).run(interval=0.002))
        async with Kubelet(api, tmp_path) as kubelet, asyncio.timeout(PATIENCE):
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
        task = asyncio.create_task(DevicePlugin(api, OFFER, tmp_path).run(interval=0.002))
        endpoints = []
        for _ in range(3):
            async with Kubelet(api, tmp_path) as kubelet, asyncio.timeout(PATIENCE):
                endpoints.append((await kubelet.registered.get()).endpoint)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return endpoints

    assert asyncio.run(scenario()) == ["gpulab-gpu.sock"] * 3


def test_a_socket_that_a_dead_kubelet_left_is_no_error(api: Api, tmp_path: Path) -> None:
    async def scenario() -> str:
        (tmp_path / "kubelet.sock").touch()
        task = asyncio.create_task(DevicePlugin(api, OFFER, tmp_path).run(interval=0.002))
        async with asyncio.timeout(PATIENCE):
            while not (tmp_path / "gpulab-gpu.sock").exists():
                await asyncio.sleep(0.002)
            async with Kubelet(api, tmp_path) as kubelet:
                name = (await kubelet.registered.get()).resource_name
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return str(name)

    assert asyncio.run(scenario()) == "nvidia.com/gpu"


def test_a_failed_gpu_is_told_to_the_kubelet_and_so_is_its_recovery(api: Api, tmp_path: Path) -> None:
    async def scenario() -> list[list[str]]:
        plugin = DevicePlugin(api, SHARED, tmp_path)
        task = asyncio.create_task(plugin.run(interval=0.002))
        told: list[list[str]] = []
        async with Kubelet(api, tmp_path) as kubelet, asyncio.timeout(PATIENCE):
            registration = await kubelet.registered.get()
            async with protos.channel(tmp_path / registration.endpoint) as channel:
                stream = api.stub("DevicePlugin", channel).ListAndWatch(api.Empty())
                for unhealthy in ((), (1,), (0, 1), ()):
                    plugin.tell(iter(unhealthy))
                    plugin.tell(iter(unhealthy))  # no news, so the kubelet is not told again
                    told.append([each.health for each in (await stream.read()).devices])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return told

    good, bad = ["Healthy"] * 3, ["Unhealthy"] * 3
    assert asyncio.run(scenario()) == [good + good, good + bad, bad + bad, good + good]


def test_units_of_the_gpus_that_the_fewest_share_are_preferred(api: Api, tmp_path: Path) -> None:
    units = list(SHARED.units)
    asked = [
        {"available_deviceIDs": units, "allocation_size": 2},
        {"available_deviceIDs": units[1:], "allocation_size": 1},
        {"available_deviceIDs": units, "must_include_deviceIDs": [units[0]], "allocation_size": 3},
        {"available_deviceIDs": units[:1], "allocation_size": 2},
    ]
    plugin = DevicePlugin(api, SHARED, tmp_path)
    request = api.PreferredAllocationRequest(container_requests=asked)
    answer = asyncio.run(plugin.GetPreferredAllocation(request, None))
    assert [list(each.deviceIDs) for each in answer.container_responses] == [
        [units[0], units[3]],
        [units[3]],
        [units[0], units[3], units[1]],
        [units[0]],
    ]


def test_units_of_one_gpu_are_one_device_and_files_are_handed_over(api: Api, tmp_path: Path) -> None:
    files = ("/dev/nvidiactl", "/dev/nvidia0")
    gpu = Device(
        "GPU-1", "NVIDIA L4", 1, simulated=False, index=0, bus="", compute=(8, 9), mig_capable=False, files=files
    )
    plugin = DevicePlugin(api, Offer((gpu,), replicas=2), tmp_path)
    request = api.AllocateRequest(container_requests=[{"devices_ids": ["GPU-1::1", "GPU-1::0"]}])
    (given,) = asyncio.run(plugin.Allocate(request, None)).container_responses
    assert dict(given.envs) == {"NVIDIA_VISIBLE_DEVICES": "GPU-1"}
    assert [(each.host_path, each.container_path, each.permissions) for each in given.devices] == [
        (file, file, "rw") for file in files
    ]
