"""Scheduling: selectors, taints, affinity, spread, quota, LimitRange, priority and pre-emption."""

import json
from collections import Counter

import pytest
from kubernetes.client.exceptions import ApiException

from clusters.wait import until
from tests.contract.subject import Object, Space, pod, template, unique, workload
from tests.patience import PATIENCE

HOST = "kubernetes.io/hostname"
ANY = [{"operator": "Exists"}]
SLEEP = "sleep 600"


@pytest.fixture(scope="module")
def nodes(space: Space) -> list[str]:
    """Names of the nodes that may take a pod that tolerates every taint."""
    found = [each for each in space.find("Node") if not each["spec"].get("unschedulable")]
    if len(found) < 2:
        pytest.skip("this cluster has one node; spreading and affinity need two")
    return [each["metadata"]["name"] for each in found]


def bound(space: Space, name: str) -> str:
    found = space.until("Pod", name, lambda found: found["spec"].get("nodeName"), f"{name} to be given a node")
    return str(found["spec"]["nodeName"])


def refusal(space: Space, name: str) -> str:
    """Why the scheduler has no node for a pod."""

    def scheduled(found: Object) -> Object:
        conditions = found["status"].get("conditions") or [{}]
        return next((each for each in conditions if each.get("type") == "PodScheduled"), {})

    found = space.until("Pod", name, lambda found: scheduled(found).get("reason") == "Unschedulable")
    return str(scheduled(found)["message"])


def term(app: str) -> Object:
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": HOST}


def test_a_node_selector_chooses_the_node(space: Space, nodes: list[str]) -> None:
    space.create(pod("selected", SLEEP, nodeSelector={HOST: nodes[-1]}, tolerations=ANY))
    space.create(pod("nowhere", SLEEP, nodeSelector={HOST: "no-such-node"}, tolerations=ANY))
    assert bound(space, "selected") == nodes[-1]
    assert "didn't match Pod's node affinity/selector" in refusal(space, "nowhere")


def test_a_taint_keeps_pods_away_and_a_toleration_lets_them_in(space: Space, nodes: list[str]) -> None:
    node, key = nodes[-1], unique("contract.test/taint")
    here = {"nodeSelector": {HOST: node}}
    others = [
        {"key": each["key"], "operator": "Exists"} for each in space.get("Node", node)["spec"].get("taints") or []
    ]
    own = {"key": key, "operator": "Equal", "value": "yes", "effect": "NoSchedule"}
    space.kubectl("taint", "node", node, f"{key}=yes:NoSchedule")
    try:
        space.create(pod("kept-away", SLEEP, tolerations=others, **here))
        space.create(pod("let-in", SLEEP, tolerations=[*others, own], **here))
        assert bound(space, "let-in") == node
        assert "untolerated taint" in refusal(space, "kept-away")
    finally:
        space.kubectl("taint", "node", node, f"{key}-")
    assert bound(space, "kept-away") == node


def test_a_noexecute_taint_ends_pods_that_do_not_tolerate_it(space: Space, nodes: list[str]) -> None:
    node, key = nodes[-1], unique("contract.test/evict")
    others = [
        {"key": each["key"], "operator": "Exists"} for each in space.get("Node", node)["spec"].get("taints") or []
    ]
    here = {"nodeSelector": {HOST: node}}
    space.create(pod("leaves", SLEEP, tolerations=others, **here))
    space.create(pod("stays", SLEEP, tolerations=[*others, {"key": key, "operator": "Exists"}], **here))
    space.phase("leaves", "Running")
    space.phase("stays", "Running")
    # Only this pod is to leave: the taint is for a moment, and other pods of this node tolerate what they can.
    space.kubectl("taint", "node", node, f"{key}=now:NoExecute")
    try:
        space.gone("Pod", "leaves")
    finally:
        space.kubectl("taint", "node", node, f"{key}-")
    assert space.get("Pod", "stays")["status"]["phase"] == "Running"


def test_affinity_brings_together_and_anti_affinity_keeps_apart(space: Space, nodes: list[str]) -> None:
    anchor = pod("anchor", SLEEP, nodeSelector={HOST: nodes[-1]}, tolerations=ANY)
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    near = pod("near", SLEEP, affinity={"podAffinity": {required: [term("anchor")]}}, tolerations=ANY)
    far = pod("far", SLEEP, affinity={"podAntiAffinity": {required: [term("anchor")]}}, tolerations=ANY)
    space.create(anchor, near, far)
    assert bound(space, "near") == bound(space, "anchor") != bound(space, "far")


