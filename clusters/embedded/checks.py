"""Whether an embedded cluster can be as it is described.

Place: backend.py checks before a start; fleet.py when a node is to join. Limits: what needs a look at the machine
(programs, namespaces) is doctor.py's.
"""

from clusters.api import DNS_LABEL, ClusterSpec, ControlPlane, SpecError
from clusters.embedded import network
from clusters.embedded.gpu import devices, nvml


def check(spec: ClusterSpec, port: int = 0) -> None:
    """Raises SpecError when no embedded cluster can be as described, with its API server on that port of the host."""
    if not 0 <= port <= 65535:
        raise SpecError(f"asked for port {port} for the API server; a port is a number from 0 to 65535")
    check_nodes(spec)
    check_times(spec.control_plane)


def check_nodes(spec: ClusterSpec) -> None:
    """Raises SpecError when its nodes cannot be."""
    if not 1 <= len(spec.nodes) <= network.MOST_NODES:
        raise SpecError(f"asked for {len(spec.nodes)} nodes; an embedded cluster has 1 to {network.MOST_NODES}")
    seen = [node.name for node in spec.nodes]
    if twice := sorted({name for name in seen if seen.count(name) > 1}):
        raise SpecError(f"the cluster names two nodes {twice[0]!r}; give each node a name of its own")
    for node in spec.nodes:
        if not DNS_LABEL.fullmatch(node.name):
            raise SpecError(f"a node is named {node.name!r}; use small letters, digits and dashes, 63 at most")
    devices.assign(spec.nodes, nvml.find())


def check_times(times: ControlPlane) -> None:
    """Raises SpecError when nodes that live would be taken for lost, or a time is none."""
    named = {"nodeLeaseDurationSeconds": times.node_lease_duration_seconds}
    named["nodeStatusUpdateSeconds"] = times.node_status_update_seconds
    named["nodeMonitorPeriodSeconds"] = times.node_monitor_period_seconds
    named["nodeMonitorGracePeriodSeconds"] = times.node_monitor_grace_period_seconds
    for name, value in named.items():
        if value < 1:
            raise SpecError(f"controlPlane has {name} {value}; it is a whole number of seconds, 1 at least")
    tolerations = {"defaultNotReadyTolerationSeconds": times.default_not_ready_toleration_seconds}
    tolerations["defaultUnreachableTolerationSeconds"] = times.default_unreachable_toleration_seconds
    for name, value in tolerations.items():
        if value < 0:
            raise SpecError(f"controlPlane has {name} {value}; it is a whole number of seconds, 0 at least")
    # A kubelet renews its lease each quarter of its duration (kubelet.go, nodeLeaseRenewIntervalFraction).
    heartbeat = min(times.node_lease_duration_seconds / 4, times.node_status_update_seconds)
    if times.node_monitor_grace_period_seconds < 2 * heartbeat:
        raise SpecError(
            f"controlPlane has nodeMonitorGracePeriodSeconds {times.node_monitor_grace_period_seconds}, but a node "
            f"gives a sign of life each {heartbeat:g} s only, and would be taken for lost; give it at least "
            f"{2 * heartbeat:g} s, or a shorter nodeLeaseDurationSeconds"
        )
