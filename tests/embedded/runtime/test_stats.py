"""Statistics: rates, sums, and the series of /metrics/cadvisor."""

from types import SimpleNamespace
from typing import Any

from clusters.embedded.runtime import metrics
from clusters.embedded.runtime.stats import Rate, total
from clusters.embedded.runtime.usage import Traffic, Usage

SECOND = 1_000_000_000


def test_the_use_of_processors_is_that_since_the_look_before() -> None:
    rate = Rate()
    assert rate.nano_cores("a", 5 * SECOND, 0) == 0
    assert rate.nano_cores("a", 6 * SECOND, 2 * SECOND) == SECOND // 2
    assert rate.nano_cores("a", 9 * SECOND, 2 * SECOND + 5) == SECOND // 2  # too soon for a new one
    assert rate.nano_cores("a", 8 * SECOND, 4 * SECOND) == SECOND
    rate.forget(["b"])
    assert rate.nano_cores("a", 9 * SECOND, 9 * SECOND) == 0


def test_containers_are_added_up() -> None:
    assert total([Usage(1, 2, 3, 4, 5, 6, 7, (1, 1, 1)), Usage(10, 20, 30, 40, 50, 60, 70)]) == Usage(
        11, 22, 33, 44, 55, 66, 77
    )
    assert total([]) == Usage()


def place(container: str = "") -> metrics.Place:
    pod: Any = SimpleNamespace(uid="u", namespace="n", name="p")
    return metrics.Place(pod, "id", container, "busybox" if container else "")


def test_series_have_the_names_and_labels_of_cadvisor() -> None:
    rows = metrics.of_processes(place("main"), Usage(2_900_000_000, 10, 9, 8, 7, 6, 5, (4, 3, 2 * SECOND)))
    common = ("main", "/podu/id", "busybox", "id", "n", "p")
    assert [(row.metric.name, row.labels[6:], row.value) for row in rows] == [
        ("container_cpu_usage_seconds_total", ("total",), 2),
        ("container_cpu_cfs_periods_total", (), 4),
        ("container_cpu_cfs_throttled_periods_total", (), 3),
        ("container_cpu_cfs_throttled_seconds_total", (), 2),
        ("container_memory_usage_bytes", (), 10),
        ("container_memory_working_set_bytes", (), 9),
        ("container_memory_rss", (), 8),
        ("container_memory_failures_total", ("pgfault",), 7),
        ("container_memory_failures_total", ("pgmajfault",), 6),
        ("container_processes", (), 5),
    ]
    assert {row.labels[:6] for row in rows} == {common}
    assert place().labels == ("", "/podu", "", "id", "n", "p")


def test_what_is_not_known_of_throttling_and_quota_is_not_served() -> None:
    names = [row.metric.name for row in metrics.of_processes(place(), Usage())]
    assert not [name for name in names if "cfs" in name]
    none: Any = SimpleNamespace(memory_limit_in_bytes=0, cpu_shares=2, cpu_period=100_000, cpu_quota=0)
    assert metrics.SPEC_QUOTA not in [row.metric for row in metrics.of_limits(place(), none)]


def test_network_counters() -> None:
    rows = metrics.of_network(place(), Traffic(1, 2, 3, 4, 5, 6, 7, 8))
    assert {row.metric.name.removeprefix("container_network_"): row.value for row in rows} == {
        "receive_bytes_total": 1,
        "receive_packets_total": 2,
        "receive_errors_total": 3,
        "receive_packets_dropped_total": 4,
        "transmit_bytes_total": 5,
        "transmit_packets_total": 6,
        "transmit_errors_total": 7,
        "transmit_packets_dropped_total": 8,
    }
    assert all(row.labels[6:] == ("eth0",) for row in rows)


def test_every_row_has_a_described_metric_with_as_many_labels() -> None:
    limits: Any = SimpleNamespace(memory_limit_in_bytes=1, cpu_shares=2, cpu_period=3, cpu_quota=4)
    rows = metrics.of_processes(place(), Usage(throttled=(0, 0, 0))) + metrics.of_limits(place(), limits)
    rows += metrics.of_container(place(), 1, 2) + metrics.of_network(place(), Traffic())
    assert {row.metric for row in rows} == set(metrics.ALL)
    assert all(len(row.labels) == len(row.metric.labels) for row in rows)
