"""StatefulSets, DaemonSets, roll-outs, disruption budgets, autoscaling."""

import json

import pytest
from kubernetes.client.exceptions import ApiException

from clusters.wait import until
from tests.contract.subject import (
    PYTHON,
    Object,
    Space,
    is_ready,
    pod,
    service,
    template,
    unique,
    workload,
)
from tests.patience import PATIENCE

SLEEP = "sleep 600"
# About an eighth of a processor: well over what it asks for, and the machine is left to the other tests.
BUSY = """
import time
while True:
    end = time.process_time() + 0.0125
    while time.process_time() < end: pass
    time.sleep(0.0875)
"""


@pytest.fixture(scope="module", autouse=True)
def busy(space: Space) -> None:
    """A Deployment that is scaled by its use of processors; begun first, for statistics take their time."""
    main = {"image": PYTHON, "command": ["python3", "-c", BUSY], "resources": {"requests": {"cpu": "50m"}}}
    target = {"type": "Utilization", "averageUtilization": 50}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
        "maxReplicas": 2,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    space.create(
        workload("Deployment", "busy", template("true", container=main)),
        {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "busy"}, "spec": spec},
    )


def test_a_stateful_set_makes_its_pods_in_order_and_removes_them_in_reverse(space: Space) -> None:
    space.create(
        service("ordered", clusterIP="None"),
        workload("StatefulSet", "ordered", template(SLEEP), replicas=3, serviceName="ordered"),
    )
    space.until("StatefulSet", "ordered", lambda found: found["status"].get("readyReplicas") == 3)
    pods = [space.get("Pod", f"ordered-{number}") for number in range(3)]
    begun = [each["metadata"]["creationTimestamp"] for each in pods]
    assert begun == sorted(begun)
    ready = [condition(each, "Ready")["lastTransitionTime"] for each in pods]
    assert all(before <= after for before, after in zip(ready, begun[1:], strict=False))
    assert [each["metadata"]["labels"]["apps.kubernetes.io/pod-index"] for each in pods] == ["0", "1", "2"]
    space.patch("StatefulSet", "ordered", {"spec": {"replicas": 1}})
    space.gone("Pod", "ordered-1")
    assert space.exists("Pod", "ordered-0")
    assert not space.exists("Pod", "ordered-2")


def test_a_pod_of_a_stateful_set_comes_back_under_its_name(space: Space) -> None:
    space.create(workload("StatefulSet", "stable", template(SLEEP), serviceName="stable"))
    space.until("StatefulSet", "stable", lambda found: found["status"].get("readyReplicas") == 1)
    first = space.get("Pod", "stable-0")
    space.delete("Pod", "stable-0")
    again = until(
        lambda: space.find("Pod", label_selector="app=stable"),
        lambda found: any(is_ready(each) and each["metadata"]["uid"] != first["metadata"]["uid"] for each in found),
        what="another stable-0",
        seconds=PATIENCE,
    )
    assert [each["metadata"]["name"] for each in again] == ["stable-0"]


def test_a_daemon_set_has_a_pod_on_every_node_that_it_tolerates(space: Space) -> None:
    nodes = {each["metadata"]["name"] for each in space.find("Node")}
    everywhere = template(SLEEP, tolerations=[{"operator": "Exists"}])
    space.create(workload("DaemonSet", "everywhere", everywhere))
    found = space.until(
        "DaemonSet", "everywhere", lambda found: found["status"].get("numberReady", 0) == len(nodes), "a pod per node"
    )
    assert found["status"]["desiredNumberScheduled"] == len(nodes)
    pods = space.find("Pod", label_selector="app=everywhere")
    assert {each["spec"]["nodeName"] for each in pods} == nodes


