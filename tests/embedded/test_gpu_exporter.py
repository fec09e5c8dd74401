"""GPU telemetry in dcgm-exporter's names, its server, and who holds a device."""

import asyncio
import re
from pathlib import Path

import grpc.aio
import msgspec
import pytest

from clusters.api import Gpus, Mig, NodeSpec
from clusters.embedded import protos
from clusters.embedded.gpu import exporter
from clusters.embedded.gpu.attribution import Holder, holders
from clusters.embedded.gpu.devices import Offer, assign
from clusters.embedded.gpu.exporter import Snapshot, page
from clusters.embedded.gpu.faults import Health
from clusters.embedded.gpu.telemetry import Reading
from clusters.embedded.protos import Api, Message
from tests.patience import PATIENCE

WELL = Health()
HOLDER = Holder("team", "train-0", "main")
LINE = re.compile(r'([A-Z_0-9a-z]+)\{((?:[A-Za-z_]+="(?:[^"\\]|\\.)*",?)+)\} (\S+)')


def offer(model: str = "NVIDIA-L4", count: int = 1, mig: Mig | None = None, replicas: int = 1) -> Offer:
    return assign([NodeSpec("n", gpus=Gpus(model, count, mig=mig, replicas=replicas, source="simulated"))], ())[0]


def snapshot(node: Offer, held: dict[str, Holder], *, health: Health = WELL, read: bool = True) -> Snapshot:
    reading = Reading(0.52, None, 0.5, 0.25, 100.4, 22933.6, 31.5, 1234567.0, 40.2, 2040.0, 6251.0, None, 0.0)
    readings = {device.id: reading for device in node.devices} if read else {}
    return Snapshot("gpu-1", node, readings, held, dict.fromkeys(range(node.gpus), health), at=1000.0)


