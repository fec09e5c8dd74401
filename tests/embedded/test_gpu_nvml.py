"""Real GPUs: what is asked of NVML and made of its answers, with a stand-in for it and, where it can be, for real."""

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from clusters.embedded.gpu import nvml
from clusters.embedded.gpu.devices import Device, Partition
from clusters.embedded.gpu.nvml_watch import Watch
from clusters.embedded.gpu.telemetry import Reading
from tests.embedded.nvml import Gpu, Nvml, NVMLError

SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm")


def files(root: Path, *names: str) -> None:
    for name in names:
        file = root / name[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_the_stand_in_has_the_functions_of_the_real_module() -> None:
    for name, function in inspect.getmembers(Nvml, inspect.isfunction):
        if name.startswith("nvml"):
            ours = list(inspect.signature(function).parameters)[1:]
            theirs = inspect.signature(getattr(pynvml, name)).parameters
            assert ours == list(theirs)[: len(ours)], name
            assert all(each.default is not each.empty for each in list(theirs.values())[len(ours) :]), name
    assert issubclass(pynvml.NVMLError, Exception)
    assert pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT).value == pynvml.NVML_ERROR_TIMEOUT
    assert {name for name, _ in pynvml.c_nvmlGpmMetricsGet_t._fields_} >= {"version", "numMetrics", "metrics"}


def test_gpus_are_found_with_the_files_that_programs_need(tmp_path: Path) -> None:
    files(tmp_path, *SHARED, "/dev/nvidia0", "/dev/nvidia3")
    library = Nvml(Gpu("GPU-a"), Gpu("GPU-b", "Tesla T4", 15360 << 20, minor=3, mig=None))
    assert nvml.find(library, tmp_path) == (
        Device(
            id="GPU-a",
            name="NVIDIA H200",
            memory_mib=143771,
            simulated=False,
            index=0,
            bus="00000000:00:00.0",
            compute=(9, 0),
            mig_capable=True,
            files=(*SHARED, "/dev/nvidia0"),
        ),
        Device(
            id="GPU-b",
            name="Tesla T4",
            memory_mib=15360,
            simulated=False,
            index=1,
            bus="00000000:03:00.0",
            compute=(9, 0),
            mig_capable=False,
            files=(*SHARED, "/dev/nvidia3"),
        ),
    )
    assert library.opened == 0


def test_partitions_stand_for_their_gpu_and_bring_their_capabilities(tmp_path: Path) -> None:
    files(tmp_path, *SHARED, "/dev/nvidia0", "/proc/driver/nvidia-caps/mig-minors")
    minors = "config 1\nmonitor 2\ngpu0/gi7/access 66\ngpu0/gi7/ci0/access 67\n"
    (tmp_path / "proc/driver/nvidia-caps/mig-minors").write_text(minors)
    part = Gpu("MIG-a", "NVIDIA H200 MIG 1g.18gb", 16384 << 20, instance=7, slices=1)
    (found,) = nvml.find(Nvml(Gpu("GPU-a", mig=True, parts=(part,))), tmp_path)
    assert (found.id, found.name, found.memory_mib, found.gpu) == ("MIG-a", "NVIDIA H200", 16384, "GPU-a")
    assert found.partition == Partition("1g.18gb", 7, "GPU-a", 143771, 1 / 7)
    caps = ("/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67")
    assert found.files == (*SHARED, "/dev/nvidia0", *caps)


def test_a_gpu_that_cannot_be_asked_is_left_out() -> None:
    found = nvml.find(Nvml(Gpu("GPU-a", readings={"lost": True}), Gpu("GPU-b", minor=1)))
    assert [(device.id, device.index) for device in found] == [("GPU-b", 1)]


def test_a_machine_without_a_driver_has_none() -> None:
    assert nvml.find(Nvml(driver=False)) == ()


READINGS = {
    "rates": (97, 40),
    "power": 312_500,
    "energy": 9_000_000,
    "temperature 0": 61,
    "clock 1": 1755,
    "clock 2": 3201,
    "violation 0": 5_000,
    "violation 1": 7_000,
    "gpm": {1: 90.0, 2: 55.5},
}


@contextmanager
def watching(library: Any, root: Path = Path("/")) -> Iterator[Watch]:
    """A watch over all that the library finds; nothing of it is left after."""
    found = nvml.find(library, root)
    with nvml.opened(library):
        watch = Watch(found, library)
        yield watch
        watch.close()


def test_a_gpu_is_read_and_its_activity_is_the_mean_since_the_last_read() -> None:
    gpu = Gpu("GPU-a", used=1000 << 20, readings=READINGS)
    library = Nvml(gpu)
    with watching(library) as watch:
        first = watch.read()["GPU-a"]
        second = watch.read()["GPU-a"]
    assert (first.engine_active, first.sm_active) == (None, None)
    assert second == Reading(
        utilisation=0.97,
        memory_copy=0.4,
        engine_active=0.9,
        sm_active=0.555,
        memory_used_mib=1000.0,
        memory_free_mib=142771.0,
        watts=312.5,
        energy_mj=9_000_000,
        celsius=61,
        sm_mhz=1755,
        memory_mhz=3201,
        power_violation_ns=5_000.0,
        thermal_violation_ns=7_000.0,
    )
    assert (library.opened, library.sets, library.samples) == (0, 0, 0)


