"""The GPU models that a simulated device can be.

Place: `devices.py` makes devices of them, `telemetry.py` takes their power and clocks. Limits: what is told here is
what labels and telemetry need; a real device is described by NVML instead.

Sources, looked up in November 2026. Captures of `nvidia-smi -q -x` on real nodes in NVIDIA/k8s-test-infra
(tests/e2e/go/assertions/nvidiasmi/testdata/hardware) give memory, `power_watts` (the default limit), highest clocks and
memory clocks of T4, L40S, A100 40 GB, H100 and B200, and idle SM clocks of the last three. Listings of `nvidia-smi` in
public repositories give the same for the others; listings of `deviceQuery` and device tables there give the
multiprocessors. Memory is what drivers tell that count the reserved part; older ones tell less, as 16160 MiB for the
V100. Families: getArchFamily of GPU feature discovery (NVIDIA/k8s-device-plugin, internal/lm). MIG: the NVIDIA
Multi-Instance GPU User Guide, "Supported MIG Profiles".

`idle_watts` is in no data sheet: rounded from such listings of idle boards, which differ (V100 20 to 54, H200 73 to
127, B200 136 to 198); T4, A10G, L4 and L40S draw it in performance state P8 only, two to four times that in P0.

No source was found for the idle SM clocks of A10G (210, as other Ampere boards) and H200 (345, as H100); those of T4,
L4 and L40S are the lowest that the boards support.
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
    # Made for AWS: no data sheet of NVIDIA's, and not the A10 (72 multiprocessors, 150 W).
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
