"""Real GPUs: what is asked of NVML and made of its answers, with a stand-in for it."""

import inspect
from pathlib import Path

import pynvml

from clusters.embedded.gpu import nvml
from clusters.embedded.gpu.devices import Device, Partition
from tests.embedded.nvml import Gpu, Nvml

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


def test_a_machine_without_a_driver_has_none() -> None:
    assert nvml.find(Nvml(driver=False)) == ()