def test_a_roll_out_can_be_undone(space: Space) -> None:
    def version(text: str) -> Object:
        return template(SLEEP, container={"env": [{"name": "VERSION", "value": text}]})

    space.create(workload("Deployment", "undone", version("1")))
    space.kubectl("rollout", "status", "deployment/undone", f"--timeout={PATIENCE:g}s")
    space.patch("Deployment", "undone", {"spec": {"template": {"spec": version("2")}}})
    space.kubectl("rollout", "status", "deployment/undone", f"--timeout={PATIENCE:g}s")
    assert space.kubectl("rollout", "history", "deployment/undone").count("<none>") == 2
    space.kubectl("rollout", "undo", "deployment/undone")
    found = space.get("Deployment", "undone")
    assert found["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == "1"
    space.delete("Deployment", "undone", propagationPolicy="Background")


def test_a_roll_out_that_cannot_go_on_says_so_and_keeps_the_old_pods(space: Space) -> None:
    broken = template(SLEEP, container={"readinessProbe": {"exec": {"command": ["false"]}}})
    stuck = workload("Deployment", "stuck", template(SLEEP), progressDeadlineSeconds=2)
    space.create(stuck)
    space.until("Deployment", "stuck", lambda found: found["status"].get("readyReplicas") == 1)
    space.patch("Deployment", "stuck", {"spec": {"template": {"spec": broken}}})
    found = space.until("Deployment", "stuck", lambda found: condition(found, "Progressing")["status"] == "False")
    assert condition(found, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert found["status"]["availableReplicas"] == 1
    space.delete("Deployment", "stuck", propagationPolicy="Background")


def test_a_disruption_budget_refuses_an_eviction_until_it_can_be_spared(space: Space) -> None:
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "spared"}}}
    space.create(
        {"kind": "PodDisruptionBudget", "metadata": {"name": "spared"}, "spec": budget},
        workload("Deployment", "spared", template(SLEEP)),
    )
    space.until("PodDisruptionBudget", "spared", lambda found: found["status"].get("currentHealthy") == 1)
    (only,) = [each["metadata"]["name"] for each in space.find("Pod", label_selector="app=spared")]
    with pytest.raises(ApiException) as caught:
        evict(space, only)
    assert caught.value.status == 429
    assert (
        "Cannot evict pod as it would violate the pod's disruption budget." in json.loads(caught.value.body)["message"]
    )
    space.patch("Deployment", "spared", {"spec": {"replicas": 2}})
    space.until("PodDisruptionBudget", "spared", lambda found: found["status"].get("disruptionsAllowed") == 1)
    evict(space, only)
    space.gone("Pod", only)


def evict(space: Space, name: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": space.name}}
    space.resource("Pod").subresources["eviction"].create(name=name, namespace=space.name, body=body)


def condition(found: Object, kind: str) -> Object:
    return next((each for each in found.get("status", {}).get("conditions") or () if each["type"] == kind), {})


def test_a_node_is_cordoned_and_drained(space: Space) -> None:
    node = space.find("Node")[-1]["metadata"]["name"]
    key = unique("drained")
    here: Object = {"nodeSelector": {"kubernetes.io/hostname": node}, "tolerations": [{"operator": "Exists"}]}
    space.create(pod("stays-behind", SLEEP, labels={"drain": key}, **here))
    space.phase("stays-behind", "Running")
    try:
        space.kubectl("cordon", node)
        space.create(pod("late", SLEEP, nodeSelector=here["nodeSelector"]))
        space.until("Pod", "late", lambda found: condition(found, "PodScheduled").get("reason") == "Unschedulable")
        space.kubectl(
            "drain", node, "--ignore-daemonsets", "--force", f"--pod-selector=drain={key}", f"--timeout={PATIENCE:g}s"
        )
        assert not space.exists("Pod", "stays-behind")
        assert space.get("Node", node)["spec"]["unschedulable"] is True
    finally:
        space.kubectl("uncordon", node)


@pytest.mark.trait("statistics of pods")
def test_top_shows_what_nodes_and_pods_use(space: Space) -> None:
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{space.name}/pods?labelSelector=app%3Dbusy"

    def measured() -> list[Object]:
        try:
            return list(space.subject.dynamic.request("get", path).to_dict()["items"])
        except ApiException as error:
            if error.status in (404, 503):  # not served yet: it is made after the cluster's start
                return []
            raise

    until(measured, bool, what="the busy pod's use", seconds=PATIENCE)
    (line, *_) = space.kubectl("top", "pod", "--no-headers", "--selector=app=busy").splitlines()
    assert int(line.split()[1].removesuffix("m")) > 25
    assert len(space.kubectl("top", "node", "--no-headers").splitlines()) == len(space.find("Node"))


@pytest.mark.trait("statistics of pods")
def test_an_autoscaler_adds_pods_when_processors_are_busy(space: Space) -> None:
    found = space.until("HorizontalPodAutoscaler", "busy", lambda found: found["status"].get("desiredReplicas") == 2)
    assert found["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"] > 50
    space.until("Deployment", "busy", lambda found: found["status"].get("replicas") == 2)
