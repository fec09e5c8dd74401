"""What every cluster backend offers, and the errors it may raise: the one seam of this package.

Place: `conftest.py` and `commands` start or find a cluster through a backend and hand its kubeconfig to ordinary
clients; nothing here wraps the Kubernetes API. Limits: one kubeconfig per cluster, its current context is the cluster.

The error tree:

    ClusterError
    ├── SpecError          cluster.yaml or a flag is wrong: the author's or the learner's mistake
    ├── MachineError       this machine lacks something (a program, a permission, disk space)
    ├── StartError         a component did not come up
    └── ClusterLost        the cluster ended while it was in use
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123; what Kubernetes takes for the name of a node, and we for the name of a cluster."""

Progress = Callable[[str], None]
"""Told one line, without a full stop, each time what is being waited for changes."""


def within(progress: Progress, phase: str, detail: str = "") -> Progress:
    """Progress that names the phase first."""
    return lambda text: progress(f"{phase}: {detail}{text}")


class ClusterError(Exception):
    """A cluster could not do what was asked; the message says what was asked, found and what to do next."""


class SpecError(ClusterError):
    """The cluster's description or a flag is wrong."""


class MachineError(ClusterError):
    """This machine lacks something that the backend needs."""


class StartError(ClusterError):
    """A component of the cluster did not come up."""


class ClusterLost(ClusterError):
    """The cluster ended while somebody used it."""


class Taint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node taint, as in the Kubernetes API."""

    key: str
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    value: str = ""


class Mig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How each GPU of a node is partitioned: `count` partitions of one `profile`, as in 1g.10gb."""

    profile: str
    count: int


class Gpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The GPUs of a node.

    Attributes:
        model: as GPU feature discovery names the product; what simulated devices are.
        count: of GPUs.
        mig: their partitions, which are then what pods ask for.
        replicas: how many pods may share each GPU (time-slicing).
        rename_by_default: shared GPUs are asked for as nvidia.com/gpu.shared.
        source: "any" takes real GPUs where the machine has enough of them, and simulates them elsewhere.
    """

    model: str
    count: int
    mig: Mig | None = None
    replicas: int = 1
    rename_by_default: bool = False
    source: Literal["any", "simulated", "real"] = "any"


class NodeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One node of a cluster."""

    name: str
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    gpus: Gpus | None = None
    capacity_type: Literal["on-demand", "spot"] = "on-demand"


class ControlPlane(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How fast a cluster notices that a node is lost, and moves its pods; the defaults are Kubernetes' own.

    Attributes:
        node_lease_duration_seconds: the kubelet's nodeLeaseDurationSeconds; it renews each quarter of it.
        node_status_update_seconds: the kubelet's nodeStatusUpdateFrequency.
        node_monitor_period_seconds: kube-controller-manager's --node-monitor-period.
        node_monitor_grace_period_seconds: its --node-monitor-grace-period, after which a silent node is not ready.
        default_not_ready_toleration_seconds: kube-apiserver's flag of that name: how long pods stay on such a node.
        default_unreachable_toleration_seconds: the same for a node that is not heard of.
    """

    node_lease_duration_seconds: int = 40
    node_status_update_seconds: int = 10
    node_monitor_period_seconds: int = 5
    node_monitor_grace_period_seconds: int = 50
    default_not_ready_toleration_seconds: int = 300
    default_unreachable_toleration_seconds: int = 300


class ClusterSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A lab's cluster.yaml.

    Attributes:
        nodes: its nodes.
        host_paths: the host folders that pods may mount.
        limits: what limits containers; "any" takes cgroups where they can be had, and watches processes elsewhere.
        control_plane: how fast it notices that a node is lost.
    """

    nodes: tuple[NodeSpec, ...]
    host_paths: tuple[str, ...] = ()
    limits: Literal["any", "cgroup-v1", "cgroup-v2", "watch"] = "any"
    control_plane: ControlPlane = ControlPlane()


class Traits(msgspec.Struct, frozen=True):
    """What is true of a cluster and cannot be seen through its API; it is copied into every verdict.

    `gpus`: where the figures of GPU devices come from. `users`: "mapped" when one mapped id stands in for the user that
    a container asks for. `level`: L1 embedded, L2 containers, L3 real GPUs. `control_plane`: None when not known.
    """

    backend: str
    level: Literal["L1", "L2", "L3"]
    gpus: Literal["none", "simulated", "real"]
    users: Literal["real", "mapped"]
    not_enforced: tuple[str, ...]
    control_plane: ControlPlane | None = None


class Charts(Protocol):
    """Helm, bound to one cluster and to one namespace of it: what a lab installs with."""

    @property
    def namespace(self) -> str:
        """The run's own namespace."""

    def install(self, release: str, chart: str, values: Mapping[str, object]) -> None:
        """Installs or upgrades `release` from the chart of that name in charts/; raises ClusterError."""


@runtime_checkable
class SimulatedGpus(Protocol):
    """What a cluster whose GPUs are simulated offers besides `Cluster`: they fail and heal when told to."""

    def fail_gpu(self, node: str, index: int, xid: int) -> None:
        """Lets a GPU of a node, counted from 0, have an Xid error; raises SpecError when there is no such GPU."""

    def heal_gpu(self, node: str, index: int) -> None:
        """Makes it whole again, as a reset would; raises SpecError as `fail_gpu` does."""

    def heat_gpus(self, node: str, celsius: float) -> None:
        """Gives the GPUs of a node air of that temperature; raises SpecError when that cannot be."""


@runtime_checkable
class ElasticNodes(Protocol):
    """What a cluster offers besides `Cluster` whose nodes come and go when told to; all return when it is so."""

    def add_node(self, node: NodeSpec) -> None:
        """Lets a new node join, which is Ready then; raises SpecError when it cannot be."""

    def drain(self, node: str, *, seconds: float, progress: Progress) -> None:
        """Cordons a node and evicts its pods, as budgets allow; raises ClusterError when it is not done in time."""

    def lose(self, node: str) -> None:
        """Kills all that runs on a node at once, without a word, as a machine that lost its power."""

    def spot_notice(self, node: str, seconds: float) -> None:
        """Marks a node as providers do, and returns; it is lost after so many seconds, also when the caller is gone."""

    def heal(self, node: str) -> None:
        """Brings a lost node back as a new machine of its name; takes cordon and spot notice from any."""


class Cluster(Protocol):
    """A running cluster."""

    @property
    def name(self) -> str:
        """Name among the clusters of this user."""

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of its administrator; never the user's default one."""

    @property
    def programs(self) -> Path:
        """Folder that holds the `kubectl` and `helm` that match it."""

    @property
    def traits(self) -> Traits:
        """What is true of it beyond its API."""

    @property
    def shared(self) -> bool:
        """Whether it outlives the process that started it, so that others may use it."""

    @property
    def roots(self) -> tuple[int, ...]:
        """Processes of this machine from which all that it runs descends; empty where that cannot be said."""

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` inside the cluster's network, where pod and Service addresses answer."""

    def check(self) -> None:
        """Returns while the cluster lives; raises ClusterLost with the reason once it does not."""

    def stop(self) -> None:
        """Ends it and everything in it, for certain; a cluster that is gone already is no error."""
