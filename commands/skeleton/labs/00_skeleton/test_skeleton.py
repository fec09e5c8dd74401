"""The checks of 00_skeleton: values within the budget, and as many servers as are wanted.

Place: `gpulab grade 00_skeleton`, `pytest labs/00_skeleton`; skeleton_lab judges what is measured here. Limits:
it counts servers once, and asks no more.
"""

import kubernetes
import pytest

from clusters.api import Charts, Progress
from graders.allowance import quantity, strangers
from graders.check import Check
from graders.errors import SubmissionError
from graders.pods import Pods, Release
from graders.submission import Submission
from skeleton_lab.facts import Budget, Ready

CHART = "skeleton-chart"
PORT = 8000
FREE = (("replicaCount",), ("readiness",))
"""What a submission may set."""


@pytest.mark.usefixtures("cluster")  # thresholds are those of its level
def test_resources_within_budget(check: Check, submission: Submission) -> None:
    """Anyone can be there with more servers: it has to do with what is given."""
    values = submission.values()
    replicas = quantity(values.get("replicaCount", 1), "replicaCount")
    check.measure(lambda _: Budget(replicas=replicas, foreign=tuple(strangers(values, FREE, {}))))


def test_replicas_are_ready(
    check: Check, charts: Charts, kube: kubernetes.client.ApiClient, submission: Submission, progress: Progress
) -> None:
    """A server that is alone is away while a new one starts."""
    pods = Pods(kubernetes.client.CoreV1Api(kube))
    check.measure(lambda _: ready(check, charts, pods, submission, progress))


def ready(check: Check, charts: Charts, pods: Pods, submission: Submission, progress: Progress) -> Ready:
    """Installs the chart, waits until it serves, and counts."""
    seconds = check.threshold("ready_seconds")
    release = Release("submission", charts.namespace, PORT, "/", SubmissionError)
    progress("start: installing the chart")
    charts.install(release.name, CHART, submission.values())
    try:
        pods.wait_until_serving([release], seconds=seconds, progress=lambda text: progress(f"start: {text}"))
    except SubmissionError as error:
        return Ready(servers=0, seconds=seconds, problem=str(error), kind=pods.trouble(release))
    return Ready(servers=len(pods.replicas(release)), seconds=seconds)
