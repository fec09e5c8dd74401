"""The checks of 00_skeleton: values within the budget, and as many servers as are wanted.

Place: `gpulab grade 00_skeleton`, `pytest labs/00_skeleton`. Limits: it counts servers once, and asks no more.
"""

from typing import Any

import kubernetes
import pytest

from clusters.api import Charts, Progress
from graders.allowance import quantity, strangers
from graders.check import Check
from graders.errors import SubmissionError
from graders.pods import Pods, Release
from graders.rubric import Finding
from graders.submission import Submission

CHART = "skeleton-chart"
PORT = 8000
FREE = (("replicaCount",), ("readiness",))
"""What a submission may set."""


@pytest.mark.usefixtures("cluster")  # thresholds are those of its level
def test_resources_within_budget(check: Check, submission: Submission) -> None:
    """Anyone can be there with more servers: it has to do with what is given."""
    check.measure(lambda _: budget(check, submission.values()))


def test_replicas_are_ready(
    check: Check, charts: Charts, kube: kubernetes.client.ApiClient, submission: Submission, progress: Progress
) -> None:
    """A server that is alone is away while a new one starts."""
    pods = Pods(kubernetes.client.CoreV1Api(kube))
    check.measure(lambda _: ready(check, charts, pods, submission.values(), progress))


def budget(check: Check, values: dict[str, Any]) -> Finding:
    """Judges a submission's own values."""
    given, used = check.threshold("budget_replicas"), quantity(values.get("replicaCount", 1), "replicaCount")
    told = [f"{name} is not yours to set" for name in strangers(values, FREE, {})]
    foreign = bool(told)
    told += [f"{used:g} replicas, where {given:g} are given"] if used > given else []
    return Finding(
        expected=f"values of the learner's only, and at most {given:g} replicas",
        observed="; ".join(told) or f"{used:g} replicas",
        verdict="failed" if told else "passed",
        unit="replicas",
        value=used,
        n=1,
        hint="not_yours" if foreign else "too_much" if told else None,
    )


def ready(check: Check, charts: Charts, pods: Pods, values: dict[str, Any], progress: Progress) -> Finding:
    """Installs the chart, waits until it serves, and counts."""
    wanted, seconds = int(check.threshold("ready_replicas")), check.threshold("ready_seconds")
    expected = f"at least {wanted} servers are ready within {seconds:g} s"
    release = Release("submission", charts.namespace, PORT, "/", SubmissionError)
    progress("start: installing the chart")
    charts.install(release.name, CHART, values)
    try:
        pods.wait_until_serving([release], seconds=seconds, progress=lambda text: progress(f"start: {text}"))
    except SubmissionError as error:
        return Finding(expected=expected, observed=str(error), verdict="failed", hint=pods.trouble(release))
    count = len(pods.replicas(release))
    enough = count >= wanted
    return Finding(
        expected=expected,
        observed=f"{count} of them are ready",
        verdict="passed" if enough else "failed",
        unit="servers",
        value=count,
        n=count,
        hint=None if enough else "few",
    )
