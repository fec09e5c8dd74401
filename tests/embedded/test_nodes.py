"""Nodes that join, are drained, lost, told to go, and come back; on a cluster of its own, with short times."""

import json
from collections.abc import Iterator

import pytest

from clusters import spec
from clusters.api import ClusterError, ElasticNodes, SpecError
from clusters.embedded import backend, spot
from clusters.embedded.backend import EmbeddedCluster
from clusters.process import CommandFailed, descendants, run, start_time
from tests.conftest import Kubectl, Launcher, command_of, living, silent
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster
SPEC = """
nodes:
  - {name: steady, labels: {kind: steady}}
  - {name: spot-1, capacityType: spot, gpus: {model: NVIDIA-L4, count: 1, source: simulated}}
controlPlane:
  nodeLeaseDurationSeconds: 2
  nodeStatusUpdateSeconds: 1
  nodeMonitorPeriodSeconds: 1
  nodeMonitorGracePeriodSeconds: 8
  defaultNotReadyTolerationSeconds: 1
  defaultUnreachableTolerationSeconds: 1
"""
READER = """
import socket, time
server = socket.create_server(("", 80))
print("up", flush=True)
connection, _ = server.accept()
time.sleep(600)
"""
WRITER = """
import socket, time
connection = socket.create_connection(({!r}, 80))
connection.settimeout(1)
try:
    connection.sendall(bytes(100_000_000))
except TimeoutError:
    print("stuck", flush=True)
time.sleep(600)
"""
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: busybox, command: [sleep, "7777"]}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}
"""


@pytest.fixture(scope="module")
def cluster(launcher: Launcher) -> Iterator[EmbeddedCluster]:
    cluster = launcher.start("elastic", text=SPEC)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def kubectl(cluster: EmbeddedCluster) -> Kubectl:
    """Its pods are on the spot node; the scheduler would weigh any preference of theirs against spreading them."""
    kubectl = Kubectl(cluster)
    kubectl("cordon", "steady")
    kubectl("create", "-f", "-", stdin=WEB)
    kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE:g}s")
    kubectl("uncordon", "steady")
    return kubectl


def places(kubectl: Kubectl) -> list[str]:
    """Nodes of the pods of `web` that are Ready and not about to go."""
    return sorted(
        pod["spec"]["nodeName"]
        for pod in kubectl.get("pods", "-l", "app=web")
        if "deletionTimestamp" not in pod["metadata"]
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
    )


def ready(kubectl: Kubectl, node: str) -> str:
    conditions = kubectl.get("node", node)["status"]["conditions"]
    return str(next(each["status"] for each in conditions if each["type"] == "Ready"))


def pings(cluster: EmbeddedCluster, address: str) -> bool:
    code = "import socket, sys; socket.create_connection((sys.argv[1], 10250), 2)"
    try:
        run(cluster.enter(["python3", "-c", code, address]), seconds=PATIENCE)
    except CommandFailed:
        return False
    return True


def apply(kubectl: Kubectl, name: str, node: str, program: str) -> None:
    """A pod on a node; two of them ask for that node's port 8080."""
    ports = [{"containerPort": 80, "hostPort": 8080}] if name in ("writer", "heir") else []
    command = ["/usr/bin/python3", "-c", program]
    container = {"name": "main", "image": "python:3.12", "command": command, "ports": ports}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    kubectl.phase(name, "Running")


