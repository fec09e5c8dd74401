"""`gpulab grade --keep`: what stays on the cluster, how it is told, and that it is in nobody's way."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clusters import backends
from graders.rubric import Left, read_verdict
from tests.conftest import silent
from tests.grading import ROOT, Project
from tests.patience import PATIENCE


class Stopping:
    """Stands in for a cluster: it notes that it was ended."""

    stopped = False

    def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize(
    ("name", "env", "said"),
    [
        ("default", {}, "gpulab down"),
        ("default", {"GPULAB_CLUSTER": ""}, "gpulab down"),
        ("default", {"GPULAB_CLUSTER": "course"}, "GPULAB_CLUSTER=default gpulab down"),
        ("course", {"GPULAB_CLUSTER": "course"}, "GPULAB_CLUSTER=course gpulab down"),
        ("course", {}, "GPULAB_CLUSTER=course gpulab down"),
    ],
)
def test_a_command_is_typed_so_that_it_reaches_its_cluster(name: str, env: Mapping[str, str], said: str) -> None:
    assert backends.typed("down", name, env) == said


@pytest.fixture
def use(pytestconfig: pytest.Config) -> Any:
    """The root conftest's use of a cluster that was to be kept."""
    wiring: Any = pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    return wiring.ClusterUse("embedded", "course", [], silent, keep=True)


@pytest.mark.parametrize("ours", [True, False])
def test_a_cluster_stays_that_something_was_left_on(use: Any, *, ours: bool) -> None:
    use.cluster, use.ours = (cluster := Stopping()), ours
    kubectl = "GPULAB_CLUSTER=course gpulab kubectl"
    remove = "GPULAB_CLUSTER=course gpulab down" if ours else f"{kubectl} delete namespace lab-x2k4p"
    assert use.leave("lab-x2k4p") == Left("lab-x2k4p", f"{kubectl} --namespace lab-x2k4p", remove)
    use.end()
    assert not cluster.stopped


@pytest.mark.parametrize("ours", [True, False])
def test_a_cluster_ends_with_its_session_where_nothing_was_left(use: Any, *, ours: bool) -> None:
    use.cluster, use.ours = (cluster := Stopping()), ours
    use.end()
    assert cluster.stopped == ours


@pytest.mark.cluster
def test_what_was_graded_is_looked_at_and_then_removed(place: Path) -> None:
    project = Project(place)

    def gpulab(*words: str) -> int | None:
        return project.start(*words).wait(PATIENCE)

    assert gpulab("new-lab", "50_web_server") == 0
    assert gpulab("grade", "50_web_server", "--keep") == 1, project.log
    left = last_left(project)
    assert left.remove == "gpulab down"
    told = re.findall(r"^  gpulab (kubectl .*)$", project.log, re.MULTILINE)
    assert [command.split(" ", 3)[3] for command in told] == ["get pods -o wide", "events --types=Warning"]
    for command in told:
        assert gpulab(*shlex.split(command)) == 0, project.log
    assert gpulab(*shlex.split(told[0])) == 0
    assert "submission-" in project.log

    assert gpulab("grade", "50_web_server") == 3
    assert (
        f"the namespace {left.namespace} of a grading with --keep is on this cluster, and its pods would take GPUs and "
        "processors from this one; when you have looked at it, remove it: gpulab kubectl delete namespace "
        f"{left.namespace}"
    ) in " ".join(project.log.split())
    assert gpulab("kubectl", "delete", "namespace", left.namespace) == 0

    assert gpulab("grade", "50_web_server", "--keep") == 1, project.log
    left = last_left(project)
    assert left.remove == f"gpulab kubectl delete namespace {left.namespace}"
    assert gpulab("down") == 0
    project.assert_nothing_left()


def last_left(project: Project) -> Left:
    """What the last run left."""
    verdict = read_verdict(sorted((project.folder / "results/50_web_server").glob("*/verdict.json"))[-1])
    assert verdict.left
    assert verdict.left.remove in project.log
    return verdict.left
