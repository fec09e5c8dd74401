"""What a node offers of its GPUs: whole, partitioned, shared; simulated or real; and the labels that say so."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clusters.api import ClusterSpec, Gpus, Mig, NodeSpec, SpecError
from clusters.embedded.gpu import exporter
from clusters.embedded.gpu.devices import Device, Offer, Partition, assign, check, kind, node_labels
from clusters.embedded.gpu.models import MODELS, profiles


def offered(gpus: Gpus, node: str = "a") -> Offer:
    return assign([NodeSpec(node, gpus=gpus)], ())[0]


def real(number: int, *, profile: str | None = None, name: str = "NVIDIA H200") -> Device:
    partition = Partition(profile, number, "GPU-0", 143771, 1 / 7) if profile else None
    id_ = f"{'MIG' if profile else 'GPU'}-{number}"
    return Device(
        id_, name, 1000, simulated=False, index=number, bus="", compute=(9, 0), mig_capable=True, partition=partition
    )


def test_devices_have_ids_of_their_own_that_repeat() -> None:
    wanted = Gpus("NVIDIA-L4", 2)
    first, again, other = offered(wanted), offered(wanted), offered(wanted, "b")
    assert first == again
    ids = {device.id for device in (*first.devices, *other.devices)}
    assert len(ids) == 4
    assert all(re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in ids)
    assert (first.devices[1].memory_mib, first.devices[1].index, first.simulated) == (23034, 1, True)
    assert (first.resource, list(first.units)) == ("nvidia.com/gpu", [device.id for device in first.devices])


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        (Gpus("NVIDIA-L4", 0), "node 'a' asks for 0 GPUs; ask for at least 1, or leave `gpus` out"),
        (
            Gpus("GTX-1080", 1),
            "node 'a' asks for GPUs of the model 'GTX-1080', which is not known; known are: Tesla-T4, "
            "Tesla-V100-SXM2-16GB, NVIDIA-A10G, NVIDIA-L4, NVIDIA-L40S, NVIDIA-A100-SXM4-40GB, NVIDIA-A100-SXM4-80GB, "
            "NVIDIA-H100-80GB-HBM3, NVIDIA-H200, NVIDIA-B200",
        ),
        (Gpus("NVIDIA-L4", 1, replicas=0), "node 'a' shares each GPU 0 times; `replicas` is at least 1"),
        (
            Gpus("NVIDIA-L4", 1, rename_by_default=True),
            "node 'a' sets `renameByDefault`, which names GPUs that are shared; set `replicas` to 2 or more too",
        ),
        (
            Gpus("NVIDIA-H200", 1, mig=Mig("1g.18gb", 1), replicas=2),
            "node 'a' asks for both `mig` and `replicas`; choose one way to divide its GPUs",
        ),
        (
            Gpus("NVIDIA-L4", 1, mig=Mig("1g.5gb", 1)),
            "node 'a' asks for MIG partitions of NVIDIA-L4, which has none; models with MIG are: "
            "NVIDIA-A100-SXM4-40GB, NVIDIA-A100-SXM4-80GB, NVIDIA-H100-80GB-HBM3, NVIDIA-H200, NVIDIA-B200",
        ),
        (
            Gpus("NVIDIA-H100-80GB-HBM3", 1, mig=Mig("1g.5gb", 1)),
            "node 'a' asks for the MIG profile '1g.5gb', which NVIDIA-H100-80GB-HBM3 does not have; "
            "it has: 1g.10gb, 1g.20gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb",
        ),
        (
            Gpus("NVIDIA-H100-80GB-HBM3", 1, mig=Mig("3g.40gb", 3)),
            "node 'a' asks for 3 partitions 3g.40gb on each GPU; NVIDIA-H100-80GB-HBM3 holds 1 to 2 of them",
        ),
        (
            Gpus("NVIDIA-H200", 2, source="real"),
            "node 'a' insists on real GPUs (2), but NVML finds 0 that no other node has and none of them fit; "
            "let `source` be any or simulated, or ask for what there is",
        ),
    ],
)
def test_what_cannot_be_is_refused(gpus: Gpus, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        offered(gpus)
    assert str(caught.value) == said


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 8), st.integers(1, 9), st.data())
def test_what_is_checked_can_be_offered_and_its_labels_are_valid(
    model: str, count: int, replicas: int, data: st.DataObject
) -> None:
    known = profiles(MODELS[model])
    mig = None
    if known and replicas == 1 and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(known)))
        mig = Mig(name, data.draw(st.integers(1, known[name].most)))
    wanted = Gpus(model, count, mig=mig, replicas=replicas, rename_by_default=replicas > 1 and data.draw(st.booleans()))
    check(NodeSpec("a", gpus=wanted))
    offer = offered(wanted)
    assert len(offer.units) == count * replicas * (mig.count if mig else 1)
    assert offer.gpus == count
    for gpu in {device.gpu for device in offer.devices}:
        parts = [device for device in offer.devices if device.gpu == gpu]
        assert sum(part.memory_mib for part in parts) <= MODELS[model].memory_mib
    labels = node_labels(offer)
    value = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
    key = re.compile(r"([a-z.]+/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
    assert all(value.fullmatch(each) for each in labels.values())
    assert all(key.fullmatch(each) for each in labels)
    assert labels["gpulab/simulated"] == "true"


def test_what_the_document_shows_is_true() -> None:
    text = (Path(__file__).parents[2] / "docs" / "gpus.md").read_text()
    block = text.partition("```yaml\n")[2].partition("```")[0]
    spec = msgspec.convert(yaml.safe_load(block), ClusterSpec)
    said = [line.partition("# ")[2] for line in block.splitlines() if "#" in line]
    assert [f"{len(offer.units)} {offer.resource}" for offer in assign(spec.nodes, ())] == said
    served = [field.name for field in exporter.FIELDS]
    assert all(name.removeprefix("DCGM_FI_") in text for name in served)


def test_labels_are_those_of_gpu_feature_discovery_and_say_simulated() -> None:
    assert node_labels(offered(Gpus("NVIDIA-H100-80GB-HBM3", 4))) == {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.family": "hopper",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mps.capable": "false",
        "nvidia.com/vgpu.present": "false",
        "gpulab/simulated": "true",
    }


def test_partitions_are_resources_of_their_own_beside_the_labels_of_their_gpus() -> None:
    offer = offered(Gpus("NVIDIA-H100-80GB-HBM3", 2, mig=Mig("1g.10gb", 7)))
    assert offer.resource == "nvidia.com/mig-1g.10gb"
    assert len(offer.units) == 14
    assert all(unit.startswith("MIG-") for unit in offer.units)
    labels = node_labels(offer)
    assert {key: value for key, value in labels.items() if "mig-" in key} == {
        "nvidia.com/mig-1g.10gb.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
        "nvidia.com/mig-1g.10gb.count": "14",
        "nvidia.com/mig-1g.10gb.replicas": "1",
        "nvidia.com/mig-1g.10gb.sharing-strategy": "none",
        "nvidia.com/mig-1g.10gb.memory": "10194",
        "nvidia.com/mig-1g.10gb.slices.gi": "1",
    }
    whole = {key.partition(".com/")[2]: value for key, value in labels.items()}
    assert (whole["mig.strategy"], whole["gpu.count"], whole["gpu.replicas"]) == ("mixed", "2", "0")
    assert (whole["gpu.product"], whole["gpu.memory"]) == ("NVIDIA-H100-80GB-HBM3", "81559")


@pytest.mark.parametrize(
    ("renamed", "resource", "product"),
    [(False, "nvidia.com/gpu", "NVIDIA-L4-SHARED"), (True, "nvidia.com/gpu.shared", "NVIDIA-L4")],
)
def test_shared_gpus_are_offered_several_times(renamed: bool, resource: str, product: str) -> None:
    offer = offered(Gpus("NVIDIA-L4", 2, replicas=3, rename_by_default=renamed))
    assert offer.resource == resource
    first = offer.devices[0].id
    assert list(offer.units)[:3] == [f"{first}::0", f"{first}::1", f"{first}::2"]
    assert len(offer.units) == 6
    labels = node_labels(offer)
    assert labels["nvidia.com/gpu.product"] == product
    assert labels["nvidia.com/gpu.count"] == "2"
    assert labels["nvidia.com/gpu.replicas"] == "3"
    assert labels["nvidia.com/gpu.sharing-strategy"] == "time-slicing"


def test_real_devices_come_first_whatever_model_is_asked_for_and_each_goes_to_one_node() -> None:
    nodes = [NodeSpec(name, gpus=Gpus("NVIDIA-L4", 2)) for name in ("a", "b", "c")]
    offers = assign([NodeSpec("none"), *nodes], [real(number) for number in range(5)])
    assert [offer.simulated for offer in offers] == [False, False, False, True]
    assert offers[0].devices == ()
    assert [device.id for offer in offers[1:3] for device in offer.devices] == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    assert [device.index for device in offers[2].devices] == [0, 1]
    labels = node_labels(offers[1])
    assert (labels["nvidia.com/gpu.product"], "gpulab/simulated" in labels) == ("NVIDIA-H200", False)
    assert kind(offers) == "simulated"
    assert kind(offers[:3]) == "real"
    assert kind(offers[:1]) == "none"


def test_real_partitions_serve_those_who_ask_for_their_profile_only() -> None:
    found = [real(0, name="NVIDIA L4"), *(real(number, profile="1g.18gb") for number in (1, 2, 3))]
    nodes = [
        NodeSpec("whole", gpus=Gpus("NVIDIA-H200", 1)),
        NodeSpec("parts", gpus=Gpus("NVIDIA-H200", 1, mig=Mig("1g.18gb", 2), source="real")),
        NodeSpec("others", gpus=Gpus("NVIDIA-H200", 1, mig=Mig("1g.18gb", 2))),
        NodeSpec("unreal", gpus=Gpus("NVIDIA-H200", 1, source="simulated")),
    ]
    offers = assign(nodes, found)
    assert [device.id for device in offers[0].devices] == ["GPU-0"]
    assert [device.id for device in offers[1].devices] == ["MIG-1", "MIG-2"]
    assert (offers[2].simulated, offers[3].simulated) == (True, True)


def test_devices_of_two_products_are_not_mixed_on_a_node() -> None:
    found = [real(0, name="NVIDIA L4"), real(1), real(2)]
    (offer,) = assign([NodeSpec("a", gpus=Gpus("NVIDIA-L4", 2))], found)
    assert [device.id for device in offer.devices] == ["GPU-1", "GPU-2"]


def test_unknown_facts_of_a_real_device_are_left_out() -> None:
    newest = Device(
        "GPU-1", "NVIDIA (R) Newest", 1000, simulated=False, index=0, bus="", compute=(99, 1), mig_capable=False
    )
    labels = node_labels(Offer((newest,)))
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-R-Newest"
    assert "nvidia.com/gpu.family" not in labels


def test_a_node_without_devices_has_no_labels() -> None:
    assert node_labels(Offer()) == {}


def test_the_known_models_are_named_as_nvml_and_feature_discovery_name_them() -> None:
    for product, model in MODELS.items():
        offer = offered(Gpus(product, 1))
        assert (offer.devices[0].product, offer.devices[0].name) == (product, model.name)