def test_the_times_of_the_control_plane_are_in_the_traits(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    times = cluster.traits.control_plane
    assert times is not None
    assert times.node_monitor_grace_period_seconds == 8
    lease = kubectl.get("lease", "steady", "-n", "kube-node-lease")
    assert lease["spec"]["leaseDurationSeconds"] == 2
    pod = kubectl.get("pods", "-l", "app=web")[0]
    assert {each["tolerationSeconds"] for each in pod["spec"]["tolerations"]} == {1}


def test_a_budget_holds_back_a_drain_and_a_looser_one_lets_it_go(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    assert set(places(kubectl)) == {"spot-1"}
    said: list[str] = []
    with pytest.raises(ClusterError) as caught:
        cluster.drain("spot-1", seconds=1, progress=said.append)
    pods = [f"default/{pod['metadata']['name']}" for pod in kubectl.get("pods", "-l", "app=web")]
    assert str(caught.value).startswith(
        "asked to drain the node 'spot-1' within 1 s, but a PodDisruptionBudget holds back the eviction of "
    )
    assert any(f"waiting for the budget that holds {pod}" in said for pod in pods)
    kubectl("patch", "pdb", "web", "-p", '{"spec": {"minAvailable": 0}}')
    cluster.drain("spot-1", seconds=60, progress=silent)
    kubectl.wait_for(lambda: places(kubectl), lambda now: now == ["steady", "steady"], "the pods to move")
    cluster.heal("spot-1")
    assert "unschedulable" not in kubectl.get("node", "spot-1")["spec"]


def test_a_node_joins_a_running_cluster(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    joining = spec.node("late", ["zone=b"], ["gpu=yes:NoSchedule"], "NVIDIA-L4:2", spot=True)
    found = backend.find("elastic", {"XDG_STATE_HOME": str(cluster.kubeconfig.parents[3])})
    assert isinstance(found, ElasticNodes)
    found.add_node(joining)
    node = kubectl.get("node", "late")
    assert ready(kubectl, "late") == "True"
    assert node["metadata"]["labels"]["zone"] == "b"
    assert {"key": "gpu", "value": "yes", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert [each.name for each in cluster.spec.nodes] == ["steady", "spot-1", "late"]
    with pytest.raises(SpecError) as caught:
        cluster.add_node(joining)
    assert str(caught.value) == "the cluster names two nodes 'late'; give each node a name of its own"


def test_a_lost_node_is_silent_at_once_and_its_pods_run_elsewhere_later(
    cluster: EmbeddedCluster, kubectl: Kubectl
) -> None:
    pin = {"spec": {"template": {"spec": {"nodeSelector": {"karpenter.sh/capacity-type": "spot"}}}}}
    kubectl("patch", "deployment", "web", "-p", json.dumps(pin))
    kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE:g}s")
    (runtime,) = [pid for pid in descendants(cluster.holder) if _is_runtime(pid, "spot-1")]
    everything = [(pid, start_time(pid)) for pid in descendants(runtime)]
    assert sum(b"7777" in command_of(pid) for pid, _ in everything) >= 2
    assert pings(cluster, "172.30.0.2")
    cluster.lose("spot-1")
    assert living(everything) == []
    assert not pings(cluster, "172.30.0.2")
    assert ready(kubectl, "spot-1") == "True"  # nobody has said anything
    kubectl.wait_for(lambda: ready(kubectl, "spot-1"), lambda now: now == "Unknown", "the loss to be noticed")
    kubectl("patch", "deployment", "web", "-p", json.dumps(pin).replace('"spot"', "null"))
    kubectl.wait_for(lambda: places(kubectl), lambda now: now == ["steady", "steady"], "the pods to run elsewhere")
    with pytest.raises(SpecError) as caught:
        cluster.lose("spot-1")
    assert str(caught.value) == "the node 'spot-1' is lost already; `gpulab node heal spot-1` brings it back"


def test_a_lost_node_comes_back_empty(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    left = cluster.kubeconfig.parent / "nodes" / "spot-1" / "kubelet" / "left"
    left.touch()
    cluster.heal("spot-1")
    assert ready(kubectl, "spot-1") == "True"
    assert not left.exists()
    assert pings(cluster, "172.30.0.2")
    node = kubectl.get("node", "spot-1")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"


def test_a_node_comes_back_with_all_its_addresses_though_a_connection_is_left(
    cluster: EmbeddedCluster, kubectl: Kubectl
) -> None:
    apply(kubectl, "reader", "steady", READER)
    kubectl.wait_for(lambda: kubectl("logs", "reader"), bool, "the reader to listen")
    apply(kubectl, "writer", "spot-1", WRITER.format(kubectl.get("pod", "reader")["status"]["podIP"]))
    kubectl.wait_for(lambda: kubectl("logs", "writer"), bool, "the writer to be stuck")
    address = kubectl.get("pod", "writer")["status"]["podIP"]
    cluster.lose("spot-1")
    kubectl("delete", "pod", "writer", "--grace-period=0", "--force")
    cluster.heal("spot-1")
    for name in ("heir", "other"):
        apply(kubectl, name, "spot-1", "import time; time.sleep(600)")
        kubectl.phase(name, "Running")
    assert address in [kubectl.get("pod", name)["status"]["podIP"] for name in ("heir", "other")]
    refused = [each["message"] for each in kubectl.get("events") if each["reason"] == "FailedCreatePodSandBox"]
    assert refused == []
    kubectl("delete", "pod", "reader", "heir", "other", "--grace-period=0", "--force")


def test_a_spot_notice_marks_the_node_and_then_it_is_lost(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    cluster.spot_notice("spot-1", 3)
    node = kubectl.get("node", "spot-1")
    marks = {taint["key"] for taint in spot.TAINTS}
    assert marks <= {taint["key"] for taint in node["spec"]["taints"]}
    assert node["spec"]["unschedulable"] is True
    conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    assert (conditions["VMEventScheduled"], conditions["PreemptionScheduled"]) == ("True", "True")
    events = kubectl.get("events", "--field-selector=involvedObject.name=spot-1,reason=SpotInterruption")
    assert len(events) == 1
    kubectl.wait_for(lambda: ready(kubectl, "spot-1"), lambda now: now == "Unknown", "the loss to be noticed")
    cluster.heal("spot-1")
    healed = kubectl.get("node", "spot-1")
    assert not marks & {taint["key"] for taint in healed["spec"].get("taints", [])}
    assert "unschedulable" not in healed["spec"]


def test_a_spot_notice_that_is_taken_back_loses_nothing(cluster: EmbeddedCluster, kubectl: Kubectl) -> None:
    cluster.spot_notice("late", 60)
    with pytest.raises(SpecError) as caught:
        cluster.spot_notice("late", 60)
    assert str(caught.value) == "the node 'late' has a spot notice already; `gpulab node heal late` takes it back"
    cluster.heal("late")
    assert ready(kubectl, "late") == "True"
    assert cluster.restarts() == ()


@pytest.mark.parametrize("command", ["lose", "heal"])
def test_an_unknown_node_is_answered_with_the_known_ones(cluster: EmbeddedCluster, command: str) -> None:
    with pytest.raises(SpecError) as caught:
        getattr(cluster, command)("none")
    assert str(caught.value) == "there is no node 'none'; the nodes are: steady, spot-1, late"


def test_draining_an_unknown_node_is_refused(cluster: EmbeddedCluster) -> None:
    with pytest.raises(SpecError) as caught:
        cluster.drain("none", seconds=5, progress=silent)
    assert str(caught.value) == (
        "asked to drain the node 'none', which is not there; `gpulab kubectl get nodes` lists them"
    )


def _is_runtime(pid: int, node: str) -> bool:
    words = command_of(pid)
    return b"clusters.embedded.node" in words and f"/nodes/{node}/".encode() in words
