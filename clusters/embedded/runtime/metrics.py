"""The series of the kubelet's /metrics/cadvisor, under cAdvisor's names and labels.

Place: `stats.py` fills them in for each pod. Limits: the CRI carries whole numbers only, so seconds are whole ones.

Names and meanings: docs/storage/prometheus.md of github.com/google/cadvisor; labels: containerPrometheusLabelsFunc in
the kubelet's server. A pod's own series have an empty `container`, as there.
"""

import msgspec

from clusters.embedded.protos import Message
from clusters.embedded.runtime.usage import Traffic, Usage

COMMON = ("container", "id", "image", "name", "namespace", "pod")
_SECOND = 1_000_000_000


class Metric(msgspec.Struct, frozen=True):
    """A metric: `counts` when it is a counter, else it is a gauge; `extra` is a label beside COMMON."""

    name: str
    help: str
    counts: bool = False
    extra: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels."""
        return (*COMMON, self.extra) if self.extra else COMMON


class Place(msgspec.Struct, frozen=True):
    """Whose a series is: a pod's (by the CRI's PodSandboxMetadata) or one of its containers'."""

    pod: Message
    id: str
    container: str = ""
    image: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The values of COMMON."""
        path = f"/pod{self.pod.uid}" + (f"/{self.id}" if self.container else "")
        return (self.container, path, self.image, self.id, self.pod.namespace, self.pod.name)


class Row(msgspec.Struct, frozen=True):
    """A value of a metric."""

    metric: Metric
    labels: tuple[str, ...]
    value: int


CPU = Metric("container_cpu_usage_seconds_total", "Processor time used, in whole seconds", True, "cpu")
PERIODS = Metric("container_cpu_cfs_periods_total", "Enforcement periods of the quota", True)
THROTTLED = Metric("container_cpu_cfs_throttled_periods_total", "Periods in which it was throttled", True)
THROTTLED_TIME = Metric("container_cpu_cfs_throttled_seconds_total", "Whole seconds throttled", True)
MEMORY = Metric("container_memory_usage_bytes", "Memory used, with what could be dropped")
WORKING_SET = Metric("container_memory_working_set_bytes", "Memory used, without what could be dropped")
RSS = Metric("container_memory_rss", "Anonymous memory in bytes")
FAULTS = Metric("container_memory_failures_total", "Page faults", True, "failure_type")
PROCESSES = Metric("container_processes", "Processes")
STARTED = Metric("container_start_time_seconds", "When it was started, in seconds since 1970")
WRITTEN = Metric("container_fs_usage_bytes", "Bytes written outside of volumes")
SPEC_MEMORY = Metric("container_spec_memory_limit_bytes", "The limit of memory; 0 is none")
SPEC_SHARES = Metric("container_spec_cpu_shares", "Shares of the processors")
SPEC_PERIOD = Metric("container_spec_cpu_period", "Period of the quota in microseconds")
SPEC_QUOTA = Metric("container_spec_cpu_quota", "Quota of processor time in microseconds for each period")
NETWORK = {
    f"{direction}_{what}": Metric(
        f"container_network_{word}_{what if what != 'dropped' else 'packets_dropped'}_total",
        f"{what.capitalize()} {word}d" if what in {"bytes", "packets"} else f"Packets {what}, {word}",
        True,
        "interface",
    )
    for direction, word in (("rx", "receive"), ("tx", "transmit"))
    for what in ("bytes", "packets", "errors", "dropped")
}
ALL = (
    *(CPU, PERIODS, THROTTLED, THROTTLED_TIME, MEMORY, WORKING_SET, RSS, FAULTS, PROCESSES, STARTED, WRITTEN),
    *(SPEC_MEMORY, SPEC_SHARES, SPEC_PERIOD, SPEC_QUOTA, *NETWORK.values()),
)


def of_processes(place: Place, used: Usage) -> list[Row]:
    """What the processes of a pod or of a container have used."""
    rows = [Row(CPU, (*place.labels, "total"), used.cpu_ns // _SECOND)]
    if used.throttled:
        pairs = zip((PERIODS, THROTTLED, THROTTLED_TIME), used.throttled, strict=True)
        rows += [Row(each, place.labels, n // (_SECOND if each is THROTTLED_TIME else 1)) for each, n in pairs]
    for metric, value in ((MEMORY, used.usage), (WORKING_SET, used.working_set), (RSS, used.rss)):
        rows.append(Row(metric, place.labels, value))
    faults = (("pgfault", used.page_faults), ("pgmajfault", used.major_page_faults))
    rows += [Row(FAULTS, (*place.labels, kind), count) for kind, count in faults]
    return [*rows, Row(PROCESSES, place.labels, used.processes)]


def of_limits(place: Place, resources: Message) -> list[Row]:
    """The limits of a container, by the CRI's LinuxContainerResources."""
    rows = [
        Row(SPEC_MEMORY, place.labels, max(0, resources.memory_limit_in_bytes)),
        Row(SPEC_SHARES, place.labels, resources.cpu_shares),
        Row(SPEC_PERIOD, place.labels, resources.cpu_period),
    ]
    return rows + ([Row(SPEC_QUOTA, place.labels, resources.cpu_quota)] if resources.cpu_quota > 0 else [])


def of_container(place: Place, started: int, written: int) -> list[Row]:
    """When a container was started, in seconds since 1970, and the bytes that it wrote into its root."""
    return [Row(STARTED, place.labels, started), Row(WRITTEN, place.labels, written)]


def of_network(place: Place, seen: Traffic) -> list[Row]:
    """What went over a pod's interface."""
    return [Row(metric, (*place.labels, "eth0"), getattr(seen, field)) for field, metric in NETWORK.items()]
