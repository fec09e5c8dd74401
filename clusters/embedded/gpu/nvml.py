"""Real GPUs, through NVML: which there are, how they do, and when they fail.

Place: `assign` in devices.py is given what `find` finds; `runtime/gpus.py` reads and watches what a node has. Limits: a
machine without a driver has no devices, which is no error. Shares of multiprocessors (SM activity) need GPM, which is
there from Hopper on; they are left out elsewhere.

What a container needs beside the libraries below /usr that it sees anyway: /dev/nvidiactl and /dev/nvidia-uvm, the
device file of each GPU, and for a partition the two capability files that /proc/driver/nvidia-caps/mig-minors names
(NVIDIA Multi-Instance GPU User Guide, "Device Nodes and Capabilities").
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml

from clusters.embedded.gpu.devices import Device, Partition

Library = Any
"""The module `pynvml`, or one that stands in for it in a test."""

Handle = Any
"""What NVML knows a device by."""

_SHARED_FILES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
_MIB = 1 << 20


@contextmanager
def opened(library: Library = pynvml) -> Iterator[bool]:
    """NVML for use; False where there is no driver."""
    try:
        library.nvmlInit()
    except library.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        library.nvmlShutdown()


def find(library: Library = pynvml, root: Path = Path("/")) -> tuple[Device, ...]:
    """The machine's devices: each GPU, or its partitions where MIG is on; none where there is no driver.

    Args:
        library: NVML.
        root: where /dev and /proc are.
    """
    with opened(library) as there:
        if not there:
            return ()
        found: list[Device] = []
        for place in range(library.nvmlDeviceGetCount()):
            with contextlib.suppress(library.NVMLError):  # a GPU that is lost can be asked nothing, so nobody gets it
                found += _devices(library, place, root)
        return tuple(found)


def _devices(library: Library, place: int, root: Path) -> list[Device]:
    handle = library.nvmlDeviceGetHandleByIndex(place)
    minor = library.nvmlDeviceGetMinorNumber(handle)
    files = [file for file in (*_SHARED_FILES, f"/dev/nvidia{minor}") if (root / file[1:]).exists()]
    try:
        partitioned = bool(library.nvmlDeviceGetMigMode(handle)[0])
        capable = True
    except library.NVMLError:
        partitioned = capable = False
    whole = Device(
        id=library.nvmlDeviceGetUUID(handle),
        name=library.nvmlDeviceGetName(handle),
        memory_mib=library.nvmlDeviceGetMemoryInfo(handle).total // _MIB,
        simulated=False,
        index=place,
        bus=_text(library.nvmlDeviceGetPciInfo(handle).busId),
        compute=tuple(library.nvmlDeviceGetCudaComputeCapability(handle)),
        mig_capable=capable,
        files=tuple(files),
    )
    return _partitions(library, handle, whole, minor, root) if partitioned else [whole]


def _partitions(library: Library, handle: Handle, whole: Device, minor: int, root: Path) -> list[Device]:
    capabilities = _capabilities(root)
    found = []
    for place in range(library.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(library.NVMLError):  # as many places as there could be, not as there are
            each = library.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            about = library.nvmlDeviceGetAttributes_v2(each)
            instance = library.nvmlDeviceGetGpuInstanceId(each)
            compute = library.nvmlDeviceGetComputeInstanceId(each)
            names = [f"gpu{minor}/gi{instance}/access", f"gpu{minor}/gi{instance}/ci{compute}/access"]
            caps = [f"/dev/nvidia-caps/nvidia-cap{capabilities[name]}" for name in names if name in capabilities]
            found.append(
                Device(
                    id=library.nvmlDeviceGetUUID(each),
                    name=whole.name,
                    memory_mib=about.memorySizeMB,
                    simulated=False,
                    index=whole.index,
                    bus=whole.bus,
                    compute=whole.compute,
                    mig_capable=True,
                    partition=Partition(
                        _profile(library.nvmlDeviceGetName(each)),
                        instance,
                        whole.id,
                        whole.memory_mib,
                        about.gpuInstanceSliceCount / 7,
                    ),
                    files=(*whole.files, *caps),
                )
            )
    return found


def _text(value: str | bytes) -> str:
    """The library gives some words as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _profile(name: str) -> str:
    """The profile in a partition's name, as in "NVIDIA A100-SXM4-40GB MIG 1g.5gb"."""
    return name.rpartition(" MIG ")[2]


def _capabilities(root: Path) -> dict[str, str]:
    """Minor numbers of capability files, by what they give access to."""
    file = root / "proc/driver/nvidia-caps/mig-minors"
    if not file.is_file():
        return {}
    words = file.read_text().split()
    return dict(zip(words[::2], words[1::2], strict=True))
