"""What is read of an exporter's page, and of a file of looks."""

import msgspec
import pytest

from clusters.api import Gpus, Mig, NodeSpec
from clusters.embedded.gpu import exporter
from clusters.embedded.gpu.attribution import Holder
from clusters.embedded.gpu.devices import assign
from clusters.embedded.gpu.exporter import Snapshot
from clusters.embedded.gpu.faults import Health
from clusters.embedded.gpu.telemetry import Reading
from graders.errors import HarnessError
from graders.gpu_telemetry import FORMAT, Gpu, Look, decode, gpus_of

READING = Reading(0.52, None, 0.5, 0.25, 100.4, 22933.6, 31.456, 1234567.0, 40.2, 2040.0, 6251.0, None, 0.0)
DCGM = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",pci_bus_id="00000000:07:00.0",device="nvidia0",modelName="NVIDIA H200",\
Hostname="node-7",DCGM_FI_DRIVER_VERSION="570.86.15",container="main",namespace="team",pod="train-0"} 97
# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",pci_bus_id="00000000:07:00.0",device="nvidia0",modelName="NVIDIA H200",\
Hostname="node-7",DCGM_FI_DRIVER_VERSION="570.86.15",container="main",namespace="team",pod="train-0"} 81234
"""
"""As dcgm-exporter 4 writes it."""


def page(
    gpus: Gpus, held: dict[int, Holder], *, read: bool = True, reading: Reading = READING
) -> tuple[list[str], str]:
    """UUIDs of a node's devices, and its exporter's page; `held` is by the place of the unit."""
    (offer,) = assign([NodeSpec("gpu-1", gpus=gpus)], ())
    units = list(offer.units)
    holders = {units[place]: holder for place, holder in held.items()}
    readings = {device.id: reading for device in offer.devices} if read else {}
    snapshot = Snapshot("gpu-1", offer, readings, holders, dict.fromkeys(range(offer.gpus), Health()), at=1000.0)
    return [device.gpu for device in offer.devices], exporter.page(snapshot)


def l4s(count: int = 1, **fields: object) -> Gpus:
    return msgspec.convert({"model": "NVIDIA-L4", "count": count, "source": "simulated", **fields}, Gpus)


def test_a_simulated_device_and_its_holder() -> None:
    (one, two), text = page(l4s(2), {0: Holder("team", "train-0", "main")})
    figures = {"utilisation": 52.0, "memory_mib": 100.0, "watts": 31.46}
    named = {"model": "NVIDIA L4", "simulated": True}
    assert gpus_of(text) == (
        Gpu(gpu="0", uuid=one, held_by=("team/train-0",), **named, **figures),  # type: ignore[arg-type]
        Gpu(gpu="1", uuid=two, **named, **figures),  # type: ignore[arg-type]
    )


def test_a_real_device_as_dcgm_exporter_tells_it() -> None:
    assert gpus_of(DCGM) == (
        Gpu(
            gpu="0",
            uuid="GPU-a",
            model="NVIDIA H200",
            held_by=("team/train-0",),
            utilisation=97.0,
            memory_mib=81234.0,
        ),
    )


def test_a_device_that_pods_share_comes_once() -> None:
    holders = {0: Holder("team", "a", "main"), 2: Holder("team", "b", "main")}
    _, text = page(l4s(replicas=3), holders)
    (gpu,) = gpus_of(text)
    assert (gpu.held_by, gpu.utilisation) == (("team/a", "team/b"), 52.0)


def test_a_partition_has_its_own_memory_and_the_work_on_its_engines() -> None:
    mig = Gpus("NVIDIA-H100-80GB-HBM3", 1, mig=Mig("1g.10gb", 2), source="simulated")
    uuids, text = page(
        mig, {1: Holder("team", "a", "main")}, reading=msgspec.structs.replace(READING, utilisation=None)
    )
    one, two = gpus_of(text)
    assert [one.uuid, two.uuid] == uuids
    assert (one.partition, one.held_by, one.utilisation) == ("1g.10gb (1)", (), 50.0)
    assert (two.partition, two.held_by) == ("1g.10gb (2)", ("team/a",))


def test_a_device_that_cannot_be_read_is_there_without_figures() -> None:
    (uuid,), text = page(l4s(), {}, read=False)
    (gpu,) = gpus_of(text)
    assert gpu == Gpu(gpu="0", uuid=uuid, model="NVIDIA L4", simulated=True)
    assert not gpu.is_known


def test_what_is_no_number_is_not_known() -> None:
    text = 'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="a"} NaN\nDCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="a"} +Inf\n'
    assert gpus_of(text) == (Gpu(gpu="0", uuid="a"),)
    assert gpus_of("") == ()


def test_what_is_no_page_is_refused() -> None:
    with pytest.raises(ValueError, match="could not convert string to float: 'busy'"):
        gpus_of('DCGM_FI_DEV_GPU_UTIL{gpu="0"} busy\n')


def test_looks_are_decoded_as_they_were_written() -> None:
    looks = [
        Look(at=1000.5, node="gpu-1", gpus=(Gpu(gpu="0", uuid="a", utilisation=3.0),)),
        Look(at=1003.5, node="gpu-1", failure="its exporter did not answer: 503 Service Unavailable"),
    ]
    content = msgspec.json.Encoder().encode_lines([{"format": FORMAT}, *looks])
    assert decode(content) == looks


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b'{"format":"gpulab/gpus/v9"}\n',
            "these lines are of format 'gpulab/gpus/v9'; this program reads 'gpulab/gpus/v1'",
        ),
        (
            b'{"format":"gpulab/gpus/v1"}\n{"at":1,"node":2}\n',
            "these lines are no looks at GPUs that can be read: Expected `str`, got `int` - at `$[0].node`; "
            "grade again",
        ),
        (
            b"",
            "these lines are no looks at GPUs that can be read: Input data was truncated; grade again",
        ),
    ],
)
def test_what_is_no_file_of_looks_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        decode(content)
    assert str(caught.value) == said
