# ruff: noqa: D102, N802 - the methods have the names of the API, and are described there
"""Statistics of containers and pods for the kubelet: its summary, its metrics endpoints, and so `kubectl top`.

Place: `services.py` inherits `Statistics`. What was used is measured by `usage.py`; the series of `/metrics/cadvisor`
are in `metrics.py`. Limits: a pod is the sum of its running containers; no pressure (PSI) and no swap.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from clusters.embedded import protos
from clusters.embedded.protos import Message
from clusters.embedded.runtime import metrics, network
from clusters.embedded.runtime.container import Container, State
from clusters.embedded.runtime.sandbox import Sandbox, Sandboxes
from clusters.embedded.runtime.usage import Traffic, Usage, traffic

_SHORTEST = 1_000_000_000  # ns between the two looks from which the use of processors is computed


class Rate:
    """How many processors containers use at the moment, from the times that they have used."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int, int]] = {}

    def nano_cores(self, id_: str, cpu_ns: int, now: int) -> int:
        """Billionths of a processor since the look before, or since the one before it when that is just past."""
        at, used, rate = self._last.get(id_, (now, cpu_ns, 0))
        if now - at >= _SHORTEST:
            rate = max(0, cpu_ns - used) * 1_000_000_000 // (now - at)
            at, used = now, cpu_ns
        self._last[id_] = (at, used, rate)
        return rate

    def forget(self, known: Iterable[str]) -> None:
        """Keeps those only."""
        self._last = {id_: self._last[id_] for id_ in known if id_ in self._last}


class Statistics:
    """The statistics of the CRI's RuntimeService, and its metrics."""

    _api: protos.Api
    _pods: Sandboxes
    _rate: Rate
    _now: Callable[[], int]

    async def ContainerStats(self, request: Message, _context: object) -> Message:
        container = self._pods.container(request.container_id)
        return self._api.ContainerStatsResponse(stats=self._container_stats(container, container.usage() or Usage()))

    async def ListContainerStats(self, request: Message, _context: object) -> Message:
        wanted = request.filter
        found = [
            self._container_stats(container, used)
            for pod in self._pods.all()
            if wanted.pod_sandbox_id in {"", pod.id}
            for container, used in _running(pod)
            if container.id.startswith(wanted.id) and _has(container.config.labels, wanted.label_selector)
        ]
        return self._api.ListContainerStatsResponse(stats=found)

    async def PodSandboxStats(self, request: Message, _context: object) -> Message:
        pod = self._pods.find(request.pod_sandbox_id)
        return self._api.PodSandboxStatsResponse(stats=self._pod_stats(pod, _counters()))

    async def ListPodSandboxStats(self, request: Message, _context: object) -> Message:
        wanted, counters = request.filter, _counters()
        pods = self._pods.all()
        self._rate.forget([id_ for pod in pods for id_ in (pod.id, *pod.containers)])
        found = []
        for pod in pods:
            if pod.ready and pod.id.startswith(wanted.id) and _has(pod.config.labels, wanted.label_selector):
                found.append(self._pod_stats(pod, counters))
                await asyncio.sleep(0)  # with many pods this takes a while, in which others are served
        return self._api.ListPodSandboxStatsResponse(stats=found)

    async def ListMetricDescriptors(self, _request: Message, _context: object) -> Message:
        described = [{"name": each.name, "help": each.help, "label_keys": each.labels} for each in metrics.ALL]
        return self._api.ListMetricDescriptorsResponse(descriptors=described)

    async def ListPodSandboxMetrics(self, _request: Message, _context: object) -> Message:
        counters, found = _counters(), []
        for pod in self._pods.all():
            if pod.ready:
                found.append(self._pod_metrics(pod, counters))
                await asyncio.sleep(0)
        return self._api.ListPodSandboxMetricsResponse(pod_metrics=found)

    def _pod_stats(self, pod: Sandbox, counters: dict[str, Traffic]) -> Message:
        running, now = _running(pod), self._now()
        used = total(usage for _, usage in running)
        linux = self._measured(pod.id, used, now) | {
            "process": {"timestamp": now, "process_count": {"value": used.processes}},
            "containers": [self._container_stats(container, usage) for container, usage in running],
        }
        if pod.address:
            seen = _seen_by(pod, counters)
            interface = {
                "name": "eth0",
                "rx_bytes": {"value": seen.rx_bytes},
                "rx_errors": {"value": seen.rx_errors},
                "tx_bytes": {"value": seen.tx_bytes},
                "tx_errors": {"value": seen.tx_errors},
            }
            linux["network"] = {"timestamp": now, "default_interface": interface}
        return self._api.PodSandboxStats(attributes=_attributes(pod), linux=linux)

    def _container_stats(self, container: Container, used: Usage) -> Message:
        now = self._now()
        measured = self._measured(container.id, used, now)
        limit = container.config.linux.resources.memory_limit_in_bytes
        if limit > 0:
            measured["memory"]["available_bytes"] = {"value": max(0, limit - used.working_set)}
        layer = {"timestamp": now, "used_bytes": {"value": container.written}}
        return self._api.ContainerStats(attributes=_attributes(container), **measured, writable_layer=layer)

    def _measured(self, id_: str, used: Usage, now: int) -> dict[str, Any]:
        cpu = {
            "usage_core_nano_seconds": {"value": used.cpu_ns},
            "usage_nano_cores": {"value": self._rate.nano_cores(id_, used.cpu_ns, now)},
        }
        memory = {
            "working_set_bytes": {"value": used.working_set},
            "usage_bytes": {"value": used.usage},
            "rss_bytes": {"value": used.rss},
            "page_faults": {"value": used.page_faults},
            "major_page_faults": {"value": used.major_page_faults},
        }
        return {"cpu": {"timestamp": now, **cpu}, "memory": {"timestamp": now, **memory}}

    def _pod_metrics(self, pod: Sandbox, counters: dict[str, Traffic]) -> Message:
        running = _running(pod)
        place = metrics.Place(pod.config.metadata, pod.id)
        rows = metrics.of_processes(place, total(usage for _, usage in running))
        if pod.address:
            rows += metrics.of_network(place, _seen_by(pod, counters))
        each = [
            {"container_id": container.id, "metrics": [self._metric(row) for row in _rows(pod, container, used)]}
            for container, used in running
        ]
        return self._api.PodSandboxMetrics(
            pod_sandbox_id=pod.id, metrics=[self._metric(row) for row in rows], container_metrics=each
        )

    def _metric(self, row: metrics.Row) -> dict[str, Any]:
        return {
            "name": row.metric.name,
            "metric_type": self._api.COUNTER if row.metric.counts else self._api.GAUGE,
            "label_values": row.labels,
            "value": {"value": row.value},
        }


