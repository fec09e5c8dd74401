"""Rounds of looks at exporters that answer, fall silent, lie and come back, and the record of a run with them."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes
import msgspec
import pytest
import urllib3.exceptions

from clusters.wait import until
from graders import gpu_recorder
from graders.gpu_recorder import FEW_NODES, NODES_SECONDS, PAGE_BYTES, GpuRecorder, Rounds, pause
from graders.gpu_telemetry import FORMAT, Gpu, Look, decode
from graders.record import NotWritten, Record
from graders.stored import StoredRun
from tests.graders.api_server import Api
from tests.patience import PATIENCE

PAGE = 'DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="GPU-a",simulated="true"}} {}\n'
NODES, EXPORTER = "/api/v1/nodes", "/api/v1/nodes/{}:9400/proxy/metrics"
UNAVAILABLE = "its exporter did not answer: 503 Service Unavailable"
GONE = "the cluster has no GPU there any more"


class Cluster:
    """The two calls that are made, as the client has them: `pages` by node, an exception where there is none."""

    def __init__(self, **pages: str | bytes | Exception) -> None:
        self.pages = pages
        self.nodes: list[dict[str, Any]] | Exception | None = None
        self.looked_for_nodes = 0
        self.now = 100.0

    def list_node(self, **_: Any) -> Any:
        self.looked_for_nodes += 1
        if isinstance(self.nodes, Exception):
            raise self.nodes
        items = [node(name) for name in self.pages] if self.nodes is None else self.nodes
        return urllib3.HTTPResponse(json.dumps({"items": items}).encode())

    def connect_get_node_proxy_with_path(self, name: str, path: str, **_: Any) -> Any:
        assert path == "metrics"
        page = self.pages[name.removesuffix(":9400")]
        if isinstance(page, Exception):
            raise page
        whole = io.BytesIO(page.encode() if isinstance(page, str) else page)
        return urllib3.HTTPResponse(whole, preload_content=False)


def node(name: str, **capacity: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"capacity": {"cpu": "2", **(capacity or {"nvidia.com/gpu": "2"})}}}


def refused(status: int = 503, reason: str = "Service Unavailable") -> Exception:
    error: Exception = kubernetes.client.ApiException(status=status, reason=reason)
    return error


def rounds(cluster: Cluster) -> tuple[Callable[[], None], list[Look]]:
    """Goes round once, a second after the round before, and what it told."""
    told: list[Look] = []
    found = Rounds(cluster, told.append, clock=lambda: cluster.now)

    def go() -> None:
        found.go()
        cluster.now += 1.0

    return go, told


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    found = Record(tmp_path / "run")
    yield found
    found.close()


def at(moment: float, busy: float, name: str = "gpu-1") -> Look:
    return Look(at=moment, node=name, gpus=(Gpu(gpu="0", uuid="GPU-a", simulated=True, utilisation=busy),))


def test_every_node_with_gpus_is_asked_and_no_other() -> None:
    pages = {name: PAGE.format(3) for name in ("whole", "shared", "mig")}
    cluster = Cluster(**pages)
    cluster.nodes = [
        node("system", cpu="2"),
        node("none", **{"nvidia.com/gpu": "0"}),
        node("whole"),
        node("shared", **{"nvidia.com/gpu.shared": "6"}),
        node("mig", **{"nvidia.com/mig-1g.10gb": "7"}),
        {"metadata": {"name": "new"}},
    ]
    go, told = rounds(cluster)
    go()
    assert told == [at(100.0, 3, "whole"), at(100.0, 3, "shared"), at(100.0, 3, "mig")]


def test_an_exporter_that_falls_silent_is_said_once_until_it_tells_again() -> None:
    cluster = Cluster(**{"gpu-1": PAGE.format(90)})
    go, told = rounds(cluster)
    go()
    cluster.pages["gpu-1"] = refused()
    go()
    go()
    cluster.pages["gpu-1"] = urllib3.exceptions.ReadTimeoutError(None, "/", "it took too long")  # type: ignore[arg-type]
    go()
    cluster.pages["gpu-1"] = PAGE.format(5)
    go()
    assert told == [
        at(100.0, 90),
        Look(at=101.0, node="gpu-1", failure=UNAVAILABLE),
        Look(at=103.0, node="gpu-1", failure="its exporter did not answer: nothing came within 2 s"),
        at(104.0, 5),
    ]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (
            'DCGM_FI_DEV_GPU_UTIL{gpu="0"} busy\n',
            "its exporter's answer cannot be read: could not convert string to float: 'busy'",
        ),
        (b"#" * (PAGE_BYTES + 1), f"its exporter told more than {PAGE_BYTES} bytes"),
        (ConnectionResetError(104, "Connection reset by peer"), "its exporter did not answer: ConnectionResetError"),
        (urllib3.exceptions.ProtocolError("at 0x7f2c"), "its exporter did not answer: ProtocolError"),
        (refused(404, "Not Found"), "its exporter did not answer: 404 Not Found"),
    ],
)
def test_whatever_an_exporter_does_is_a_look(page: str | bytes | Exception, said: str) -> None:
    go, told = rounds(Cluster(**{"gpu-1": page}))
    go()
    assert told == [Look(at=100.0, node="gpu-1", failure=said)]


def test_nodes_that_come_and_go_are_noticed() -> None:
    cluster = Cluster(**{"gpu-1": PAGE.format(1)})
    go, told = rounds(cluster)
    go()
    cluster.pages = {"gpu-2": PAGE.format(2)}
    cluster.now = 100.0 + NODES_SECONDS
    go()
    cluster.pages = {"gpu-1": PAGE.format(3)}
    cluster.now = 100.0 + 2 * NODES_SECONDS
    go()
    assert told == [
        at(100.0, 1),
        Look(at=115.0, node="gpu-1", failure=GONE),
        at(115.0, 2, "gpu-2"),
        Look(at=130.0, node="gpu-2", failure=GONE),
        at(130.0, 3),
    ]


def test_nodes_are_looked_for_now_and_then_and_after_a_failure() -> None:
    cluster = Cluster(**{"gpu-1": PAGE.format(1)})
    go, _ = rounds(cluster)
    for _ in range(5):
        go()
    assert cluster.looked_for_nodes == 1
    cluster.pages["gpu-1"] = refused()
    go()
    go()
    assert cluster.looked_for_nodes == 2
    cluster.pages["gpu-1"] = PAGE.format(1)
    cluster.now += NODES_SECONDS
    go()
    go()
    assert cluster.looked_for_nodes == 3


def test_an_api_server_that_does_not_tell_nodes_is_asked_again() -> None:
    cluster = Cluster(**{"gpu-1": PAGE.format(1)})
    told: list[Look] = []
    found = Rounds(cluster, told.append, clock=lambda: cluster.now)
    cluster.nodes = refused(500, "Internal Server Error")
    found.go()
    assert (told, found.nodes) == ([], 0)
    assert found.trouble == "the API server did not tell the nodes: 500 Internal Server Error"
    cluster.nodes = None
    found.go()
    assert (told, found.nodes) == ([at(100.0, 1)], 1)
    assert found.trouble is None


def test_nothing_is_told_after_the_end() -> None:
    told: list[Look] = []
    answers = iter([False, False, True])
    cluster = Cluster(**{"gpu-1": PAGE.format(1), "gpu-2": PAGE.format(2)})
    Rounds(cluster, told.append, clock=lambda: cluster.now, ended=lambda: next(answers)).go()
    assert told == [at(100.0, 1)]


def test_rounds_become_fewer_with_more_nodes_and_less_room() -> None:
    assert [pause(3.0, nodes, 0, 1000) for nodes in (1, FEW_NODES, 2 * FEW_NODES)] == [3.0, 3.0, 6.0]
    assert [pause(3.0, 1, used, 1000) for used in (500, 900, 1000, 2000)] == [6.0, 30.0, 3000.0, 3000.0]


def test_the_record_of_a_run_has_the_looks_as_the_real_client_brings_them(api: Api, core: Any, record: Record) -> None:
    api.answers[NODES] = (200, json.dumps({"items": [node("gpu-1"), node("gpu-2")]}).encode())
    api.answers[EXPORTER.format("gpu-1")] = (200, PAGE.format(40).encode())
    with GpuRecorder(core, record, every=0.0):
        kept = record.folder / "evidence/gpus.jsonl"
        until(
            lambda: kept.is_file() and kept.read_bytes().count(b"\n"), lambda n: n > 4, what="looks", seconds=PATIENCE
        )
    assert not any(thread.name == "gpu-recorder" for thread in threading.enumerate())
    record.seal()
    with StoredRun(record.folder) as run:
        assert run.tampered() == ()
        looks = decode(run.read("evidence/gpus.jsonl"))
    (failed,) = [look for look in looks if look.node == "gpu-2"]
    assert failed.failure == "its exporter did not answer: 404 Not Found"
    assert [look.gpus for look in looks[2:]] == [at(0.0, 40).gpus] * (len(looks) - 2)
    (fact,) = facts(record)
    assert {name: fact[name] for name in ("devices", "looks", "failures", "trouble")} == {
        "devices": {"simulated": 1, "real": 0},
        "looks": len(looks),
        "failures": 1,
        "trouble": None,
    }
    assert 0 < fact["seconds"] < 5


def facts(record: Record) -> list[dict[str, Any]]:
    lines = map(msgspec.json.decode, (record.folder / "run.jsonl").read_bytes().splitlines())
    return [line for line in lines if line.get("kind") == "gpus"]


def test_a_cluster_without_gpus_leaves_nothing(record: Record) -> None:
    cluster = Cluster()
    with GpuRecorder(cluster, record, every=0.0):
        until(lambda: cluster.looked_for_nodes, bool, what="the first round", seconds=PATIENCE, interval=0.01)
    assert facts(record) == []
    assert not (record.folder / "evidence").exists()


def test_a_cluster_that_never_answered_is_said(record: Record) -> None:
    cluster = Cluster()
    cluster.nodes = ConnectionRefusedError(111, "Connection refused")
    with GpuRecorder(cluster, record, every=0.0):
        until(lambda: cluster.looked_for_nodes, bool, what="the first round", seconds=PATIENCE, interval=0.01)
    (fact,) = facts(record)
    assert (fact["looks"], fact["trouble"]) == (
        0,
        "the API server did not tell the nodes: ConnectionRefusedError",
    )


def test_what_nobody_thought_of_ends_the_recording_and_not_the_run(record: Record) -> None:
    cluster = Cluster(**{"gpu-1": KeyError("surprise")})
    with GpuRecorder(cluster, record, every=0.0):
        until(gone, bool, what="the thread to end", seconds=PATIENCE, interval=0.01)
    (fact,) = facts(record)
    assert fact["trouble"] == "KeyError: 'surprise'"


def test_a_disk_that_is_full_ends_the_recording(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise NotWritten("no room")

    monkeypatch.setattr(record, "lines", full)
    with GpuRecorder(Cluster(**{"gpu-1": PAGE.format(1)}), record, every=0.0):
        until(gone, bool, what="the thread to end", seconds=PATIENCE, interval=0.01)
    assert facts(record) == []


def gone() -> bool:
    return not any(thread.name == "gpu-recorder" for thread in threading.enumerate())


def test_the_file_never_outgrows_its_bound(record: Record) -> None:
    lines = record.lines(gpu_recorder.GPUS, most=2000, form=FORMAT)
    for moment in range(100):
        lines.write(at(float(moment), 1))
    assert lines.bytes <= 2000
    record.seal()
    assert decode((record.folder / "evidence/gpus.jsonl").read_bytes())[0] == at(0.0, 1)