def test_a_spread_constraint_counts_pods_per_node(space: Space, nodes: list[str]) -> None:
    constraint = {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "topologyKey": HOST}
    spread = [constraint | {"labelSelector": {"matchLabels": {"app": "spread"}}}]
    replicas = 2 * len(nodes)
    space.create(
        workload(
            "ReplicaSet",
            "spread",
            template(SLEEP, topologySpreadConstraints=spread, tolerations=ANY),
            replicas=replicas,
        )
    )

    def places() -> Counter[str]:
        found = space.find("Pod", label_selector="app=spread")
        return Counter(each["spec"]["nodeName"] for each in found if each["spec"].get("nodeName"))

    counted = until(places, lambda found: found.total() == replicas, what="all pods on nodes", seconds=PATIENCE)
    assert set(counted.values()) == {2}
    space.delete("ReplicaSet", "spread", propagationPolicy="Background")


def test_requests_are_held_against_what_a_node_has(space: Space) -> None:
    space.create(pod("huge", SLEEP, container={"resources": {"requests": {"memory": "900Ti"}}}, tolerations=ANY))
    assert "Insufficient memory" in refusal(space, "huge")


def test_a_scheduling_gate_holds_a_pod_back(space: Space) -> None:
    space.create(pod("gated", "true", schedulingGates=[{"name": "contract.test/wait"}], tolerations=ANY))
    found = space.until("Pod", "gated", lambda found: found["status"].get("conditions"))
    assert found["status"]["conditions"][0]["reason"] == "SchedulingGated"
    space.patch("Pod", "gated", {"spec": {"schedulingGates": None}})
    space.phase("gated", "Succeeded")


def gpu_refused(space: Space) -> bool:
    """Whether a pod that asks for a GPU would be refused."""
    wanted = pod("no-gpu", "true", container={"resources": {"limits": {"nvidia.com/gpu": "1"}}})
    try:
        space.create(wanted, query_params=[("dryRun", "All")])
    except ApiException as error:
        return bool(error.status == 403)
    return False


def test_a_quota_refuses_what_goes_over_it(space: Space) -> None:
    hard = {"count/configmaps": "1", "requests.nvidia.com/gpu": "0"}
    used = len(space.find("ConfigMap"))
    hard["count/configmaps"] = str(used + 1)
    space.create({"kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": {"hard": hard}})
    try:
        space.until("ResourceQuota", "quota", lambda found: found["status"].get("used"))
        until(lambda: gpu_refused(space), bool, what="the API server to know the quota", seconds=PATIENCE)
        space.create({"kind": "ConfigMap", "metadata": {"name": "allowed"}})
        with pytest.raises(ApiException) as caught:
            space.create({"kind": "ConfigMap", "metadata": {"name": "over"}})
        assert f"exceeded quota: quota, requested: count/configmaps=1, used: count/configmaps={used + 1}" in str(
            json.loads(caught.value.body)["message"]
        )
    finally:
        space.delete("ResourceQuota", "quota")
        space.gone("ResourceQuota", "quota")


def test_a_limit_range_fills_in_and_refuses(space: Space) -> None:
    limit = {"type": "Container", "defaultRequest": {"cpu": "10m"}, "default": {"cpu": "20m"}, "max": {"cpu": "100m"}}
    space.create({"kind": "LimitRange", "metadata": {"name": "limits"}, "spec": {"limits": [limit]}})
    try:
        made = until(
            lambda: space.create(pod("limited", "true"), query_params=[("dryRun", "All")]),
            lambda found: found["spec"]["containers"][0].get("resources"),
            what="the API server to know the LimitRange",
            seconds=PATIENCE,
        )
        assert made["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "10m"}, "limits": {"cpu": "20m"}}
        with pytest.raises(ApiException) as caught:
            space.create(pod("unlimited", "true", container={"resources": {"limits": {"cpu": "1"}}}))
        assert "maximum cpu usage per Container is 100m, but limit is 1" in json.loads(caught.value.body)["message"]
    finally:
        space.delete("LimitRange", "limits")
        space.gone("LimitRange", "limits")


def test_an_important_pod_drives_out_a_lesser_one(space: Space, nodes: list[str]) -> None:
    low, high = unique("low"), unique("high")
    extended, node = unique("contract.test/seat"), nodes[-1]
    for name, value in ((low, -10), (high, 10)):
        space.create({"kind": "PriorityClass", "metadata": {"name": name}, "value": value})
    paths = [f"/status/{part}/{extended.replace('/', '~1')}" for part in ("capacity", "allocatable")]
    seat = [{"op": "add", "path": path, "value": "1"} for path in paths]
    status = space.resource("Node").subresources["status"]
    status.patch(name=node, body=seat, content_type="application/json-patch+json")
    wants = {"resources": {"limits": {extended: "1"}}}
    try:
        space.create(pod("lesser", SLEEP, container=wants, priorityClassName=low, tolerations=ANY))
        space.phase("lesser", "Running")
        space.create(pod("important", SLEEP, container=wants, priorityClassName=high, tolerations=ANY))
        assert bound(space, "important") == node
        space.gone("Pod", "lesser")
        assert "Preempted by pod" in space.events("lesser")
    finally:
        status.patch(name=node, body=[{"op": "remove", "path": paths[0]}], content_type="application/json-patch+json")
        for name in (low, high):
            space.delete("PriorityClass", name)