def total(usages: Iterable[Usage]) -> Usage:
    """What several containers have used together."""
    listed = list(usages)
    names = ("cpu_ns", "usage", "working_set", "rss", "page_faults", "major_page_faults", "processes")
    return Usage(**{name: sum(getattr(each, name) for each in listed) for name in names})


def _running(pod: Sandbox) -> list[tuple[Container, Usage]]:
    found = [(each, each.usage()) for each in pod.containers.values() if each.state is State.RUNNING]
    return [(container, used) for container, used in found if used is not None]


def _rows(pod: Sandbox, container: Container, used: Usage) -> list[metrics.Row]:
    name, image = container.config.metadata.name, container.image.reference
    place = metrics.Place(pod.config.metadata, container.id, name, image)
    started = (container.started or container.created) // 1_000_000_000
    rows = metrics.of_processes(place, used) + metrics.of_limits(place, container.config.linux.resources)
    return rows + metrics.of_container(place, started, container.written)


def _attributes(of: Sandbox | Container) -> dict[str, Any]:
    config = of.config
    return {"id": of.id, "metadata": config.metadata, "labels": config.labels, "annotations": config.annotations}


def _counters() -> dict[str, Traffic]:
    """Of all devices in the node's network; one look for all pods."""
    return traffic(Path("/proc/self/net/dev").read_text())


def _seen_by(pod: Sandbox, counters: dict[str, Traffic]) -> Traffic:
    return counters.get(network.device(pod.id), Traffic()).other_side()


def _has(labels: Message, selector: Message) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())
