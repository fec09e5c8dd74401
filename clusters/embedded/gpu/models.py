"""The GPU models that a simulated device can be.

Place: `devices.py` makes devices of them, `telemetry.py` takes their power and clocks. Limits: what is told here is
what labels and telemetry need; a real device is described by NVML instead.

Sources. Memory: the total that NVML reports. Multiprocessors and `power_watts` (the board's limit): NVIDIA's data
sheets of each product. Clocks: "Max Clocks", the clocks of an idle board, and memory clocks, as `nvidia-smi -q` prints
them. `idle_watts` is in no data sheet: rounded figures of idle boards in public `nvidia-smi` listings. MIG sizes: the
NVIDIA Multi-Instance GPU User Guide, "Supported MIG Profiles".
"""

import msgspec


class Model(msgspec.Struct, frozen=True):
    """One product.

    Attributes:
        name: as NVML says it.
        memory_mib: total memory.
        family: as GPU feature discovery says it; "" where it is not known.
        compute: CUDA compute capability.
        multiprocessors: count of SMs.
        power_watts: the board's power limit.
        idle_watts: what it draws without work.
        sm_mhz: clock of the SMs without work, and the highest.
        memory_mhz: clock of the memory under work.
        mig_gb: what the profiles of one, two, four and eight eighths of the memory are called; None without MIG.
    """

    name: str
    memory_mib: int
    family: str
    compute: tuple[int, int]
    multiprocessors: int
    power_watts: float
    idle_watts: float
    sm_mhz: tuple[int, int]
    memory_mhz: int
    mig_gb: tuple[int, int, int, int] | None = None


class Profile(msgspec.Struct, frozen=True):
    """A MIG profile: `slices` of seven for compute, `eighths` of the memory, `most` of them on one device."""

    slices: int
    eighths: int
    most: int


_PROFILES = (Profile(1, 1, 7), Profile(1, 2, 4), Profile(2, 2, 3), Profile(3, 4, 2), Profile(4, 4, 1), Profile(7, 8, 1))
SLICES = 7
"""Compute slices of a device."""


def profiles(model: Model) -> dict[str, Profile]:
    """The MIG profiles of a model by name, as in 1g.10gb; none when it cannot be partitioned."""
    if model.mig_gb is None:
        return {}
    gigabytes = dict(zip((1, 2, 4, 8), model.mig_gb, strict=True))
    return {f"{each.slices}g.{gigabytes[each.eighths]}gb": each for each in _PROFILES}


MODELS = {
    "Tesla-T4": Model("Tesla T4", 15360, "turing", (7, 5), 40, 70, 9, (300, 1590), 5001),
    "Tesla-V100-SXM2-16GB": Model("Tesla V100-SXM2-16GB", 16384, "volta", (7, 0), 80, 300, 40, (135, 1530), 877),
    "NVIDIA-A10G": Model("NVIDIA A10G", 23028, "ampere", (8, 6), 80, 300, 16, (210, 1710), 6251),
    "NVIDIA-L4": Model("NVIDIA L4", 23034, "ada-lovelace", (8, 9), 58, 72, 12, (210, 2040), 6251),
    "NVIDIA-L40S": Model("NVIDIA L40S", 46068, "ada-lovelace", (8, 9), 142, 350, 35, (210, 2520), 9001),
    "NVIDIA-A100-SXM4-40GB": Model(
        "NVIDIA A100-SXM4-40GB", 40960, "ampere", (8, 0), 108, 400, 50, (210, 1410), 1215, (5, 10, 20, 40)
    ),
    "NVIDIA-A100-SXM4-80GB": Model(
        "NVIDIA A100-SXM4-80GB", 81920, "ampere", (8, 0), 108, 400, 60, (210, 1410), 1593, (10, 20, 40, 80)
    ),
    "NVIDIA-H100-80GB-HBM3": Model(
        "NVIDIA H100 80GB HBM3", 81559, "hopper", (9, 0), 132, 700, 70, (345, 1980), 2619, (10, 20, 40, 80)
    ),
    "NVIDIA-H200": Model("NVIDIA H200", 143771, "hopper", (9, 0), 132, 700, 75, (345, 1980), 3201, (18, 35, 71, 141)),
    "NVIDIA-B200": Model(
        "NVIDIA B200", 183359, "blackwell", (10, 0), 148, 1000, 140, (120, 1965), 3996, (23, 45, 90, 180)
    ),
}
"""By product as GPU feature discovery prints it."""
