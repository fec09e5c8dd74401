"""cluster.yaml, right and wrong."""

from pathlib import Path

import pytest

from clusters import backends, spec
from clusters.api import ClusterSpec, Gpus, NodeSpec, SpecError, Taint
from clusters.embedded.backend import check, traits
from clusters.embedded.gpu import nvml

GOOD = """
nodes:
  - name: gpu-1
    capacityType: spot
    labels: {zone: a}
    taints: [{key: nvidia.com/gpu, effect: NoSchedule}]
    gpus: {model: NVIDIA-L4, count: 2}
hostPaths: [/srv/models]
"""


def test_a_description_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(GOOD)
    node = NodeSpec(
        name="gpu-1",
        labels={"zone": "a"},
        taints=(Taint("nvidia.com/gpu", "NoSchedule"),),
        gpus=Gpus("NVIDIA-L4", 2),
        capacity_type="spot",
    )
    assert spec.read(file) == ClusterSpec(nodes=(node,), host_paths=("/srv/models",))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nodes: [{name: a, gpu: 1}]", "is wrong: Object contains unknown field `gpu` - at `$.nodes[0]`"),
        (
            "nodes: [{name: a, gpus: {model: L4, count: two}}]",
            "is wrong: Expected `int`, got `str` - at `$.nodes[0].gpus.count`",
        ),
        ("{}", "is wrong: Object missing required field `nodes`"),
        (
            "nodes: [{name: a, capacityType: cheap}]",
            "is wrong: Invalid enum value 'cheap' - at `$.nodes[0].capacityType`",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        spec.read(file)
    assert str(caught.value) == f"the cluster's description {file} {problem}"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        spec.read(tmp_path / "none.yaml")
    assert str(caught.value) == (
        f"the cluster's description {tmp_path / 'none.yaml'} cannot be read: No such file or directory"
    )


def test_two_nodes_of_one_name_are_refused() -> None:
    with pytest.raises(SpecError) as caught:
        check(ClusterSpec(nodes=(NodeSpec("a"), NodeSpec("a"))))
    assert str(caught.value) == "the cluster names two nodes 'a'; give each node a name of its own"


def test_a_cluster_without_nodes_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        check(ClusterSpec(nodes=()))
    assert str(caught.value) == "asked for 0 nodes; an embedded cluster has 1 to 250"


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        (NodeSpec("GPU_1"), "a node is named 'GPU_1'; use small letters, digits and dashes, 63 at most"),
        (NodeSpec("../x"), "a node is named '../x'; use small letters, digits and dashes, 63 at most"),
        (NodeSpec("a", gpus=Gpus("NVIDIA-L4", 0)), "node 'a' asks for 0 GPUs; ask for at least 1, or leave `gpus` out"),
    ],
)
def test_a_node_that_cannot_be_is_refused_before_anything_is_built(node: NodeSpec, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(ClusterSpec(nodes=(node,)))
    assert str(caught.value) == problem


def test_an_unknown_gpu_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SpecError) as caught:
        check(ClusterSpec(nodes=(NodeSpec("a", gpus=Gpus("RTX-1", 1)),)))
    assert str(caught.value).startswith("node 'a' asks for GPUs of the model 'RTX-1', which is not known; known are: ")


def test_the_default_cluster_is_valid_and_says_that_its_gpus_are_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "find", lambda: ())  # as on a machine without any
    default = spec.read(backends.DEFAULT_SPEC)
    assert traits(default).gpus == "simulated"
    assert len(default.nodes) == 3


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        backends.find("minikube", "default", {})
    assert str(caught.value) == "asked for the cluster backend 'minikube'; this version has embedded"
