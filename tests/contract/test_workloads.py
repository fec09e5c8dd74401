"""StatefulSets, DaemonSets, roll-outs, disruption budgets, autoscaling."""

import json

import pytest
from kubernetes.client.exceptions import ApiException

from clusters.wait import WaitTimeout, until
from tests.contract.subject import (
    PYTHON,
    SECONDS,
    Object,
    Space,
    is_ready,
    pod,
    python,
    service,
    template,
    unique,
    workload,
)

SLEEP = "sleep 600"


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
        seconds=SECONDS,
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
    space.kubectl("rollout", "status", "deployment/undone", "--timeout=60s")
    space.patch("Deployment", "undone", {"spec": {"template": {"spec": version("2")}}})
    space.kubectl("rollout", "status", "deployment/undone", "--timeout=60s")
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


def test_an_autoscaler_adds_pods_when_processors_are_busy(space: Space) -> None:
    require_metrics(space)
    busy = {
        "image": PYTHON,
        "command": ["python3", "-c", "while True: pass"],
        "resources": {"requests": {"cpu": "50m"}},
    }
    space.create(workload("Deployment", "busy", template("true", container=busy)))
    target = {"type": "Utilization", "averageUtilization": 50}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
        "maxReplicas": 2,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    space.create({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "busy"}, "spec": spec})
    found = space.until("HorizontalPodAutoscaler", "busy", lambda found: found["status"].get("desiredReplicas") == 2)
    assert found["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"] > 50
    space.until("Deployment", "busy", lambda found: found["status"].get("replicas") == 2)
    space.delete("Deployment", "busy", propagationPolicy="Background")


def test_top_shows_what_nodes_and_pods_use(space: Space) -> None:
    require_metrics(space)
    space.create(python("spends", "while True: pass"))
    space.phase("spends", "Running")
    nodes = space.kubectl("top", "node", "--no-headers")
    assert len(nodes.splitlines()) == len(space.find("Node"))
    shown = until(lambda: top(space), lambda text: "spends" in text, what="the pod's use", seconds=SECONDS)
    assert shown.split()[1].endswith("m")
    space.delete("Pod", "spends")


def top(space: Space) -> str:
    return space.kubectl("top", "pod", "--no-headers", "--selector=app=spends") if metrics(space) else ""


def metrics(space: Space) -> list[Object]:
    answer = space.subject.dynamic.request("get", f"/apis/metrics.k8s.io/v1beta1/namespaces/{space.name}/pods")
    return [each for each in answer.to_dict()["items"] if each["metadata"]["name"] == "spends"]


def require_metrics(space: Space) -> None:
    name = "v1beta1.metrics.k8s.io"
    try:  # a cluster that has just begun may offer it a moment later
        until(lambda: space.exists("APIService", name), bool, what=name, seconds=20)
    except WaitTimeout:
        pytest.skip(f"this cluster has no APIService {name}: nothing serves statistics of pods")
    space.until("APIService", name, lambda found: condition(found, "Available").get("status") == "True")


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
        space.kubectl("drain", node, "--ignore-daemonsets", "--force", f"--pod-selector=drain={key}", "--timeout=60s")
        assert not space.exists("Pod", "stays-behind")
        assert space.get("Node", node)["spec"]["unschedulable"] is True
    finally:
        space.kubectl("uncordon", node)
