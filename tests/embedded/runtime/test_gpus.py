"""A node's GPUs at work: faults and errors reach the kubelet, holders and readings the telemetry."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from clusters.api import ClusterSpec, Gpus, NodeSpec
from clusters.embedded import protos
from clusters.embedded.gpu import faults, nvml
from clusters.embedded.gpu.attribution import SOCKET, Holder
from clusters.embedded.gpu.devices import Offer, assign
from clusters.embedded.gpu.telemetry import INLET, Usage
from clusters.embedded.protos import Api, Message
from clusters.embedded.runtime import gpus, server
from clusters.embedded.runtime.config import NodeConfig
from tests.embedded.nvml import Gpu, Nvml, NVMLError
from tests.patience import PATIENCE

SPEC = ClusterSpec(nodes=(NodeSpec("n", gpus=Gpus("NVIDIA-L4", 2, source="simulated")),))
OFFER = assign(SPEC.nodes, ())[0]
HOLDER = Holder("default", "p", "main")


class Plugin:
    """Notes what the kubelet would be told."""

    def __init__(self) -> None:
        self.unhealthy: list[int] | None = None

    def tell(self, unhealthy: Any) -> None:
        self.unhealthy = list(unhealthy)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second between two looks."""
    monkeypatch.setattr(gpus, "LOOK", 0.002)
    monkeypatch.setattr(gpus, "SAMPLE", 0.002)


@pytest.fixture
def api(descriptors: Path) -> Api:
    return protos.load(descriptors / "podresources.binpb")


def config(folder: Path, offer: Offer) -> NodeConfig:
    (folder / SOCKET).parent.mkdir(parents=True)
    (folder / "nodes" / "n").mkdir(parents=True)
    return NodeConfig(
        name="n",
        socket="",
        pods="",
        logs="",
        state="",
        descriptors="",
        images="",
        streaming="",
        launch="",
        shm="",
        kubelet=str(folder),
        gpus=offer,
        faults=str(faults.file(folder, "n")),
    )


async def until(done: Callable[[], bool], *loops: Awaitable[None]) -> None:
    """Runs the loops until `done`, 5 s at most."""
    tasks = [asyncio.ensure_future(each) for each in loops]
    try:
        async with asyncio.timeout(PATIENCE):
            while not done():
                await asyncio.sleep(0.002)
                for task in tasks:
                    if task.done():
                        task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_what_is_injected_reaches_the_kubelet_and_so_does_what_is_healed(tmp_path: Path) -> None:
    async def scenario() -> None:
        plugin = Plugin()
        node = gpus.NodeGpus(config(tmp_path, OFFER), plugin, lambda _: None)  # type: ignore[arg-type]  # a stand-in
        await until(lambda: plugin.unhealthy == [], node.follow_faults())
        faults.inject(tmp_path, SPEC, "n", 1, 48)
        await until(lambda: plugin.unhealthy == [1], node.follow_faults())
        faults.heal(tmp_path, SPEC, "n", 1)
        await until(lambda: plugin.unhealthy == [], node.follow_faults())
        assert node.snapshot().health[1] == faults.Health()

    asyncio.run(scenario())


def test_a_file_of_faults_that_is_spoilt_is_said_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        plugin = Plugin()
        node = gpus.NodeGpus(config(tmp_path, OFFER), plugin, lambda _: None)  # type: ignore[arg-type]  # a stand-in
        Path(faults.file(tmp_path, "n")).write_text('{"event":"xid"}\n')
        await until(lambda: plugin.unhealthy == [] and bool(caplog.records), node.follow_faults())

    asyncio.run(scenario())
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{faults.file(tmp_path, 'n')} cannot be read: Object missing required field `gpu`; "
        "what was told of GPUs before still holds"
    )


class Kubelet:
    """Tells that the container HOLDER holds some devices."""

    def __init__(self, api: Api, held: list[str]) -> None:
        self._api, self._held = api, held

    async def List(self, _request: Message, _context: object) -> Message:  # noqa: N802 - the API's name
        devices = [{"resource_name": "nvidia.com/gpu", "device_ids": self._held}]
        pod = {"name": "p", "namespace": "default", "containers": [{"name": "main", "devices": devices}]}
        return self._api.ListPodResourcesResponse(pod_resources=[pod])


def test_telemetry_follows_holders_and_their_work(api: Api, tmp_path: Path) -> None:
    seconds = 0.0

    def usage(holder: Holder) -> Usage:
        nonlocal seconds
        seconds += 1000.0  # more than any machine has time for between two looks
        assert holder == HOLDER
        return Usage("c", seconds, 50 << 20, 4.0)

    async def scenario() -> None:
        node = gpus.NodeGpus(config(tmp_path, OFFER), Plugin(), usage)  # type: ignore[arg-type]  # a stand-in
        first, second = (device.id for device in OFFER.devices)
        await until(lambda: first in node.snapshot().readings, node.follow_telemetry(api))
        assert node.snapshot().holders == {}  # no kubelet yet
        kubelet = Kubelet(api, [first])
        offered = api.handlers("PodResourcesLister", kubelet, speaker="the kubelet", codes={})
        lister = protos.server(tmp_path / SOCKET, offered)
        await lister.start()
        await until(lambda: node.snapshot().readings[first].utilisation == 1.0, node.follow_telemetry(api))
        found = node.snapshot()
        assert found.holders == {first: HOLDER}
        assert (found.readings[first].memory_used_mib, found.readings[second].utilisation) == (50.0, 0.0)
        assert (found.readings[second].celsius or 0) >= INLET
        await until(lambda: f'pod="{HOLDER.pod}"' in node.page())
        faults.inject(tmp_path, SPEC, "n", 0, 79)
        await until(lambda: set(node.snapshot().readings) == {second}, node.follow_faults())
        assert node.snapshot().health[0].last == 79
        await lister.stop(0)

    asyncio.run(scenario())


def test_a_node_whose_gpus_cannot_be_served_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks() -> None:
        raise OSError("the port is taken")

    async def scenario() -> None:
        stop = asyncio.Event()
        part = server._begin(breaks(), stop)
        async with asyncio.timeout(PATIENCE):
            await stop.wait()
        assert part.done()

    asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == ["a part of this node failed, so it ends"]


def test_errors_of_real_devices_reach_the_kubelet(tmp_path: Path) -> None:
    one, other = Gpu("GPU-a"), Gpu("GPU-b", minor=1)
    library = Nvml(one, other)
    offer = assign(SPEC.nodes, nvml.find(library, tmp_path))[0]
    assert offer.simulated  # as the spec says, whatever there is
    real = assign([NodeSpec("n", gpus=Gpus("NVIDIA-L4", 2))], nvml.find(library, tmp_path))[0]

    async def scenario() -> None:
        plugin = Plugin()
        node = gpus.NodeGpus(config(tmp_path, real), plugin, lambda _: None)  # type: ignore[arg-type]  # a stand-in
        with node.watching(library) as loops:
            library.events.put(NVMLError(pynvml.NVML_ERROR_UNKNOWN))  # passes
            library.xid(other, 31)
            library.xid(other, 94)
            await until(lambda: plugin.unhealthy == [1], node.follow_faults(), *loops)
        assert [xid for xid, _ in node.snapshot().health[1].xids] == [31, 94]

    asyncio.run(scenario())
    assert (library.opened, library.sets) == (0, 0)
