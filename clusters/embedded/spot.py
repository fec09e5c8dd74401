"""What a cluster sees when a provider takes a spot node back: taints, a cordon, a condition and an event.

Place: fleet.py tells and takes back; the loss itself is its own. Limits: all providers' marks at once, so that whatever
a workload watches for is there; there is no metadata service that announces the interruption.

Sources: the taint of github.com/aws/aws-node-termination-handler (pkg/node, SpotInterruptionTaint), that of
github.com/kubernetes-sigs/karpenter (pkg/apis/v1, DisruptedTaintKey), the condition of AKS' node problem detector
(VMEventScheduled, PreemptScheduled).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from clusters.embedded.rest import MERGE, STRATEGIC, Api, Conflict

TAINTS = (
    {"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"},
    {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"},
)
CONDITION = "VMEventScheduled"
_TRIES = 5


def tell(api: Api, node: str, seconds: float, now: datetime) -> None:
    """Marks a node as one that will be lost `seconds` from `now`; raises ClusterError when the API server refuses."""
    lost = (now + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    message = f"Spot interruption notice: the node will be lost at {lost}"
    _change(api, node, unschedulable=True, taints=TAINTS)
    _condition(api, node, "True", "PreemptScheduled", message, now)
    api.send("POST", "/api/v1/namespaces/default/events", event(node, message, now))


def take_back(api: Api, node: str) -> None:
    """Removes the marks of `tell`, and a cordon of anybody's; raises ClusterError when the API server refuses."""
    _change(api, node, unschedulable=False, taints=())
    _condition(api, node, "False", "NoVMEventScheduled", "No interruption is announced", datetime.now(UTC))


def marked(spec: dict[str, Any], *, unschedulable: bool, taints: tuple[dict[str, str], ...]) -> dict[str, Any]:
    """The change to a Node's spec that leaves it with these of TAINTS, and with all others that it has.

    The controller adds the taint of a cordon by itself, and takes it away.
    """
    ours = {each["key"] for each in TAINTS}
    others = [each for each in spec.get("taints", []) if each["key"] not in ours]
    return {"unschedulable": unschedulable or None, "taints": [*others, *taints]}


def event(node: str, message: str, now: datetime) -> dict[str, Any]:
    """The event, named as the AWS handler names it."""
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"generateName": f"{node}.", "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": node, "uid": node, "apiVersion": "v1"},
        "reason": "SpotInterruption",
        "message": message,
        "type": "Warning",
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


def _condition(api: Api, node: str, status: str, reason: str, message: str, now: datetime) -> None:
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": CONDITION, "status": status, "reason": reason, "message": message}
    condition |= {"lastHeartbeatTime": time, "lastTransitionTime": time}
    api.send("PATCH", f"/api/v1/nodes/{node}/status", {"status": {"conditions": [condition]}}, STRATEGIC)
