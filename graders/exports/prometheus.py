"""A verdict as metrics in Prometheus' text format, for node_exporter's textfile collector.

Place: `formats` lists it. Limits: gauges of the last run of each lab; a check without a measured number has no value.
"""

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from graders.rubric import Verdict


def prometheus(verdict: Verdict) -> str:
    """The file's text."""
    registry = CollectorRegistry()

    def gauge(name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"gpulab_{name}", words, labels, registry=registry)

    gauge("points", "Points of the run.", "lab").labels(verdict.lab).set(verdict.points)
    gauge("max_points", "Points that the lab gives.", "lab").labels(verdict.lab).set(verdict.max_points)
    gauge("status", "1 for the status of the run.", "lab", "status").labels(verdict.lab, verdict.status).set(1)
    ended = gauge("ended_timestamp_seconds", "When the run ended.", "lab")
    if verdict.ended:
        ended.labels(verdict.lab).set(verdict.ended.timestamp())
    points = gauge("check_points", "Points of a check.", "lab", "check")
    status = gauge("check_status", "1 for the status of a check.", "lab", "check", "status")
    value = gauge("check_value", "What a check measured, in its own unit.", "lab", "check", "unit")
    seconds = gauge("check_duration_seconds", "How long a check took.", "lab", "check")
    for check in verdict.checks:
        points.labels(verdict.lab, check.id).set(check.points)
        status.labels(verdict.lab, check.id, check.status).set(1)
        if check.value is not None:
            value.labels(verdict.lab, check.id, check.unit or "").set(check.value)
        if check.seconds is not None:
            seconds.labels(verdict.lab, check.id).set(check.seconds)
    return generate_latest(registry).decode()
