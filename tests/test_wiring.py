"""The root conftest: whose fault it is when the cluster's API server fails, and what the end of a run does then."""

from typing import Any

import pytest
import urllib3.exceptions
from kubernetes.client import ApiException

from graders.rubric import fault_of
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
