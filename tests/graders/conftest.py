"""An API server that says what a test has it say, and the official client for it."""

from collections.abc import Iterator
from typing import Any

import kubernetes
import pytest

from tests.graders.api_server import Api, serving


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as found:
        yield found


@pytest.fixture
def core(api: Api) -> Iterator[Any]:
    with api.client() as client:
        yield kubernetes.client.CoreV1Api(client)
