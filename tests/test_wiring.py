"""The root conftest: which clusters it takes, and whose fault it is when the cluster's API server fails."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes
import pytest
import urllib3.exceptions
from kubernetes.client import ApiException

from clusters import backends
from clusters.api import ClusterError, SpecError
from graders.errors import InfrastructureError
from graders.lab import Lab
from graders.rubric import fault_of
from tests.conftest import silent
from tests.grading import ROOT

GONE = ApiException(status=404, reason="Not Found")
BROKEN = ApiException(status=500, reason="Internal Server Error")
SILENT = urllib3.exceptions.ReadTimeoutError(None, "/api", "read timed out")  # type: ignore[arg-type]  # no pool


class Core:
    """Stands in for the API server: it removes a namespace, and then tells of it, or fails as it is told to."""

    def __init__(self, delete: Exception | None, read: Exception) -> None:
        self._delete, self._read = delete, read

    def delete_namespace(self, name: str) -> None:
        if self._delete:
            raise self._delete

    def read_namespace(self, name: str) -> None:
        raise self._read


@pytest.fixture
def wiring(pytestconfig: pytest.Config) -> Any:
    return pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))


@pytest.mark.parametrize("error", [BROKEN, SILENT])
def test_an_api_server_that_fails_is_the_infrastructure(wiring: Any, error: Exception) -> None:
    assert fault_of(error, wiring.ERRORS) == "infrastructure"


@pytest.mark.parametrize(
    ("delete", "read", "more"),
    [
        (None, GONE, []),
        (GONE, GONE, ["the namespace run-1 was not seen to go: the API server answers 404 Not Found"]),
        (None, BROKEN, ["the namespace run-1 was not seen to go: the API server answers 500 Internal Server Error"]),
        (
            SILENT,
            GONE,
            ["the namespace run-1 was not seen to go: the API server does not answer (None: read timed out)"],
        ),
    ],
)
def test_a_namespace_that_cannot_be_removed_is_named_and_ends_no_check(
    wiring: Any, delete: Exception | None, read: Exception, more: list[str]
) -> None:
    said: list[str] = []
    wiring._remove(Core(delete, read), "run-1", said.append)
    assert said == ["removing the namespace run-1", *more]


@dataclass
class Running:
    """Stands in for a cluster that was found."""

    shared: bool = True
    level: str = "L1"

    @property
    def traits(self) -> Any:
        return SimpleNamespace(level=self.level)


@pytest.fixture
def lab() -> Lab:
    return Lab.find(ROOT / "labs", "03_vllm")


@pytest.mark.parametrize(
    ("found", "images", "kind", "said"),
    [
        (
            Running(shared=False),
            [],
            InfrastructureError,
            "another grading of yours runs on its own cluster just now, and the two would disturb each other's "
            "figures; wait until it has ended",
        ),
        (
            Running(),
            [Path("mine.toml")],
            SpecError,
            "asked to grade with images of your own (--images), but a cluster runs already, and takes them when it "
            "starts only; end it with `gpulab down`, or start it with them: gpulab up --images FILE",
        ),
    ],
)
def test_a_cluster_that_runs_is_not_taken_for_this(
    wiring: Any,
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    found: Running,
    images: list[Path],
    kind: type[ClusterError],
    said: str,
) -> None:
    monkeypatch.setattr(backends, "find", lambda *_: found)
    with pytest.raises(kind) as caught:
        wiring.ClusterUse("embedded", "course", images, silent).get(lab)
    assert str(caught.value) == said


def test_a_cluster_that_is_not_what_a_lab_needs_is_told_with_both(
    wiring: Any, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InfrastructureError) as caught:
        wiring._check_needs(Running(level="L9"), lab)
    assert str(caught.value) == "03_vllm is graded at L1, and this cluster is L9"

    node = SimpleNamespace(status=SimpleNamespace(allocatable={"nvidia.com/gpu": "1"}))
    core = SimpleNamespace(list_node=lambda: SimpleNamespace(items=[node, node]))
    monkeypatch.setattr(wiring, "_client", lambda _: nullcontext())
    monkeypatch.setattr(kubernetes.client, "CoreV1Api", lambda _: core)
    with pytest.raises(InfrastructureError) as caught:
        wiring._check_needs(Running(), lab)
    assert str(caught.value) == (
        "03_vllm needs 3 nodes and 4 GPUs, and the running cluster has 2 and 2; `gpulab down`, then `gpulab up --lab "
        "03_vllm` starts one that fits"
    )
