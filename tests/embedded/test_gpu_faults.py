"""Xid errors of simulated GPUs, from the file that tells them to the health of a device."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.api import ClusterSpec, Gpus, Mig, NodeSpec, SpecError
from clusters.embedded.gpu import devices, faults
from clusters.embedded.gpu.faults import Event, Healed, Inlet, Xid, health

SPEC = ClusterSpec(
    nodes=(
        NodeSpec("plain"),
        NodeSpec("gpu-1", gpus=Gpus("NVIDIA-H200", 2, mig=Mig("1g.18gb", 7), source="simulated")),
    )
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for node in SPEC.nodes:
        (tmp_path / "nodes" / node.name).mkdir(parents=True)
    return tmp_path


def test_what_is_injected_is_read_until_it_is_healed(state: Path) -> None:
    file = faults.file(state, "gpu-1")
    assert faults.read(file) == ()
    faults.inject(state, SPEC, "gpu-1", 1, 31)
    faults.inject(state, SPEC, "gpu-1", 1, 79)
    found = health(faults.read(file), 1)
    assert [xid for xid, _ in found.xids] == [31, 79]
    assert (found.healthy, found.lost, found.last) == (False, True, 79)
    assert health(faults.read(file), 0).healthy
    faults.heal(state, SPEC, "gpu-1", 1)
    assert health(faults.read(file), 1) == faults.Health()


@pytest.mark.parametrize(
    ("node", "gpu", "xid", "said"),
    [
        ("gpu-9", 0, 79, "asked about a GPU of the node 'gpu-9', which is not there; nodes are: plain, gpu-1"),
        ("gpu-1", 2, 79, "asked about GPU 2 of the node 'gpu-1', which has 2, counted from 0"),
        ("gpu-1", -1, 79, "asked about GPU -1 of the node 'gpu-1', which has 2, counted from 0"),
        ("plain", 0, 79, "asked about GPU 0 of the node 'plain', which has 0, counted from 0"),
        ("gpu-1", 0, 0, "asked for the Xid error 0; an Xid is a positive number, as in 79"),
    ],
)
def test_what_cannot_fail_is_refused(state: Path, node: str, gpu: int, xid: int, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        faults.inject(state, SPEC, node, gpu, xid)
    assert str(caught.value) == said
    assert not faults.file(state, "gpu-1").exists()


def test_a_real_device_fails_by_itself_only(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SimpleNamespace(gpus=2, simulated=False)
    monkeypatch.setattr(devices, "assign", lambda *_: [real, real])
    with pytest.raises(SpecError) as caught:
        faults.inject(state, SPEC, "gpu-1", 1, 79)
    assert str(caught.value) == "GPU 1 of the node 'gpu-1' is real; only simulated ones fail and heal when told to"


def test_a_line_that_is_not_whole_waits_for_the_next_look(tmp_path: Path) -> None:
    file = tmp_path / "faults.jsonl"
    file.write_bytes(b'{"event":"xid","gpu":0,"xid":48,"at":1.0}\n{"gpu":0,"xi')
    assert faults.read(file) == (Xid(0, 48, 1.0),)


def test_errors_of_programs_leave_a_device_healthy() -> None:
    for xid, healthy in ((13, True), (31, True), (43, True), (45, True), (48, False), (74, False), (95, False)):
        assert health([Xid(0, xid, 0.0)], 0).healthy is healthy


def test_errors_are_counted_within_a_window() -> None:
    events = [Xid(0, 31, 10.0), Xid(0, 31, 20.0), Xid(0, 48, 30.0), Xid(1, 31, 30.0)]
    assert health(events, 0).counts(since=20.0) == {31: 1, 48: 1}


def test_the_air_is_as_it_was_told_last(state: Path) -> None:
    file = faults.file(state, "gpu-1")
    assert faults.inlet(faults.read(file), 27.0) == 27.0
    faults.heat(state, SPEC, "gpu-1", 60)
    faults.heat(state, SPEC, "gpu-1", 45)
    assert faults.inlet(faults.read(file), 27.0) == 45.0
    with pytest.raises(SpecError) as caught:
        faults.heat(state, SPEC, "gpu-1", 200)
    assert str(caught.value) == "asked for air of 200 °C for the node 'gpu-1'; it has 0 to 80 °C"


gpus = st.integers(0, 2)
events = st.builds(Xid, gpus, st.integers(1, 120), st.floats(0, 1e9)) | st.builds(Healed, gpus) | st.just(Inlet(50.0))


@given(st.lists(events))
def test_only_what_happened_since_the_last_heal_counts(events: list[Event]) -> None:
    mine = [getattr(event, "xid", None) for event in events if getattr(event, "gpu", None) == 0]
    since = len(mine) - mine[::-1].index(None) if None in mine else 0
    assert [xid for xid, _ in health(events, 0).xids] == mine[since:]
