"""cluster.yaml, right and wrong."""

from pathlib import Path

import pytest

from clusters import backends, spec
from clusters.api import ClusterSpec, ControlPlane, Gpus, NodeSpec, SpecError, Taint
from clusters.embedded.backend import traits
from clusters.embedded.checks import check
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


@pytest.mark.parametrize(
    ("times", "problem"),
    [
        (
            ControlPlane(node_monitor_period_seconds=0),
            "controlPlane has nodeMonitorPeriodSeconds 0; it is a whole number of seconds, 1 at least",
        ),
        (
            ControlPlane(default_unreachable_toleration_seconds=-1),
            "controlPlane has defaultUnreachableTolerationSeconds -1; it is a whole number of seconds, 0 at least",
        ),
        (
            ControlPlane(node_monitor_grace_period_seconds=10),
            "controlPlane has nodeMonitorGracePeriodSeconds 10, but a node gives a sign of life each 10 s only, and "
            "would be taken for lost; give it at least 20 s, or a shorter nodeLeaseDurationSeconds",
        ),
    ],
)
def test_times_that_cannot_be_are_refused(times: ControlPlane, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(ClusterSpec(nodes=(NodeSpec("a"),), control_plane=times))
    assert str(caught.value) == problem


def test_times_are_read_by_the_names_of_kubernetes_flags(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("nodes: [{name: a}]\ncontrolPlane: {nodeMonitorGracePeriodSeconds: 30}\n")
    assert spec.read(file).control_plane == ControlPlane(node_monitor_grace_period_seconds=30)


def test_a_node_is_read_from_words() -> None:
    found = spec.node("a", ["x=1"], ["k=v:NoSchedule", "l:NoExecute"], "NVIDIA-L4:2", spot=True)
    assert found == NodeSpec(
        "a",
        labels={"x": "1"},
        taints=(Taint("k", "NoSchedule", "v"), Taint("l", "NoExecute")),
        gpus=Gpus("NVIDIA-L4", 2),
        capacity_type="spot",
    )


@pytest.mark.parametrize(
    ("labels", "taints", "gpus", "problem"),
    [
        (["x"], [], None, "asked for 'x', which is not of the form label KEY=VALUE"),
        ([], ["k=v"], None, "asked for 'k=v', which is not of the form taint KEY=VALUE:EFFECT"),
        ([], [], "two", "asked for 'two', which is not of the form GPUs MODEL:COUNT"),
        ([], [], "NVIDIA-L4:two", "the node 'a' is described wrongly: Expected `int`, got `str` - at `$.gpus.count`"),
        (
            [],
            ["k:Never"],
            None,
            "the node 'a' is described wrongly: Invalid enum value 'Never' - at `$.taints[0].effect`",
        ),
    ],
)
def test_words_of_another_form_are_refused(
    labels: list[str], taints: list[str], gpus: str | None, problem: str
) -> None:
    with pytest.raises(SpecError) as caught:
        spec.node("a", labels, taints, gpus, spot=False)
    assert str(caught.value) == problem