def test_what_a_gpu_does_not_support_is_not_known() -> None:
    with watching(Nvml(Gpu("GPU-a", mig=None))) as watch:
        for _ in range(2):
            assert watch.read()["GPU-a"] == Reading(memory_used_mib=0.0, memory_free_mib=143771.0)


def test_a_metric_of_gpm_that_is_not_supported_is_not_known() -> None:
    library = Nvml(Gpu("GPU-a", readings={"gpm": {1: 90.0}}))
    with watching(library) as watch:
        watch.read()
        found = watch.read()["GPU-a"]
    assert (found.engine_active, found.sm_active) == (0.9, None)


def test_a_sample_that_cannot_be_taken_leaves_nothing_behind() -> None:
    readings: dict[str, Any] = {"gpm": {1: 90.0, 2: 55.5}}
    library = Nvml(Gpu("GPU-a", mig=True, parts=(Gpu("MIG-a", name="x MIG 1g.18gb", instance=3),), readings=readings))
    with watching(library) as watch:
        assert watch.read()["MIG-a"].sm_active is None
        readings["gpm 3"] = {1: 10.0, 2: 20.0}
        assert watch.read()["MIG-a"].sm_active is None
        assert watch.read()["MIG-a"].sm_active == 0.2
    assert library.samples == 0


def test_a_partition_has_its_own_memory_and_activity_and_its_gpus_power(tmp_path: Path) -> None:
    part = Gpu("MIG-a", "NVIDIA H200 MIG 1g.18gb", 16384 << 20, used=100 << 20, instance=7, slices=1)
    gpu = Gpu("GPU-a", mig=True, parts=(part,), readings=READINGS | {"gpm 7": {1: 10.0, 2: 5.0}})
    with watching(Nvml(gpu)) as watch:
        watch.read()
        found = watch.read()["MIG-a"]
    assert (found.utilisation, found.engine_active, found.sm_active) == (None, 0.1, 0.05)
    assert (found.memory_used_mib, found.memory_free_mib, found.watts) == (100.0, 16284.0, 312.5)


def test_errors_are_told_with_the_place_of_their_gpu() -> None:
    one, other = Gpu("GPU-a"), Gpu("GPU-b", minor=1)
    library = Nvml(one, other)
    with watching(library) as watch:
        assert sorted(gpu.uuid for gpu in library.watched) == ["GPU-a", "GPU-b"]
        assert watch.xids(1) == []
        library.xid(other, 79)
        assert watch.xids(1) == [(1, 79)]
        library.events.put(SimpleNamespace(device=one, eventType=library.nvmlEventTypeClock, eventData=5))
        assert watch.xids(1) == []


def test_an_error_of_a_gpu_that_cannot_be_asked_counts_for_all() -> None:
    library = Nvml(Gpu("GPU-a"), Gpu("GPU-b", minor=1))
    with watching(library) as watch:
        library.xid(Gpu("GPU-c", readings={"lost": True}), 79)
        assert watch.xids(1) == [(0, 79), (1, 79)]


def test_nvml_that_cannot_be_asked_for_errors_is_no_silence() -> None:
    library = Nvml(Gpu("GPU-a"))
    with watching(library) as watch:
        library.events.put(NVMLError(pynvml.NVML_ERROR_UNKNOWN))
        with pytest.raises(NVMLError):
            watch.xids(1)


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.gpu)])
def library(request: pytest.FixtureRequest) -> Any:
    """NVML as a machine with GPUs has it, and the stand-in for it: what is asked of both."""
    if request.param == "real":
        request.getfixturevalue("real_gpus")
        return pynvml
    return Nvml(Gpu("GPU-00000000-a", readings=READINGS), Gpu("GPU-00000000-b", minor=1))


def test_what_is_found_can_be_read(library: Any) -> None:
    found = nvml.find(library)
    assert found
    assert [device.id for device in found] == [device.id for device in nvml.find(library)]
    with watching(library) as watch:
        watch.read()
        time.sleep(0.1 if library is pynvml else 0)  # GPM needs some time between two samples to compare
        readings = watch.read()
        assert watch.xids(1) == []
    for device in found:
        assert device.id.startswith(("GPU-", "MIG-"))
        assert not device.simulated
        assert device.bus
        assert device.compute >= (3, 0)
        reading = readings[device.id]
        assert reading.memory_used_mib is not None
        assert reading.memory_free_mib is not None
        assert 0 < reading.memory_used_mib + reading.memory_free_mib <= device.memory_mib + 1
        assert all(share is None or 0 <= share <= 1 for share in (reading.utilisation, reading.sm_active))
        assert reading.watts is None or 0 < reading.watts < 2000
        assert reading.celsius is None or 0 < reading.celsius < 120
