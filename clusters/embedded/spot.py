"""What a cluster sees when a provider takes a spot node back: taints, a cordon, conditions and an event.

Place: fleet.py tells and takes back; the loss itself is its own. Limits: all providers' marks at once, so that whatever
a workload watches for is there; there is no metadata service that announces the interruption. Left out, as no text was
found that says all of it: the value of AWS' taint (an id of the interruption), and the taint
remediator.kubernetes.azure.com/unschedulable that AKS "may" add ("Node auto-drain"; its effect is not told).

Sources, looked up in November 2026, are next to each mark.
"""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from clusters.embedded.rest import MERGE, STRATEGIC, Api, Conflict

TAINTS = (
    # aws/aws-node-termination-handler, pkg/node/node.go, SpotInterruptionTaint; only where `taintNode` is set
    {"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"},
    # kubernetes-sigs/karpenter, pkg/apis/v1/taints.go, DisruptedNoScheduleTaint
    {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"},
    # GKE's maintenance handler on GPU nodes, by an argument that users report, and kubernetes-mixin's alert
    # KubeNodeUnreachable. No page of Google's was found that says when GKE sets it.
    {"key": "cloud.google.com/impending-node-termination", "effect": "NoSchedule"},
)
CONDITIONS = {
    # Microsoft's "Node Problem Detector (NPD) in AKS nodes"; PreemptScheduled is the reason of an event there
    "VMEventScheduled": ("VMEventScheduled", "NoVMEventScheduled"),
    # Azure/karpenter-provider-azure, pull request 1829. No source was found for the reason when it is False.
    "PreemptionScheduled": ("SpotEvictionIncoming", "NoPreemptionScheduled"),
}
"""Conditions of AKS' node problem detector: the reasons when True and when False."""

_TRIES = 5


def tell(api: Api, node: str, seconds: float, now: datetime) -> None:
    """Marks a node as one that will be lost `seconds` from `now`; raises ClusterError when the API server refuses."""
    lost = now + timedelta(seconds=seconds)
    message = f"Spot interruption notice: the node will be lost at {lost:%Y-%m-%dT%H:%M:%SZ}"
    _change(api, node, unschedulable=True, taints=TAINTS)
    _status(api, node, conditions(lost, now))
    api.send("POST", "/api/v1/namespaces/default/events", event(node, message, now))


def take_back(api: Api, node: str) -> None:
    """Removes the marks of `tell`, and a cordon of anybody's; raises ClusterError when the API server refuses."""
    _change(api, node, unschedulable=False, taints=())
    _status(api, node, conditions(None, datetime.now(UTC)))


def marked(spec: dict[str, Any], *, unschedulable: bool, taints: tuple[dict[str, str], ...]) -> dict[str, Any]:
    """The change to a Node's spec that leaves it with these of TAINTS, and with all others that it has.

    The controller adds the taint of a cordon by itself, and takes it away.
    """
    ours = {each["key"] for each in TAINTS}
    others = [each for each in spec.get("taints", []) if each["key"] not in ours]
    return {"unschedulable": unschedulable or None, "taints": [*others, *taints]}


def conditions(lost: datetime | None, now: datetime) -> list[dict[str, str]]:
    """The conditions of a node that will be `lost` then, in AKS' words, which handlers parse; None takes them back."""
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    message = "VM has no scheduled event"
    if lost:
        message = f"Preempt Scheduled: {format_datetime(lost.astimezone(UTC), usegmt=True)}."
    return [
        {
            "type": kind,
            "status": "True" if lost else "False",
            "reason": announced if lost else quiet,
            "message": message,
            "lastHeartbeatTime": time,
            "lastTransitionTime": time,
        }
        for kind, (announced, quiet) in CONDITIONS.items()
    ]


def event(node: str, message: str, now: datetime) -> dict[str, Any]:
    """The event, with the AWS handler's reason and type.

    aws/aws-node-termination-handler: pkg/observability/k8s-events.go, cmd/node-termination-handler.go.
    """
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"generateName": f"{node}.", "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": node, "uid": node, "apiVersion": "v1"},
        "reason": "SpotInterruption",
        "message": message,
        "type": "Normal",
        "source": {"component": "gpulab", "host": node},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }


def _change(api: Api, node: str, *, unschedulable: bool, taints: tuple[dict[str, str], ...]) -> None:
    """Changes a node's spec, again when somebody else did so at the same time."""
    path = f"/api/v1/nodes/{node}"
    for tries_left in reversed(range(_TRIES)):
        found = api.send("GET", path, None)
        change = marked(found["spec"], unschedulable=unschedulable, taints=taints)
        version = {"resourceVersion": found["metadata"]["resourceVersion"]}
        try:
            api.send("PATCH", path, {"metadata": version, "spec": change}, MERGE)
        except Conflict:
            if not tries_left:
                raise
        else:
            return


def _status(api: Api, node: str, told: list[dict[str, str]]) -> None:
    api.send("PATCH", f"/api/v1/nodes/{node}/status", {"status": {"conditions": told}}, STRATEGIC)