def parsed(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Every series of a page; fails on a line that is no Prometheus text."""
    found = []
    for line in text.splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            labels = dict(re.findall(r'([A-Za-z_]+)="((?:[^"\\]|\\.)*)"', match[2]))
            found.append((match[1], labels, float(match[3])))
    return found


def test_a_device_and_its_holder_are_shown_as_dcgm_exporter_shows_them() -> None:
    node = offer()
    uuid = node.devices[0].id
    labels = (
        f'gpu="0",UUID="{uuid}",pci_bus_id="00000000:01:00.0",device="nvidia0",modelName="NVIDIA L4",Hostname="gpu-1",'
        'simulated="true",container="main",namespace="team",pod="train-0"'
    )
    assert page(snapshot(node, {uuid: HOLDER})).splitlines() == [
        "# HELP DCGM_FI_DEV_SM_CLOCK SM clock in MHz",
        "# TYPE DCGM_FI_DEV_SM_CLOCK gauge",
        f"DCGM_FI_DEV_SM_CLOCK{{{labels}}} 2040",
        "# HELP DCGM_FI_DEV_MEM_CLOCK Memory clock in MHz",
        "# TYPE DCGM_FI_DEV_MEM_CLOCK gauge",
        f"DCGM_FI_DEV_MEM_CLOCK{{{labels}}} 6251",
        "# HELP DCGM_FI_DEV_GPU_TEMP GPU temperature in C",
        "# TYPE DCGM_FI_DEV_GPU_TEMP gauge",
        f"DCGM_FI_DEV_GPU_TEMP{{{labels}}} 40",
        "# HELP DCGM_FI_DEV_POWER_USAGE Power draw in W",
        "# TYPE DCGM_FI_DEV_POWER_USAGE gauge",
        f"DCGM_FI_DEV_POWER_USAGE{{{labels}}} 31.5",
        "# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Energy since the start in mJ",
        "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter",
        f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{labels}}} 1234567",
        "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilisation in %",
        "# TYPE DCGM_FI_DEV_GPU_UTIL gauge",
        f"DCGM_FI_DEV_GPU_UTIL{{{labels}}} 52",
        "# HELP DCGM_FI_DEV_FB_FREE Free framebuffer memory in MiB",
        "# TYPE DCGM_FI_DEV_FB_FREE gauge",
        f"DCGM_FI_DEV_FB_FREE{{{labels}}} 22934",
        "# HELP DCGM_FI_DEV_FB_USED Used framebuffer memory in MiB",
        "# TYPE DCGM_FI_DEV_FB_USED gauge",
        f"DCGM_FI_DEV_FB_USED{{{labels}}} 100",
        "# HELP DCGM_FI_DEV_THERMAL_VIOLATION Time throttled by heat in ns",
        "# TYPE DCGM_FI_DEV_THERMAL_VIOLATION counter",
        f"DCGM_FI_DEV_THERMAL_VIOLATION{{{labels}}} 0",
        "# HELP DCGM_FI_PROF_GR_ENGINE_ACTIVE Share of time that the graphics engine is active",
        "# TYPE DCGM_FI_PROF_GR_ENGINE_ACTIVE gauge",
        f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{labels}}} 0.5",
        "# HELP DCGM_FI_PROF_SM_ACTIVE Share of the SMs that is active",
        "# TYPE DCGM_FI_PROF_SM_ACTIVE gauge",
        f"DCGM_FI_PROF_SM_ACTIVE{{{labels}}} 0.25",
        "# HELP DCGM_FI_DEV_XID_ERRORS The last Xid error",
        "# TYPE DCGM_FI_DEV_XID_ERRORS gauge",
        f'DCGM_FI_DEV_XID_ERRORS{{{labels},err_code="0",err_msg="No Error"}} 0',
    ]


def test_an_idle_device_names_no_pod() -> None:
    assert all("pod" not in labels for _, labels, _ in parsed(page(snapshot(offer(count=2), {}))))


def test_a_shared_device_has_a_series_for_each_who_shares_it() -> None:
    node = offer(replicas=3)
    uuid = node.devices[0].id
    held = {f"{uuid}::0": HOLDER, f"{uuid}::2": Holder("team", "other", "main")}
    found = [labels for name, labels, _ in parsed(page(snapshot(node, held))) if name == "DCGM_FI_DEV_GPU_UTIL"]
    assert [(each["pod"], each["vgpu"], each["UUID"]) for each in found] == [
        ("train-0", "0", uuid),
        ("other", "2", uuid),
    ]


def test_a_partition_is_named_by_its_gpu_its_profile_and_its_id() -> None:
    node = offer("NVIDIA-H200", mig=Mig("1g.18gb", 2))
    held = {node.devices[1].id: HOLDER}
    found = [labels for name, labels, _ in parsed(page(snapshot(node, held))) if name == "DCGM_FI_DEV_FB_USED"]
    assert [(each["GPU_I_PROFILE"], each["GPU_I_ID"], each.get("pod")) for each in found] == [
        ("1g.18gb", "1", None),
        ("1g.18gb", "2", "train-0"),
    ]
    assert {each["UUID"] for each in found} == {node.devices[0].gpu}


def test_errors_are_told_with_their_meaning_and_counted_over_five_minutes() -> None:
    health = Health(((48, 600.0), (31, 800.0), (31, 900.0)))
    found = [each for each in parsed(page(snapshot(offer(), {}, health=health))) if "XID" in each[0]]
    assert [(name, labels.get("err_code"), labels.get("err_msg"), value) for name, labels, value in found[:1]] == [
        ("DCGM_FI_DEV_XID_ERRORS", "31", "GPU memory page fault", 31.0)
    ]
    assert [(labels["xid"], labels["window_size_in_ms"], value) for _, labels, value in found[1:]] == [
        ("31", "300000", 2.0)
    ]


def test_a_device_that_cannot_be_read_shows_its_errors_only() -> None:
    found = parsed(page(snapshot(offer(), {}, health=Health(((79, 999.0),)), read=False)))
    assert [name for name, _, _ in found] == ["DCGM_FI_DEV_XID_ERRORS", "DCGM_EXP_XID_ERRORS_COUNT"]


def test_real_devices_are_not_marked_simulated() -> None:
    node = offer()
    real = Offer(tuple(msgspec.structs.replace(each, simulated=False) for each in node.devices))
    assert all("simulated" not in labels for _, labels, _ in parsed(page(snapshot(real, {}))))


def test_labels_are_escaped() -> None:
    text = page(snapshot(offer(), {offer().devices[0].id: Holder("a", 'b"c\\d\ne', "f")}))
    assert 'pod="b\\"c\\\\d\\ne"' in text
    parsed(text)


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b"numbers\n"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200 OK", b"numbers\n"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"200 OK", b"OK\n"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found", b"there are /metrics and /health\n"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405 Method Not Allowed", b"only GET is answered\n"),
        (b"\x16\x03\x01\r\n\r\n", b"400 Bad Request", b"this is no HTTP request\n"),
        (b"GET /" + b"x" * 9000, b"400 Bad Request", b"a request has 8192 bytes at most\n"),
    ],
)
def test_requests_are_answered(request_: bytes, status: bytes, body: bytes) -> None:
    async def scenario() -> bytes:
        async with await exporter.serve("127.0.0.1", 0, lambda: "numbers\n") as server, asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(request_)
            answer = await reader.read()
            writer.close()
            return answer

    head, _, said = asyncio.run(scenario()).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 " + status
    assert said == body


def test_connections_beyond_what_is_allowed_are_closed_and_silent_ones_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_PATIENCE", 0.05)

    async def scenario() -> list[bytes]:
        async with await exporter.serve("127.0.0.1", 0, lambda: "numbers\n") as server, asyncio.timeout(PATIENCE):
            address = server.sockets[0].getsockname()
            silent = [await asyncio.open_connection(*address) for _ in range(40)]
            answers = [await reader.read() for reader, _ in silent]  # ends when the server closes
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET /health HTTP/1.1\r\n\r\n")
            answers.append(await reader.read())
            for each in (*(writer for _, writer in silent), writer):
                each.close()
            return answers

    *silent, last = asyncio.run(scenario())
    assert silent == [b""] * 40
    assert last.endswith(b"OK\n")


@pytest.fixture
def api(programs: Path) -> Api:
    return protos.load(programs / "descriptors" / "podresources.binpb")


class Kubelet:
    """Answers who holds which devices."""

    def __init__(self, api: Api, pods: list[Message]) -> None:
        self._api, self._pods = api, pods

    async def List(self, _request: Message, _context: object) -> Message:  # noqa: N802 - the API's name
        return self._api.ListPodResourcesResponse(pod_resources=self._pods)


def test_the_kubelet_tells_who_holds_which_unit(api: Api, tmp_path: Path) -> None:
    held = {"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-1", "GPU-2"]}
    other = {"resource_name": "example.com/nic", "device_ids": ["nic-0"]}
    pods = [
        {"name": "p", "namespace": "n", "containers": [{"name": "a", "devices": [held, other]}, {"name": "b"}]},
        {"name": "q", "namespace": "n"},
    ]

    async def scenario() -> dict[str, Holder]:
        offered = api.handlers("PodResourcesLister", Kubelet(api, pods), speaker="the kubelet", codes={})
        server = protos.server(tmp_path / "kubelet.sock", offered)
        await server.start()
        try:
            return await holders(api, tmp_path / "kubelet.sock", "nvidia.com/gpu")
        finally:
            await server.stop(0)

    assert asyncio.run(scenario()) == {"GPU-1": Holder("n", "p", "a"), "GPU-2": Holder("n", "p", "a")}


def test_a_kubelet_that_is_not_there_is_an_error_of_grpc(api: Api, tmp_path: Path) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        asyncio.run(holders(api, tmp_path / "kubelet.sock", "nvidia.com/gpu"))
